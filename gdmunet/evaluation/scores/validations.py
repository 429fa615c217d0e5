"""The validation of a trained model over its folds, read from results and made comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.summary import CaseRow, EvaluationSpec, load_summary
from gdmunet.results import ModelFolder
from gdmunet.volume_formats.files import find_volumes


@dataclass(frozen=True)
class Validation:
    """The validation of one model over its folds, put together.

    Attributes
    ----------
    folds
        Numbered folds that have a validation.
    cases, files
        Identifier to scores, and to the predicted volume where it was kept.
    """

    model: ModelFolder
    folds: tuple[str, ...]
    cases: dict[str, CaseRow]
    files: dict[str, Path]
    settings: EvaluationSpec


def read_validation(model: ModelFolder, folds: Sequence[str] | None = None) -> Validation | None:
    """Put the folds' validation summaries together; None where no (chosen) fold was validated.

    Raises
    ------
    GdmError
        A case without scores, or folds that were scored with different settings.
    """
    used: list[str] = []
    cases: dict[str, CaseRow] = {}
    files: dict[str, Path] = {}
    settings: list[EvaluationSpec] = []
    for folder in model.folds():
        fold, file = folder.fold, folder.summary()
        if not fold.isdigit() or not file.is_file() or (folds is not None and fold not in folds):
            continue
        summary = load_summary(file)
        if summary.errors:
            case, error = next(iter(summary.errors.items()))
            raise GdmError(
                "a validation has a case without scores",
                case=case,
                file=file,
                found=error,
                remedy=f"validate fold {fold} again with the command that trained it and --val",
            )
        used.append(fold)
        cases |= summary.cases
        files |= {name: path for name, path in find_volumes(file.parent).items() if name in summary.cases}
        settings.append(summary.settings)
        _check_settings(settings[0], summary.settings, file)
    return Validation(model, tuple(used), cases, files, settings[0]) if used else None


def check_comparable(validations: Sequence[Validation]) -> None:
    """Refuse models that were validated on different cases, ranges or masks."""
    first = validations[0]
    for other in validations[1:]:
        _check_settings(first.settings, other.settings, other.model.path)
        differing = sorted(set(first.cases) ^ set(other.cases))
        if differing:
            listed = ", ".join(differing[:8]) + (", ..." if len(differing) > 8 else "")
            shared = sorted(set.intersection(*(set(v.folds) for v in validations)))
            advice = f"compare the shared folds only with --folds {' '.join(shared)}, or " if shared else ""
            raise GdmError(
                "the models were validated on different cases, so their means cannot be compared",
                file=other.model.path,
                found="; ".join(f"{v.model.path.name}: folds {' '.join(v.folds)}" for v in validations),
                expected=f"the same cases; these are not in both: {listed}",
                remedy=f"{advice}train and validate the missing folds",
            )


def _check_settings(first: EvaluationSpec, other: EvaluationSpec, file: Path) -> None:
    def essence(settings: EvaluationSpec) -> tuple[object, ...]:
        return (
            settings.range,
            settings.value_range,
            settings.hounsfield,
            settings.mask,
            settings.fov_folder,
            settings.checkpoint,
        )

    if essence(first) != essence(other):
        raise GdmError(
            "validations were scored with different settings, so they cannot be compared",
            file=file,
            found=f"{other.describe()}; checkpoint {other.checkpoint or 'unknown'}",
            expected=f"{first.describe()}; checkpoint {first.checkpoint or 'unknown'}",
            remedy="validate the fold again with the command that trained it and --val",
        )


def mean_scores(cases: Mapping[str, CaseRow]) -> dict[str, float]:
    """Mean by metric over the cases of all folds; a metric that some case lacks is left out."""
    metrics = {name for row in cases.values() for name in row}
    columns = {name: [row.get(name) for row in cases.values()] for name in sorted(metrics)}
    return {
        name: float(np.mean([value for value in values if isinstance(value, int | float)]))
        for name, values in columns.items()
        if all(isinstance(value, int | float) for value in values)
    }
