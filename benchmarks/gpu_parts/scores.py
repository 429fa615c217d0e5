"""Afterwards, on a CPU: scores of the branches, filtered fidelity among them, by the package's own commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from gdmunet import evaluate
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.training.patches.fold import FoldData
from gpu_parts.stores import fold_of, prepared_case

SHOWN = ("mae", "psnr", "ms_ssim", "detail", "fsc_quarter", "fsc_half", "nps")
JUDGES = ("tiny",)


def score_branches(out: Path, stores: Path) -> None:
    """Write predictions, targets and masks as volumes, score each branch, and print a table."""
    fold, work = fold_of(stores, "2d"), out / "scores"
    files = sorted(out.glob("branch_*.safetensors"))
    if not files:
        raise SystemExit(f"{out} holds no branch")
    print("| branch | " + " | ".join(SHOWN) + " | Frechet (random) |")
    print("|" + " --- |" * (len(SHOWN) + 2))
    for file in files:
        arm = file.stem.removeprefix("branch_")
        content = load_file(file)
        names = [key.removeprefix("prediction.") for key in content if key.startswith("prediction.")]
        for name in names:
            _write_reference(fold, work, name)
            _write(fold, work / arm / f"{name}.nii.gz", name, content[f"prediction.{name}"].astype(np.float32))
        summary = evaluate(
            reference=work / "targets", prediction=work / arm, mask=work / "masks", range="2025", judge=JUDGES,
            allow_missing=True, processes=1, show_progress=False,
        )  # fmt: skip
        rows = [scores for scores in summary.cases.values() if "mae" in scores]
        means = [np.mean([row[name] for row in rows if row[name] is not None]) for name in SHOWN]
        distance = [f"{judgement.frechet:.4g}" for judgement in (summary.judgements or {}).values()]
        print(f"| {arm} | " + " | ".join(f"{value:.4g}" for value in means) + f" | {', '.join(distance)} |")
    print(f"\nFiltered rows, price ratio and classifier: gdm_compare over {work}, whose folders are named by branch")


def _write_reference(fold: FoldData, work: Path, name: str) -> None:
    prepared = prepared_case(fold, name)
    assert prepared.target is not None
    target = prepared.properties.target_map.invert(prepared.target[0])
    _write(fold, work / "targets" / f"{name}.nii.gz", name, np.round(target))
    _write(fold, work / "masks" / f"{name}.nii.gz", name, prepared.mask)


def _write(fold: FoldData, file: Path, name: str, array: np.ndarray) -> None:
    """A volume on the prepared grid, once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        spacing = fold.store.open(name).properties.prepared_spacing
        write_volume(file, array, Geometry(array.shape, spacing))
