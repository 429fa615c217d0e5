"""Score a folder of predictions against a folder of references."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gdmunet.dataset import FILE_ENDINGS, HU_MODALITIES, DatasetDescriptor, groups_of
from gdmunet.errors import GdmError
from gdmunet.evaluation.summary import EvaluationSettings, Summary, package_versions, summarize
from gdmunet.imageio import Volume, read_mask, read_volume
from gdmunet.metrics import EvaluationRange, ImageScores, ValueRange, evaluation_range, score_pair
from gdmunet.workers import run_in_workers


@dataclass(frozen=True)
class RangeChoice:
    """Which values the scores refer to.

    Attributes
    ----------
    name
        As in `EvaluationSettings.range`.
    value_range
        None: every case on its own reference's range.
    hounsfield
        True where the values are Hounsfield units.
    """

    name: Literal["2023", "2025", "given", "reference"]
    value_range: ValueRange | None
    hounsfield: bool


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case, or the error that it met, and its own range where it has one."""

    scores: ImageScores | str
    value_range: ValueRange | None = None


def choose_range(
    descriptor: DatasetDescriptor | None = None,
    range_name: EvaluationRange | None = None,
    data_range: tuple[float, float] | None = None,
) -> RangeChoice:
    """Decide the range: what the user gave, else by the target's modality, else that of SynthRAD2025.

    Parameters
    ----------
    descriptor
        Its target says whether the values are Hounsfield units; without one they are, unless `data_range` is given.
    range_name
        ``"2025"`` or ``"2023"``, for Hounsfield units only.
    data_range
        Low and high in the target's unit. Outside the mask stands the low end.

    Raises
    ------
    GdmError
        Both were given, or a range of Hounsfield units for another target.
    """
    if range_name is not None and data_range is not None:
        raise GdmError(
            "two ranges were given",
            found=f"range {range_name} and data range {data_range[0]:g} to {data_range[1]:g}",
            remedy="give --range 2023|2025 or --data-range LOW HIGH",
        )
    hounsfield = descriptor.target_name in HU_MODALITIES if descriptor else data_range is None
    if data_range is not None:
        low, high = data_range
        return RangeChoice("given", ValueRange(low, high, low), hounsfield)
    if hounsfield:
        name: EvaluationRange = range_name or "2025"
        return RangeChoice(name, evaluation_range(name), True)
    if range_name is not None and descriptor is not None:
        raise GdmError(
            f"range {range_name} is for Hounsfield units",
            found=f"target {descriptor.target_name}",
            expected=f"a target of {' or '.join(HU_MODALITIES)}",
            remedy="give --data-range LOW HIGH, or no range (every case on its own reference's range)",
        )
    return RangeChoice("reference", None, False)


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
    _check_folders(reference_folder, prediction_folder, mask_folder)
    references, predictions = find_volumes(reference_folder), find_volumes(prediction_folder)
    masks = find_volumes(mask_folder) if mask_folder else None
    names = sorted(identifiers) if identifiers is not None else sorted({*references, *predictions})
    problems = {name: problem for name in names if (problem := _missing_file(name, references, predictions, masks))}
    if problems and not allow_missing:
        raise _missing_error(problems, names, prediction_folder)
    items = [
        (name, (name, references[name], predictions[name], masks[name] if masks else None, choice, allow_missing))
        for name in names
        if name not in problems
    ]
    scored = run_in_workers(score_case, items, processes, show_progress, "evaluating")
    found = {name: case for (name, _), case in zip(items, scored, strict=True)}
    settings = EvaluationSettings(
        range=choice.name,
        value_range=choice.value_range,
        hounsfield=choice.hounsfield,
        mask="given" if mask_folder else "none",
        reference_folder=str(reference_folder),
        prediction_folder=str(prediction_folder),
        mask_folder=str(mask_folder) if mask_folder else None,
        checkpoint=checkpoint,
        case_ranges={name: case.value_range for name, case in found.items() if case.value_range},
        versions=package_versions(),
    )
    if groups is None and descriptor is not None:
        groups = {name: groups_of(descriptor, name) for name in names}
    return summarize(problems | {name: case.scores for name, case in found.items()}, settings, groups)


