"""Predict the held-out persons of every arm, and score them with and without the best filter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from claim_arms import ARMS, Place

from gdmunet.dataset import DatasetDescriptor, find_dataset, list_cases, load_descriptor
from gdmunet.dataset_names import RawFolders
from gdmunet.evaluation.comparison.unsharp import tuned_filters, write_filtered
from gdmunet.evaluation.distributions.classifier import ClassifierOptions, draw_patches, two_sample_scores
from gdmunet.evaluation.distributions.judge import JudgedFiles, JudgeOptions, read_judged, scaled, target_units
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.volume_files import EvaluationFolders, match_files
from gdmunet.inference.cases.files import ListedCases
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.plans import load_plans
from gdmunet.preprocessing.mask_folders import given_masks, scored_masks

FILTERED = " + filter"


def row_file(work: Path, name: str, seed: int) -> Path:
    """The scores of an arm, filtered or not, and a seed, over all folds."""
    return work / "rows" / f"{name.replace(' ', '_').replace(',', '').replace('/', '_')}_{seed}.json"


def made_of(file: Path, weights: list[Path]) -> bool:
    """Whether a file is there and no older than the weights: those of a later training make another one."""
    return file.exists() and all(file.stat().st_mtime >= one.stat().st_mtime for one in weights)


def score_arm(places: list[Place], name: str, encoders: tuple[str, ...]) -> None:
    """Predict the held-out case of every fold with its own weights, and write two rows: unfiltered and filtered."""
    work, seed, arm = places[0].work, places[0].seed, ARMS[name]
    weights = {place: place.folder(arm).checkpoint("final") for place in places}
    if made_of(row_file(work, name + FILTERED, seed), list(weights.values())):
        return
    predictions = work / "predictions" / f"{name.replace('/', '_')} {seed}"
    raw = find_dataset(work / "gdm_raw", load_plans(places[0].plans).dataset_name)
    descriptor = load_descriptor(raw)
    cases = {case.identifier: case for case in list_cases(raw, descriptor)}
    names = []
    for place in places:
        held_out = load_plans(place.plans).fold(place.fold).validation
        names += held_out
        if not all(made_of(predictions / f"{case}{descriptor.file_ending}", [weights[place]]) for case in held_out):
            model = place.folder(arm).path.parent
            predictor = Predictor.from_folder(model, (place.fold,), "final", realism=arm.realism)
            options = PredictionOptions(preprocess_workers=0, export_workers=0, show_progress=False)
            predict_cases(
                ListedCases([cases[c] for c in held_out], given_masks(raw, descriptor)), predictions, predictor, options
            )
    masks = scored_masks(raw, places[0].folders.preprocessed / raw.name, descriptor)
    judge = JudgeOptions(encoders, places[0].folders.encoders)
    filtered = predictions.with_name(predictions.name + FILTERED)
    folders = EvaluationFolders(RawFolders(raw).targets, predictions, masks)
    matched = match_files(folders, names)
    files = [JudgedFiles(one.identifier, one.reference, one.prediction, one.mask) for one in matched.complete]
    filters = tuned_filters(files, judge, descriptor.target_name, show_progress=False)
    write_filtered(files, filters, filtered)
    options = EvaluationOptions(descriptor, identifiers=names, judge=judge, show_progress=False)
    for suffix, folder in (("", predictions), (FILTERED, filtered)):
        summary = evaluate_folders(EvaluationFolders(RawFolders(raw).targets, folder, masks), options)
        of_slices = slice_scores([replace(one, prediction=folder / one.prediction.name) for one in files], descriptor)
        cases = {case: {**summary.cases[case], "c2st_slices": score} for case, score in of_slices.items()}
        row = {
            "arm": name + suffix,
            "seed": seed,
            "cases": {**summary.cases, **cases},
            "frechet": {one.encoder: one.frechet for one in summary.distributions},
            "mmd": {one.encoder: one.mmd for one in summary.distributions},
            "filters": {case: [one.sigma, one.amount] for case, one in filters.items()} if suffix else {},
        }
        file = row_file(work, name + suffix, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row, indent=1))


def slice_scores(files: list[JudgedFiles], descriptor: DatasetDescriptor) -> dict[str, float]:
    """The classifier on patches of one plane: the arms predict by slices, which patches of several planes give away."""
    options, units = ClassifierOptions(edge=32, planes=1), target_units(files, descriptor.target_name)
    patches = {}
    for one in files:
        real, mask = read_judged(one.reference, one)
        predicted, _ = read_judged(one.prediction, one)
        volumes = (scaled(volume, units) for volume in (predicted, real))
        patches[one.identifier] = draw_patches(*volumes, mask, units.network_background, options)
    return two_sample_scores(patches, options) or {}
