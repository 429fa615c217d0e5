"""The files of each case in the folders, and the cases that lack one."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from gdmunet.errors import GdmError
from gdmunet.plausibility.names import check_distinct
from gdmunet.quantities import counted
from gdmunet.volume_formats.files import find_volumes

# Cases that an error lists.
_LISTED = 10
# Field of the two classes below to the name of the missing file.
_NAMES = {
    "reference": "reference",
    "prediction": "prediction",
    "mask": "mask",
    "fov": "field of view",
    "reference_labels": "label map of the reference",
    "predicted_labels": "label map of the prediction",
}


@dataclass(frozen=True)
class EvaluationFolders:
    """One folder per kind of volume; None: that kind is not there.

    Attributes
    ----------
    mask, fov
        Body and field of view; scores are taken inside both.
    reference_labels, predicted_labels
        Label maps of structures, both or none.
    """

    reference: Path
    prediction: Path
    mask: Path | None = None
    fov: Path | None = None
    reference_labels: Path | None = None
    predicted_labels: Path | None = None

    def __post_init__(self) -> None:
        if (self.reference_labels is None) != (self.predicted_labels is None):
            raise GdmError(
                "label maps of one side alone cannot be scored",
                found=self.reference_labels or self.predicted_labels,
                expected="label maps of the references and of the predictions",
                remedy="give both --labels_ref and --labels_pred",
            )

    @property
    def given(self) -> dict[str, Path]:
        """Field to folder, for those that are there."""
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name)}

    def check(self) -> None:
        """Refuse folders that are missing, and a prediction folder that is the reference folder."""
        for folder in self.given.values():
            if not Path(folder).is_dir():
                raise GdmError("the folder is missing", file=folder, remedy="check the path")
        if os.path.realpath(self.reference) == os.path.realpath(self.prediction):
            raise GdmError(
                "references and predictions are one folder",
                file=self.reference,
                expected="two folders",
                remedy="give the folder of targets as the reference and the predictor's output as the prediction",
            )


@dataclass(frozen=True)
class ScoredFiles:
    """The files of one case; as in `EvaluationFolders`."""

    identifier: str
    reference: Path
    prediction: Path
    mask: Path | None = None
    fov: Path | None = None
    reference_labels: Path | None = None
    predicted_labels: Path | None = None


@dataclass(frozen=True)
class MatchedFiles:
    """The cases of the folders.

    Attributes
    ----------
    names
        All identifiers that were asked for, sorted.
    complete
        The files of the cases that lack none.
    problems
        Identifier to the files that it lacks.
    """

    names: tuple[str, ...]
    complete: tuple[ScoredFiles, ...]
    problems: dict[str, str]


def match_files(folders: EvaluationFolders, identifiers: Collection[str] | None = None) -> MatchedFiles:
    """Match files by their names without ending; `identifiers` None: every reference and every prediction."""
    volumes = {kind: find_volumes(folder) for kind, folder in folders.given.items()}
    everything = {*volumes["reference"], *volumes["prediction"]}
    check_distinct(sorted(everything), "references and predictions")
    names = tuple(sorted(identifiers if identifiers is not None else everything))
    problems = {name: problem for name in names if (problem := _missing_file(name, volumes))}
    complete = tuple(
        ScoredFiles(name, **{kind: files[name] for kind, files in volumes.items()})
        for name in names
        if name not in problems
    )
    return MatchedFiles(names, complete, problems)


def missing_error(matched: MatchedFiles, prediction_folder: Path) -> GdmError:
    """The error that names the cases that lack a file."""
    first, kind = next(iter(matched.problems.items()))
    return GdmError(
        f"{len(matched.problems)} of {counted(matched.names, 'case')} cannot be scored: {kind} for {first}",
        case=first,
        file=prediction_folder,
        found=_listed(f"{name} ({problem})" for name, problem in matched.problems.items()),
        expected="a reference, a prediction and one file of every further folder (masks, ...) for every case",
        remedy="predict the missing cases, remove the surplus ones, or score the rest with --allow-missing",
    )


def _missing_file(name: str, volumes: Mapping[str, Mapping[str, Path]]) -> str | None:
    missing = [_NAMES[kind] for kind, files in volumes.items() if name not in files]
    if missing[:2] == ["reference", "prediction"]:
        return "neither reference nor prediction"
    return f"no {missing[0]}" if missing else None


def _listed(words: Iterable[str]) -> str:
    words = list(words)
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more
