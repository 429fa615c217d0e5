"""The four commands on one data set, then the model against the naive references, as a Markdown row.

usage: python benchmarks/pipeline.py WORK DATASET [--iterations 300] [--spacing Z Y X] [--preset tiny]

WORK holds ``gdm_raw`` (see make_datasets.py) and gets everything else. Also measures the seam score of the predictions
and the difference between two positions of the window grid. Writes WORK/DATASET.json and pictures.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from gdmunet.cli import evaluate, plan_and_preprocess, predict, train
from gdmunet.dataset import find_dataset, list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.evaluation.report.pictures import ComparedVolumes, draw_comparison
from gdmunet.evaluation.scores.references import ReferenceCase, score_references
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.geometry import canonical_axes
from gdmunet.imageio import read_case, read_volume
from gdmunet.inference import Predictor
from gdmunet.inference.seams import offset_difference, prediction_seam_score
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.preprocessing.preprocessor import prepare_case
from gdmunet.results import SUMMARY_FILE, ResultsFolder
from gdmunet.training.trainers.registry import find_trainer

TRAINER, SETTINGS = "FidelityTrainer", {"iterations_per_epoch": "50", "learning_rate": "0.002"}


def run_commands(work: Path, number: str, arguments: argparse.Namespace) -> tuple[Path, dict[str, float]]:
    """Plan, train, predict and evaluate; returns the model folder and the seconds of every step."""
    raw, preprocessed, results = (
        [f"--{name}", str(work / f"gdm_{name}")] for name in ("raw", "preprocessed", "results")
    )
    dataset = find_dataset(work / "gdm_raw", number)
    predictions = work / "predictions" / dataset.name
    masks = ["--mask", str(dataset / "masksTs")] if (dataset / "masksTs").is_dir() else []
    spacing = ["-overwrite_target_spacing", *map(str, arguments.spacing)] if arguments.spacing else []
    plans = f"gdmPlans_{arguments.preset}"
    label = find_trainer(TRAINER).derive(SETTINGS | {"iterations": str(arguments.iterations)}).__name__
    model = ResultsFolder(work / "gdm_results").model(dataset.name, label, plans, "3d_fullres").path
    steps = {
        "plan": (plan_and_preprocess.main,
                 ["-d", number, "-c", "3d_fullres", "-tr", TRAINER, "-pl", arguments.preset, *spacing, *raw,
                  *preprocessed]),
        "train": (train.main,
                  [number, "3d_fullres", "all", "-tr", TRAINER, "-p", plans, "--overwrite",
                   "--iterations", str(arguments.iterations),
                   "--set", *(f"{name}={value}" for name, value in SETTINGS.items()), *raw, *preprocessed, *results]),
        "predict": (predict.main,
                    ["-i", str(dataset / "imagesTs"), "-o", str(predictions), "-m", str(model), "-chk", "final",
                     *masks]),
        "evaluate": (evaluate.main,
                     ["-ref", str(dataset / "targetsTs"), "-pred", str(predictions), "-d", number, *raw]
                     + (["-mask", str(dataset / "masksTs")] if masks else [])),
    }  # fmt: skip
    seconds = {}
    for name, (main, words) in steps.items():
        started = time.monotonic()
        print(f"$ {name}: {' '.join(words)}", flush=True)
        if main(words):
            raise GdmError(f"{name} failed")
        seconds[name] = round(time.monotonic() - started, 1)
    return model, seconds


def reference_cases(dataset: Path, split: str) -> list[ReferenceCase]:
    """Cases with conditions z-scored in the body (a mapping of raw MR values would be weaker)."""
    descriptor = load_descriptor(dataset)
    cases = []
    for case in list_cases(dataset, descriptor, split):
        volumes = read_case(case)
        mask = volumes.mask
        if mask is None:
            axes = canonical_axes(volumes.geometry)
            spacing = axes.apply_to_geometry(volumes.geometry).spacing
            mask = axes.inverse().apply(derive_body_mask(axes.apply(volumes.conditions), descriptor.channels, spacing))
        condition = volumes.conditions[-1]
        if descriptor.target_name not in descriptor.channels:
            condition = (condition - condition[mask].mean()) / condition[mask].std()
        cases.append(ReferenceCase(case.identifier, condition, volumes.target, mask))
    return cases


def masked_errors(predictions: Path, cases: list[ReferenceCase]) -> float:
    errors = []
    for case in cases:
        predicted = read_volume(predictions / f"{case.identifier}.nii.gz").array
        errors.append(float(np.abs(predicted - case.target)[case.mask].mean()))
    return float(np.mean(errors))


def window_effects(model: Path, dataset: Path) -> tuple[list[float], list[float], list[float]]:
    """Seam score of prediction and of target at the same places, and difference between two window grids, by case.

    Anatomy is not the same at every plane: what the target itself scores at the windows' borders is the yardstick.
    """
    predictor = Predictor.from_folder(model, checkpoint="final")
    seams, target_seams, differences = [], [], []
    for case in list_cases(dataset, load_descriptor(dataset), "Ts"):
        prepared = prepare_case(read_case(case), predictor.configuration, predictor.descriptor)
        try:
            seams.append(prediction_seam_score(predictor, prepared, predictor.predict_network_units(prepared).array))
            target_seams.append(prediction_seam_score(predictor, prepared, prepared.target[0]))
        except GdmError as error:
            print(f"{case.identifier}: {error}")
        differences.append(offset_difference(predictor, prepared))
        if len(differences) == 3:
            break
    return seams, target_seams, differences


def draw(work: Path, dataset: Path) -> None:
    descriptor = load_descriptor(dataset)
    case = list_cases(dataset, descriptor, "Ts")[0]
    volumes = read_case(case)
    predicted = read_volume(work / "predictions" / dataset.name / f"{case.identifier}.nii.gz")
    compared = ComparedVolumes(
        volumes.conditions[-1], predicted.array, volumes.target, volumes.mask, volumes.geometry,
        comparable=descriptor.target_name in descriptor.channels,
    )  # fmt: skip
    unit = "HU" if descriptor.hounsfield else descriptor.target_name
    file = work / "pictures" / f"{dataset.name}.png"
    print("picture:", draw_comparison(file, compared, case.identifier, unit))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--spacing", type=float, nargs=3)
    parser.add_argument("--preset", default="tiny")
    arguments = parser.parse_args()
    model, seconds = run_commands(arguments.work, arguments.dataset, arguments)
    dataset = find_dataset(arguments.work / "gdm_raw", arguments.dataset)
    descriptor = load_descriptor(dataset)
    training, test = reference_cases(dataset, "Tr"), reference_cases(dataset, "Ts")
    predictions = arguments.work / "predictions" / dataset.name
    references = score_references(training, test, same_modality=descriptor.target_name in descriptor.channels).mean
    seams, target_seams, differences = window_effects(model, dataset)
    row = {
        "dataset": dataset.name,
        "cases": [len(training), len(test)],
        "iterations": arguments.iterations,
        "model_mae": masked_errors(predictions, test),
        "condition_mae": references.condition,
        "mapping_mae": references.mapping,
        "mean_target_mae": references.mean_target,
        "scores": load_summary(predictions / SUMMARY_FILE).mean,
        "seam_scores": seams,
        "seam_scores_of_target": target_seams,
        "offset_differences": differences,
        "seconds": seconds,
    }
    (arguments.work / f"{dataset.name}.json").write_text(json.dumps(row, indent=2))
    draw(arguments.work, dataset)
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
