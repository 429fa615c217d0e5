"""Afterwards, on a CPU: scores of the branches and of each behind the best unsharp mask, by the package's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from gdmunet import evaluate
from gdmunet.evaluation.comparison.price import price_of_distance
from gdmunet.evaluation.comparison.unsharp import tuned_filters, write_filtered
from gdmunet.evaluation.distributions.judge import JudgedFiles, JudgeOptions
from gdmunet.evaluation.scores.summary import Summary
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.metrics import PRICE
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gpu_parts.stores import centre_of, fold_of, prepared_case

SHOWN = ("mae", "psnr", "ms_ssim", "detail", "fsc_quarter", "fsc_half", "nps", "c2st")
# No branch trains with one of them (their encoder is mini-random); name others that are at hand here.
JUDGES = ("mini", "tiny")


def score_branches(out: Path, stores: Path) -> None:
    """Write predictions, targets and masks as volumes, and print a table of the branches and their filtered twins."""
    fold, work = fold_of(stores, "2d"), out / "scores"
    files = sorted(out.glob("branch_*.safetensors"))
    if not files:
        raise SystemExit(f"{out} holds no branch")
    heads = [*SHOWN, *(f"Frechet ({name})" for name in JUDGES), *(f"price ratio ({name})" for name in JUDGES)]
    print("| branch | " + " | ".join(heads) + " |\n|" + " --- |" * (1 + len(heads)))
    fidelity: Summary | None = None
    files.sort(key=lambda file: FidelityTrainer.__name__ not in file.stem)
    for file in files:
        arm = file.stem.removeprefix("branch_")
        judged = [_written(fold, work, arm, name, array) for name, array in _predictions(file).items()]
        filters = tuned_filters(judged, JudgeOptions(JUDGES, Path("encoders")), "CT", show_progress=False)
        write_filtered(judged, filters, work / f"{arm} + filter")
        for folder in (arm, f"{arm} + filter"):
            summary = _scored(work, folder)
            fidelity = fidelity or summary
            print(f"| {folder} | " + " | ".join(_cells(summary, fidelity)) + " |", flush=True)


def _predictions(file: Path) -> dict[str, np.ndarray]:
    content = load_file(file)
    names = [key for key in content if key.startswith("prediction.")]
    return {key.removeprefix("prediction."): content[key].astype(np.float32) for key in names}


def _written(fold: FoldData, work: Path, arm: str, name: str, prediction: np.ndarray) -> JudgedFiles:
    """Prediction, target and body of a case as files; of a dry run the part that was predicted."""
    prepared = prepared_case(fold, name)
    assert prepared.target is not None
    target = prepared.properties.target_map.invert(prepared.target[0])
    grid = Geometry(prediction.shape, prepared.properties.prepared_spacing)
    paths = [work / folder / f"{name}.nii.gz" for folder in ("targets", arm, "masks")]
    arrays = centre_of(target, prediction.shape), prediction, centre_of(prepared.mask, prediction.shape)
    for path, array in zip(paths, arrays, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, array, grid)
    return JudgedFiles(name, *paths)


def _scored(work: Path, folder: str) -> Summary:
    return evaluate(
        reference=work / "targets", prediction=work / folder, mask=work / "masks", range="2025", judge=JUDGES,
        processes=1, show_progress=False,
    )  # fmt: skip


def _cells(summary: Summary, fidelity: Summary) -> list[str]:
    """Scores, distances, and what each distance cost against fidelity, the first row."""
    cells = [_mean([scores.get(name) for scores in summary.cases.values()]) for name in SHOWN]
    cells += [f"{judgement.frechet:.4g}" for judgement in summary.distributions]
    error = summary.mean["mae"] / fidelity.mean["mae"]
    for now, before in zip(summary.distributions, fidelity.distributions, strict=True):
        price = None if summary is fidelity else price_of_distance(error, now.frechet / before.frechet)
        cells.append(PRICE.text(price, ""))
    return cells


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.4g}" if known else "undefined"
