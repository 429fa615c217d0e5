"""Score a folder of predictions against a folder of references."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from gdmunet.dataset import DatasetDescriptor, groups_of
from gdmunet.evaluation.distributions.judge import JudgeWish, judge_files
from gdmunet.evaluation.scores.case_scores import score_case
from gdmunet.evaluation.scores.range_choice import choose_range
from gdmunet.evaluation.scores.summary import EvaluationSettings, Summary, package_versions, summarize
from gdmunet.evaluation.scores.volume_files import EvaluationFolders, match_files, missing_error
from gdmunet.metrics import EvaluationRange
from gdmunet.workers import run_in_workers

__all__ = ["choose_range", "evaluate_folders"]


def evaluate_folders(
    reference_folder: Path,
    prediction_folder: Path,
    mask_folder: Path | None = None,
    *,
    descriptor: DatasetDescriptor | None = None,
    range_name: EvaluationRange | None = None,
    data_range: tuple[float, float] | None = None,
    identifiers: Collection[str] | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    fov_folder: Path | None = None,
    label_folders: tuple[Path | None, Path | None] = (None, None),
    structures: Mapping[str, Collection[int]] | None = None,
    judge: JudgeWish | None = None,
    checkpoint: str | None = None,
    allow_missing: bool = False,
    processes: int = 1,
    show_progress: bool = True,
) -> Summary:
    """Score every case; files are matched by name without ending, endings may differ.

    Parameters
    ----------
    reference_folder, prediction_folder, mask_folder
        Folders of volumes; mask None: scores over the whole volume (the summary says so).
    descriptor
        The data set's; its target decides the range (see `choose_range`) and it gives the groups.
    identifiers
        Only these cases (a fold's validation cases among all references); None: every file of both folders.
    groups
        Identifier to kind of group to group; None: those of `descriptor`.
    fov_folder
        Masks of what the scanner saw: scores are taken inside body and field of view.
    label_folders
        Label maps of references and of predictions (a segmentation of either): adds Dice and HD95.
    structures
        Identifier to the labels that count there; None, or a case that is not named: all of its reference's.
    judge
        The encoder whose features compare predictions and references as distributions; None: no such comparison.
    checkpoint
        Name of the weights that made the predictions; only recorded.
    allow_missing
        A case that cannot be scored becomes a row with its error in place of ending the evaluation.
    processes
        Worker processes; a volume of 512x512x133 needs about 2.5 GB in each.

    Raises
    ------
    GdmError
        Names the case: missing or surplus prediction, missing mask, different grids, empty mask, NaN or infinity,
        unreadable file. With `allow_missing` only where no case can be scored at all.
    """
    choice = choose_range(descriptor, range_name, data_range)
    folders = EvaluationFolders(reference_folder, prediction_folder, mask_folder, fov_folder, *label_folders)
    folders.check()
    matched = match_files(folders, identifiers)
    if matched.problems and not allow_missing:
        raise missing_error(matched, prediction_folder)
    items = [
        (files.identifier, (files, choice, (structures or {}).get(files.identifier), allow_missing))
        for files in matched.complete
    ]
    scored = run_in_workers(score_case, items, processes, show_progress, "evaluating")
    found = {name: case for (name, _), case in zip(items, scored, strict=True)}
    given = {kind: str(folder) for kind, folder in folders.given.items()}
    settings = EvaluationSettings(
        range=choice.name,
        value_range=choice.value_range,
        hounsfield=choice.hounsfield,
        mask="given" if mask_folder else "none",
        reference_folder=given["reference"],
        prediction_folder=given["prediction"],
        mask_folder=given.get("mask"),
        fov_folder=given.get("fov"),
        label_folders=(given["reference_labels"], given["predicted_labels"]) if "reference_labels" in given else None,
        checkpoint=checkpoint,
        case_ranges={name: case.value_range for name, case in found.items() if case.value_range},
        versions=package_versions(),
    )
    if groups is None and descriptor is not None:
        groups = {name: groups_of(descriptor, name) for name in matched.names}
    summary = summarize(matched.problems | {name: case.scores for name, case in found.items()}, settings, groups)
    if judge is None:
        return summary
    scored_files = [files for files in matched.complete if "error" not in summary.cases[files.identifier]]
    modality = descriptor.target_name if descriptor else "CT" if choice.hounsfield else "other"
    return replace(summary, distribution=judge_files(scored_files, judge, modality, show_progress=show_progress))
