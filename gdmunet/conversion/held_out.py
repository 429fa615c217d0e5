"""Groups of cases, and the choice of cases that a new data set holds out for testing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.foreign import read_bounded, reading
from gdmunet.plausibility.names import check_groups, leftovers
from gdmunet.quantities import counted, listed

Groups = dict[str, dict[str, str]]


def read_groups(file: Path) -> Groups:
    """Read a table ``case,patient[,region,...]`` (CSV with that header): case to its named groups."""
    with reading("the table of groups cannot be read", file, remedy="write it as UTF-8 text with commas"):
        text = read_bounded(file, 64 << 20).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        header, rows = reader.fieldnames or [], list(reader)
    if header[:2] != ["case", "patient"]:
        raise GdmError(
            "the table of groups has a wrong header",
            file=file,
            found=",".join(header) or "nothing",
            expected="case,patient, then any further groups such as region",
            remedy="give the first line of the table these names",
        )
    groups: Groups = {}
    for line, row in enumerate(rows, start=2):
        values = {key: (value or "").strip() for key, value in row.items() if key is not None}
        case = values.pop("case")
        if None in row or not all(values.values()) or not case or case in groups:
            raise GdmError(
                "a line of the table of groups is incomplete, too long, or its case is there already",
                case=case or None,
                file=file,
                found=f"line {line}: {','.join(str(value) for value in row.values())}",
                expected=",".join(header),
                remedy="correct that line",
            )
        groups[case] = values
    check_groups(groups, str(file))
    return groups


@dataclass(frozen=True)
class SplitOptions:
    """Choice of the cases that a new data set holds out for testing.

    Attributes
    ----------
    test
        Identifiers of the held-out cases, or one number from 0 to 1: the share of patients to hold out.
    groups
        Case to its named groups (see `read_groups`); a patient is held out as a whole.
    seed
        Seed of the draw of a share.
    """

    test: tuple[str, ...] = ()
    groups: Groups = field(default_factory=dict)
    seed: int = 12345

    def __post_init__(self) -> None:
        if isinstance(self.test, str):
            raise TypeError("test is a tuple of texts")
        if self.seed < 0:
            raise GdmError(
                "a seed is not negative", found=self.seed, expected="0 or more", remedy="give 0 or a positive number"
            )

    def groups_of(self, identifiers: Iterable[str]) -> dict[str, str | dict[str, str]]:
        """The groups of the cases, in their order, as dataset.json keeps them; empty where none are given."""
        return {identifier: self.groups[identifier] for identifier in identifiers} if self.groups else {}


def choose_test(identifiers: list[str], split: SplitOptions) -> set[str]:
    """The identifiers to hold out.

    Raises
    ------
    GdmError
        Groups of other cases, an unknown test case, a patient on both sides, or no case left to train on.
    """
    test, groups = split.test, split.groups
    _check_groups(groups, identifiers)
    patient_of = {name: groups.get(name, {}).get("patient", name) for name in identifiers}
    patients = sorted(set(patient_of.values()))
    if len(test) == 1 and test[0] not in patient_of and re.fullmatch(r"0?\.\d+|0", test[0]):
        count = round(float(test[0]) * len(patients))
        drawn = np.random.default_rng(split.seed).permutation(len(patients))[:count]
        held_out = {patients[i] for i in drawn}
    else:
        for name in test:
            if name not in patient_of:
                raise GdmError(
                    "a test case is not among the images",
                    case=name,
                    found=", ".join(sorted(patient_of)[:10]) + (" ..." if len(patient_of) > 10 else ""),
                    remedy="give identifiers as they stand there, or one share between 0 and 1",
                )
        held_out = {patient_of[name] for name in test}
        _check_whole_patients(patient_of, held_out, test)
    if len(held_out) == len(patients):
        raise GdmError(
            "no case is left to train on",
            found=f"{counted(identifiers, 'case')}, all for testing",
            remedy="hold out fewer cases with --test",
        )
    return {name for name, patient in patient_of.items() if patient in held_out}


def split_in_words(identifiers: Sequence[str], held_out: Collection[str]) -> str:
    """Such as ``7 training cases, 2 test cases held out: p03, p07``."""
    training = counted(len(identifiers) - len(held_out), "training case")
    if not held_out:
        return f"{training}, none held out for testing (--test names cases, or a share of the patients)"
    return f"{training}, {counted(held_out, 'test case')} held out: {listed(sorted(held_out))}"


def _check_whole_patients(patient_of: dict[str, str], held_out: set[str], test: Sequence[str]) -> None:
    for name, patient in patient_of.items():
        if patient in held_out and name not in test:
            raise GdmError(
                "a patient would be both trained on and tested",
                case=name,
                found=f"patient {patient} has a test case, and this one is not among them",
                remedy=f"add {name} to --test",
            )


def _check_groups(groups: Groups, identifiers: list[str]) -> None:
    """Refuse groups that do not name exactly the cases there are."""
    for finding in leftovers(identifiers, groups, "the table of groups"):
        raise GdmError(
            "the table of groups and the images do not name the same cases",
            case=min(set(identifiers) ^ set(groups)),
            found=finding.found,
            expected=finding.expected,
            remedy="give the table one line for each case",
        )
