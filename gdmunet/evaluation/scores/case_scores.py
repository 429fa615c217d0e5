"""Read and score the files of one case."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.range_choice import RangeChoice
from gdmunet.evaluation.scores.volume_files import ScoredFiles
from gdmunet.imageio import Volume, read_labels, read_mask_values, read_volume
from gdmunet.metrics import ImageScores, OwnMetricSpec, ValueRange, score_pair, score_structures
from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.places import check_place_of
from gdmunet.plausibility.prediction import check_mask, check_prediction, check_reference, located


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case, or the error that it met; its own range if it has one; doubts about its volumes."""

    scores: ImageScores | str
    value_range: ValueRange | None = None
    findings: tuple[Finding, ...] = ()


def score_case(
    files: ScoredFiles,
    choice: RangeChoice,
    structures: Collection[int] | None,
    keep_errors: bool,
    own: Sequence[OwnMetricSpec] = (),
) -> CaseScores:
    """Read and score one case; with `keep_errors` a problem becomes its text.

    Parameters
    ----------
    structures
        Labels whose Dice and HD95 count, if there are label maps; None: all.
    own
        Metrics of the user's own.
    """
    try:
        return _score_files(files, choice, structures, own)
    except GdmError as error:
        if not keep_errors:
            raise
        return CaseScores(error.one_line())


def _score_files(
    files: ScoredFiles, choice: RangeChoice, structures: Collection[int] | None, own: Sequence[OwnMetricSpec]
) -> CaseScores:
    target = read_volume(files.reference, files.identifier)
    # A prediction that failed, one value everywhere, is scored: badly, and in the mean.
    prediction = read_volume(files.prediction, files.identifier, constant=True)
    predicted = _on_grid(prediction, target, files, files.prediction)
    findings: list[Finding] = []
    inside = _inside(files, target, choice.hounsfield, findings)
    findings += _doubts(files, target, prediction, inside, choice.hounsfield)
    value_range = choice.value_range
    try:
        if value_range is None:
            values = target.array if inside is None else target.array[inside]
            value_range = ValueRange(float(values.min()), float(values.max()), float(values.min()))
        scores = score_pair(target.array, predicted, value_range, inside, hounsfield=choice.hounsfield, own=own)
    except GdmError as error:
        error.located(case=files.identifier, file=files.prediction)
        raise
    if files.reference_labels is not None and files.predicted_labels is not None:
        pair = [
            _on_grid(read_labels(path, files.identifier), target, files, path)
            for path in (files.reference_labels, files.predicted_labels)
        ]
        scores = scores.with_structures(score_structures(pair[0], pair[1], target.geometry.spacing, structures))
    return CaseScores(scores, value_range if choice.value_range is None else None, tuple(findings))


def _doubts(
    files: ScoredFiles, target: Volume, prediction: Volume, inside: np.ndarray | None, hounsfield: bool
) -> list[Finding]:
    of_reference = check_reference(target.array, inside, hounsfield=hounsfield) + check_place_of(target.geometry)
    of_prediction = check_prediction(prediction.array, target.array, inside, hounsfield=hounsfield)
    of_prediction += check_place_of(prediction.geometry)
    name = files.identifier
    return [*located(of_reference, name, files.reference), *located(of_prediction, name, files.prediction)]


def _inside(files: ScoredFiles, target: Volume, hounsfield: bool, findings: list[Finding]) -> np.ndarray | None:
    """Body and field of view; None if neither is given. Doubts about the body mask join `findings`."""
    inside: np.ndarray | None = None
    for path in (files.mask, files.fov):
        if path is None:
            continue
        volume, values = read_mask_values(path, files.identifier)
        mask = _on_grid(volume, target, files, path)
        if path == files.mask:
            doubts = check_mask(mask, values, target.array, hounsfield=hounsfield)
            doubts += check_place_of(volume.geometry)
            findings += located(doubts, files.identifier, path)
        inside = mask if inside is None else inside & mask
    if inside is not None and not inside.any():
        raise GdmError(
            "the body mask and the field of view have no voxel in common",
            case=files.identifier,
            file=files.fov,
            expected="a field of view that sees the body",
            remedy="check that both folders belong to the same volumes",
        )
    return inside


def _on_grid(volume: Volume, reference: Volume, files: ScoredFiles, file: Path) -> np.ndarray:
    """The volume's array, if it lies on the reference's grid."""
    difference = volume.geometry.difference(reference.geometry)
    if difference:
        raise GdmError(
            "prediction, reference, masks and label maps must lie on one grid",
            case=files.identifier,
            file=file,
            found=difference.found,
            expected=f"{difference.expected}, as the reference",
            remedy="predict on the condition's own grid, or resample onto the reference, for example with "
            "SimpleITK.Resample",
        )
    return volume.array
