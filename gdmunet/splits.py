"""A user's own folds: read in the forms that are in use, and checked before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from gdmunet.dataset import Case, Fold
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.quantities import counted
from gdmunet.serialization import read_json

# The two halves of a fold, as gdmunet's plans and as nnU-Net's splits_final.json name them.
_HALVES = (("training", "validation"), ("train", "val"))
_AS_NNUNET = "write the file as a list of folds with train and val, which is also that of nnU-Net's splits_final.json"
_FORM = '[{"train": ["case_1", ...], "val": ["case_2", ...]}, ...]'
_NAMED = 5


def read_splits(file: Path) -> tuple[Fold, ...]:
    """The folds of a JSON file: a list of folds, or an object whose ``folds`` is one, such as plans.

    Each fold has its halves as ``train`` and ``val`` (nnU-Net's splits_final.json) or ``training`` and ``validation``.

    Raises
    ------
    GdmError
        The file is missing, or has another form.
    """
    with reading("the file does not hold folds", file, remedy=_AS_NNUNET):
        content = read_json(file)
    if isinstance(content, dict):
        content = content.get("folds")
    if not isinstance(content, list) or not content:
        raise _form_error(file, type(content).__name__ if content else "no fold")
    return tuple(_fold(value, number, file) for number, value in enumerate(content))


def check_folds(folds: Sequence[Fold], cases: Iterable[Case], file: str | Path) -> None:
    """Refuse folds whose scores would not be those of held-out cases.

    Parameters
    ----------
    cases
        All cases of the data set.
    file
        Place of the folds, for the error.

    Raises
    ------
    GdmError
        A fold without cases in one half, a case that is not in the data set, in a half twice or in both, or a patient
        in both.
    """
    patients = {case.identifier: case.patient for case in cases}
    for number, fold in enumerate(folds):
        for half, names in (("training", fold.training), ("validation", fold.validation)):
            _check_half(f"the {half} cases of fold {number}", names, patients, file)
        _check_apart(number, fold, patients, file)


def left_out(folds: Sequence[Fold], cases: Iterable[Case]) -> tuple[str, ...]:
    """The cases that no fold trains on or holds out."""
    used = {name for fold in folds for name in (*fold.training, *fold.validation)}
    return tuple(case.identifier for case in cases if case.identifier not in used)


def held_out_twice(halves: Iterable[Collection[str]]) -> tuple[str, ...]:
    """The cases that several folds hold out, of the folds' held-out cases."""
    count = Counter(name for held_out in halves for name in held_out)
    return tuple(sorted(name for name, times in count.items() if times > 1))


def named(cases: Sequence[str]) -> str:
    """The first cases by name, and how many more there are."""
    return ", ".join(cases[:_NAMED]) + (f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else "")


def _fold(value: Any, number: int, file: Path) -> Fold:
    for training, validation in _HALVES:
        if isinstance(value, dict) and set(value) == {training, validation}:
            return Fold(*(_names(value[half], number, file) for half in (training, validation)))
    found = f"fold {number} with {', '.join(map(str, value))}" if isinstance(value, dict) else f"fold {number}: {value}"
    raise _form_error(file, found[:200])


def _names(value: Any, number: int, file: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _form_error(file, f"fold {number}: {value}"[:200])
    return tuple(value)


def _check_half(what: str, names: Sequence[str], patients: Collection[str], file: str | Path) -> None:
    twice, unknown = held_out_twice([[name] for name in names]), sorted(set(names) - set(patients))
    if not names:
        problem, case, found = f"{what} are none", None, "an empty list"
    elif twice:
        problem, case, found = f"{what} name a case twice", twice[0], named(twice)
    elif unknown:
        problem, case = f"{what} are not all in the data set", unknown[0]
        found = f"{counted(unknown, 'unknown case')}: {named(unknown)}"
    else:
        return
    raise GdmError(
        problem,
        case=case,
        file=file,
        found=found,
        expected=f"some of the {counted(patients, 'case')} of the data set, each once",
        remedy="correct the folds there, or remove them to have folds made",
    )


def _check_apart(number: int, fold: Fold, patients: dict[str, str], file: str | Path) -> None:
    both = sorted(set(fold.training) & set(fold.validation))
    trained = {patients[name] for name in fold.training}
    shared = sorted(name for name in fold.validation if patients[name] in trained)
    if not shared:
        return
    of_patients = ", ".join(sorted({patients[name] for name in shared})[:_NAMED])
    raise GdmError(
        f"{'a case' if both else 'a patient'} is in both halves of fold {number}",
        case=(both or shared)[0],
        file=file,
        found=f"in both: {named(both)}" if both else f"{counted(shared, 'held-out case')} of patients {of_patients}",
        expected="held-out cases of patients that the fold does not train on",
        remedy=f"take {'it' if both else 'all cases of a patient'} out of one half",
    )


def _form_error(file: Path, found: str) -> GdmError:
    return GdmError(
        "the file does not hold folds",
        file=file,
        found=found,
        expected=_FORM,
        remedy=_AS_NNUNET,
    )