def score_case(
    identifier: str, reference: Path, prediction: Path, mask: Path | None, choice: RangeChoice, keep_errors: bool
) -> CaseScores:
    """Read and score one case; with `keep_errors` a problem becomes its text."""
    try:
        return _score_files(identifier, reference, prediction, mask, choice)
    except GdmError as error:
        if not keep_errors:
            raise
        return CaseScores(" ".join(line.strip() for line in str(error).splitlines()))


def find_volumes(folder: Path) -> dict[str, Path]:
    """Identifier (name without ending) to file, for every volume of a folder; files of other kinds are not seen.

    Raises
    ------
    GdmError
        Two files of one identifier.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        ending = next((known for known in FILE_ENDINGS if path.name.endswith(known)), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name.removesuffix(ending)
        if name in found:
            raise GdmError(
                "two files have one identifier",
                case=name,
                file=path,
                found=f"{found[name].name} and {path.name}",
                remedy="remove the one that is not meant",
            )
        found[name] = path
    return found


def _score_files(
    identifier: str, reference: Path, prediction: Path, mask: Path | None, choice: RangeChoice
) -> CaseScores:
    target = read_volume(reference, identifier)
    predicted = read_volume(prediction, identifier)
    _check_grid(identifier, prediction, predicted, target)
    inside = None
    if mask is not None:
        mask_volume = read_mask(mask, identifier)
        _check_grid(identifier, mask, mask_volume, target)
        inside = mask_volume.array
    value_range = choice.value_range
    try:
        if value_range is None:
            values = target.array if inside is None else target.array[inside]
            value_range = ValueRange(float(values.min()), float(values.max()), float(values.min()))
        scores = score_pair(target.array, predicted.array, value_range, inside, hounsfield=choice.hounsfield)
    except GdmError as error:
        raise GdmError(str(error), case=identifier, file=prediction) from error
    return CaseScores(scores, value_range if choice.value_range is None else None)


def _check_grid(identifier: str, file: Path, volume: Volume, reference: Volume) -> None:
    difference = volume.geometry.difference(reference.geometry)
    if difference:
        found, expected = difference.split(" against ")
        raise GdmError(
            "prediction, reference and mask must lie on one grid",
            case=identifier,
            file=file,
            found=found,
            expected=f"{expected}, as the reference",
            remedy="predict on the condition's own grid, or resample onto the reference, for example with "
            "SimpleITK.Resample",
        )


def _check_folders(reference_folder: Path, prediction_folder: Path, mask_folder: Path | None) -> None:
    for folder in (reference_folder, prediction_folder, mask_folder):
        if folder is not None and not Path(folder).is_dir():
            raise GdmError("the folder is missing", file=folder, remedy="check the path")
    if os.path.realpath(reference_folder) == os.path.realpath(prediction_folder):
        raise GdmError(
            "references and predictions are one folder",
            file=reference_folder,
            expected="two folders",
            remedy="give the folder of targets as the reference and the predictor's output as the prediction",
        )


def _missing_file(
    name: str, references: Mapping[str, Path], predictions: Mapping[str, Path], masks: Mapping[str, Path] | None
) -> str | None:
    if name not in references:
        return "no reference" if name in predictions else "neither reference nor prediction"
    if name not in predictions:
        return "no prediction"
    return "no mask" if masks is not None and name not in masks else None


def _missing_error(problems: Mapping[str, str], names: Collection[str], prediction_folder: Path) -> GdmError:
    first, kind = next(iter(problems.items()))
    return GdmError(
        f"{len(problems)} of {len(names)} cases cannot be scored: {kind} for {first}",
        case=first,
        file=prediction_folder,
        found=_listed(f"{name} ({problem})" for name, problem in problems.items()),
        expected="a reference, a prediction and, where masks are given, a mask for every case",
        remedy="predict the missing cases, remove the surplus ones, or score the rest with --allow-missing",
    )


def _listed(words: Iterable[str], limit: int = 10) -> str:
    words = list(words)
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more
