"""The validation of a trained model over its folds, read from results and made comparable."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.summary import CaseRow, EvaluationSpec, load_summary
from gdmunet.quantities import counted
from gdmunet.results import ModelFolder
from gdmunet.splits import held_out_twice, named
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
    notes
        Lines for people: cases that several folds hold out, and what could not be compared.
    """

    model: ModelFolder
    folds: tuple[str, ...]
    cases: dict[str, CaseRow]
    files: dict[str, Path]
    settings: EvaluationSpec
    notes: tuple[str, ...] = ()


def read_validation(model: ModelFolder, folds: Sequence[str] | None = None) -> Validation | None:
    """Put the folds' validation summaries together; None where no (chosen) fold was validated.

    Raises
    ------
    GdmError
        A case without scores, folds that were scored with different settings, or whose weights were made from
        different plans or by different trainers.
    """
    used: list[str] = []
    cases: dict[str, CaseRow] = {}
    files: dict[str, Path] = {}
    settings: list[EvaluationSpec] = []
    held_out: list[Collection[str]] = []
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
        held_out.append(summary.cases)
        cases |= summary.cases
        files |= {name: path for name, path in find_volumes(file.parent).items() if name in summary.cases}
        settings.append(summary.settings)
        _check_settings(settings[0], summary.settings, file)
        _check_weights(settings[0], summary.settings, file)
    return Validation(model, tuple(used), cases, files, settings[0], _notes(model, held_out)) if used else None


def _check_weights(first: EvaluationSpec, other: EvaluationSpec, file: Path) -> None:
    """Refuse folds whose weights do not belong to one model."""
    differing = [name for name in other.provenance.differing(first.provenance) if name not in ("split", "settings")]
    if differing:
        raise GdmError(
            f"the folds were trained with different {' and '.join(differing)}, so their scores are not of one model",
            file=file,
            found=", ".join(f"{name} {vars(other.provenance)[name][:12]}" for name in differing),
            expected=", ".join(f"{name} {vars(first.provenance)[name][:12]}" for name in differing),
            remedy="choose folds that belong together with --folds, or train the others anew",
        )


def _notes(model: ModelFolder, held_out: Sequence[Collection[str]]) -> tuple[str, ...]:
    twice = held_out_twice(held_out)
    if not twice:
        return ()
    return (
        f"note: {model.path.name}: {counted(twice, 'case')} are held out by several folds; each counts once, with the "
        f"scores of the last of them: {named(twice)}",
    )


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
