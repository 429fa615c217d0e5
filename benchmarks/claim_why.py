"""Why does a part of the claim fail? Two questions to the finished work folder of ``claim.py``.

usage: python benchmarks/claim_why.py detail WORK/DATASET [--arm fidelity] [--seed 1]
       python benchmarks/claim_why.py persons WORK/DATASET [--arms NAME ...] [--seed 1] [--judges SPEC ...]

detail: what the classifier sees. It is given real volumes that were blurred a little, and volumes of which one band of
frequencies is predicted and the other one real (a Gaussian of SIGMA voxels divides them). If it finds the slightest
blur, rule (ii) asks for more than any estimate from the condition can give.

persons: error and Frechet distance of each arm on the persons it was trained on, beside those held out. A force that
brings the former nearer and not the latter learnt their scanners.
"""

import argparse
import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import claim_scores
import numpy as np
from claim import HELD_OUT, default_judges
from claim_arms import ARMS, Place
from scipy.ndimage import gaussian_filter

from gdmunet.dataset import load_descriptor
from gdmunet.dataset_names import RawFolders
from gdmunet.evaluation.distributions.classifier import ClassifierOptions, draw_patches, two_sample_scores
from gdmunet.evaluation.distributions.judge import JudgedFiles, read_judged, scaled, target_units
from gdmunet.evaluation.scores.volume_files import EvaluationFolders, match_files
from gdmunet.plans import Plans, load_plans
from gdmunet.preprocessing.mask_folders import scored_masks

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _bands(coarse: str, sigma: float) -> Change:
    def change(real: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        low, high = (predicted, real) if coarse == "predicted" else (real, predicted)
        return gaussian_filter(low, sigma) + high - gaussian_filter(high, sigma)

    return change


CHANGES: dict[str, Change] = {
    "predicted": lambda _, predicted: predicted,
    "predicted, with white noise of 10 HU": lambda _, p: p + 10 * np.random.default_rng(1).standard_normal(p.shape),
    **{f"real, blurred by {s} voxels": lambda real, _, s=s: gaussian_filter(real, s) for s in (0.3, 0.5, 1.0)},
    **{f"coarse {part} beyond {s} voxels, the rest {rest}": _bands(part, s)
       for s in (1, 4) for part, rest in (("predicted", "real"), ("real", "predicted"))},
}  # fmt: skip


def detail(arguments: Namespace) -> None:
    """The table of what the classifier sees."""
    work = arguments.work
    raw = next((work / "gdm_raw").iterdir())
    descriptor = load_descriptor(raw)
    predictions = work / "predictions" / f"{arguments.arm} {arguments.seed}"
    names = [file.name.removesuffix(descriptor.file_ending) for file in predictions.glob(f"*{descriptor.file_ending}")]
    masks = scored_masks(raw, work / "gdm_preprocessed" / raw.name, descriptor)
    matched = match_files(EvaluationFolders(RawFolders(raw).targets, predictions, masks), names)
    files = [JudgedFiles(one.identifier, one.reference, one.prediction, one.mask) for one in matched.complete]
    units = target_units(files, descriptor.target_name)
    print("| volume | MAE HU | C2ST | C2ST in slices |\n| --- | --- | --- | --- |")
    for title, change in CHANGES.items():
        errors, scores = [], []
        for options in (ClassifierOptions(), ClassifierOptions(edge=32, planes=1)):
            patches = {}
            for one in files:
                real, mask = read_judged(one.reference, one)
                changed = change(real, read_judged(one.prediction, one)[0])
                errors.append(np.abs(changed - real)[mask > 0].mean())
                both = (scaled(volume, units) for volume in (changed, real))
                patches[one.identifier] = draw_patches(*both, mask, units.network_background, options)
            scores.append(np.mean(list((two_sample_scores(patches, options) or {}).values())))
        print(f"| {title} | {np.mean(errors):.1f} | {scores[0]:.3f} | {scores[1]:.3f} |", flush=True)


@dataclass(frozen=True)
class _Persons:
    """Plans whose folds hold out the persons that a fold trains on, so that these are scored."""

    plans: Plans

    @property
    def dataset_name(self) -> str:
        return self.plans.dataset_name

    def fold(self, name: str):
        fold = self.plans.fold(name)
        return replace(fold, training=fold.validation, validation=fold.training)


def persons(arguments: Namespace) -> None:
    """The table of trained and held-out persons."""
    work = arguments.work
    plans = next((work / "gdm_preprocessed").glob("*/gdmPlans*.json"))
    held_out = {person: str(k) for k, fold in enumerate(load_plans(plans).folds) for person in fold.validation}
    claim_scores.load_plans = lambda file: _Persons(load_plans(file))
    print("| held out | arm | MAE HU, trained persons | Frechet distance by judge, trained persons |")
    print("| --- | --- | --- | --- |", flush=True)
    for person in HELD_OUT[work.name]:
        inside = work / "trained_persons" / person
        inside.mkdir(parents=True, exist_ok=True)
        for folder in ("gdm_raw", "gdm_preprocessed", "gdm_results", "encoders"):
            if (work / folder).exists() and not (inside / folder).exists():
                (inside / folder).symlink_to((work / folder).resolve())
        place = Place(inside, inside / plans.relative_to(work), "2d", held_out[person], arguments.seed, 2000)
        for arm in arguments.arms:
            claim_scores.score_arm([place], arm, tuple(arguments.judges))
            row = json.loads(claim_scores.row_file(inside, arm, arguments.seed).read_text())
            errors = ", ".join(f"{case} {scores['mae']:.1f}" for case, scores in row["cases"].items())
            distances = ", ".join(f"{value:.3g}" for value in row["frechet"].values())
            print(f"| {person} | {arm} | {errors} | {distances} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("detail", "persons"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--arm", choices=ARMS, default="fidelity")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["fidelity", "transport"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judges", nargs="+", default=default_judges())
    arguments = parser.parse_args()
    {"detail": detail, "persons": persons}[arguments.question](arguments)


if __name__ == "__main__":
    main()
