"""All trainers on one data set with one budget, through gdm_compare; then what each gains over the naive references.

usage: python benchmarks/rivals.py WORK DATASET [--epochs 8] [--folds 0] [--preset tiny] [--trainers NAME ...]

WORK holds ``gdm_raw`` (see make_datasets.py; svct_leave_one_out.py prepares its own). Trained folds are not trained
again. Prints the comparison's table, the error of the references on the same cases, the cost of a prediction against
the first trainer's, and the seam score of each trainer's predictions over that of the target at the same planes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from pipeline import reference_cases

from gdmunet.cli import compare, plan_and_preprocess
from gdmunet.dataset import find_dataset, list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.paired import load_comparison
from gdmunet.evaluation.scores.references import ReferenceErrors, score_references
from gdmunet.imageio import read_case
from gdmunet.inference import Predictor
from gdmunet.inference.seams import prediction_seam_score
from gdmunet.plans import load_plans
from gdmunet.preprocessing.preprocessor import prepare_case
from gdmunet.results import COMPARISON_FILE, ModelFolder, ResultsFolder
from gdmunet.training.trainers.registry import find_trainer

TRAINERS = ("FidelityTrainer", "GDMTrainer", "AdversarialTrainer", "FlowMatchingTrainer", "BridgeTrainer")


def held_out_references(dataset: Path, held_out: set[str]) -> ReferenceErrors:
    cases = reference_cases(dataset, "Tr")
    training = [case for case in cases if case.identifier not in held_out]
    test = [case for case in cases if case.identifier in held_out]
    descriptor = load_descriptor(dataset)
    return score_references(training, test, same_modality=descriptor.target_name in descriptor.channels).mean


def seam_ratio(dataset: Path, model: ModelFolder, folds: list[str]) -> float | None:
    """Mean over the cases that each fold held out; None where one window covers every case."""
    held_out, ratios = load_plans(model.plans).folds, []
    for fold in folds:
        predictor = Predictor.from_folder(model.path, (fold,), "final")
        for case in list_cases(dataset, load_descriptor(dataset)):
            if case.identifier in held_out[int(fold)].validation:
                prepared = prepare_case(read_case(case), predictor.configuration, predictor.descriptor)
                try:
                    predicted = prediction_seam_score(
                        predictor, prepared, predictor.predict_network_units(prepared).array
                    )
                    ratios.append(predicted / prediction_seam_score(predictor, prepared, prepared.target[0]))
                except GdmError as error:
                    print(f"no seam score: {error}", file=sys.stderr)
    return float(np.mean(ratios)) if ratios else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--epochs", default="8")
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    parser.add_argument("--set", nargs="+", default=["iterations_per_epoch=50", "learning_rate=0.002"])
    arguments = parser.parse_args()
    work: Path = arguments.work
    raw, preprocessed, results = ([f"--{n}", str(work / f"gdm_{n}")] for n in ("raw", "preprocessed", "results"))
    dataset = find_dataset(work / "gdm_raw", arguments.dataset)
    plans = f"gdmPlans_{arguments.preset}"
    overrides = {"epochs": arguments.epochs} | dict(word.split("=", 1) for word in arguments.set)
    planned = work / "gdm_preprocessed" / dataset.name / f"{plans}.json"
    if not planned.exists() or "3d_fullres" not in load_plans(planned).configurations:
        words = ["-d", arguments.dataset, "-c", "3d_fullres", "-pl", arguments.preset, "-encoder", "mini", "-np", "1"]
        if plan_and_preprocess.main([*words, *raw, *preprocessed]):
            raise SystemExit("planning failed")
    words = [arguments.dataset, "3d_fullres", "-tr", *arguments.trainers, "-p", plans, "-f", *arguments.folds]
    words += ["--epochs", arguments.epochs, "--set", *arguments.set, "-np", "0"]
    if compare.main([*words, *raw, *preprocessed, *results]):
        raise SystemExit("the comparison failed")
    trained = ResultsFolder(work / "gdm_results")
    folder = trained.comparison(dataset.name, plans, "3d_fullres")
    print((folder / "comparison.md").read_text())
    rows = [row for row in load_comparison(folder / COMPARISON_FILE).rows if row.cases]
    references = held_out_references(dataset, {name for row in rows for name in row.cases})
    heads = "trainer | MAE | mapping | mean target | passes | seconds, times the first | seam score, times the target's"
    print(f"references: {references}\n\n| {heads} |\n{'| --- ' * 7}|")
    for row in rows:
        error = float(np.mean([case["mae"] for case in row.cases.values()]))
        gains = " | ".join(
            f"{100 * (error / naive - 1):+.0f} %" for naive in (references.mapping, references.mean_target)
        )
        ratio = row.cost.seconds / rows[0].cost.seconds
        label = find_trainer(row.trainer).derive(overrides).__name__
        seams = seam_ratio(dataset, trained.model(dataset.name, label, plans, "3d_fullres"), arguments.folds)
        cost = f"{row.cost.network_passes:g} | {ratio:.2f}"
        print(f"| {row.trainer} | {error:.1f} | {gains} | {cost} | {'' if seams is None else f'{seams:.2f}'} |")


if __name__ == "__main__":
    main()
