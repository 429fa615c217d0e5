"""CASE.json, the record of a prepared case: what it is, what it was made from, and what its arrays must hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gdmunet.formats import FileFormat
from gdmunet.preprocessing.preprocessor import CaseProperties
from gdmunet.storage_spec import StoredType


def _upgrade_1_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 holds the checksums of both arrays; before, a flipped bit in them cannot be told."""
    return {**content, "checksums": []}


def _upgrade_2_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """Version 3 holds the type of each stored channel; before, all are float32."""
    return {**content, "types": []}


CASE_FORMAT = FileFormat("prepared case", (_upgrade_1_to_2, _upgrade_2_to_3))


@dataclass(frozen=True)
class CaseOrigin:
    """Sources of a prepared case; while they are unchanged, the case is too.

    `recipe` is a hash of all settings that matter; `files` maps each source file to its size and time of change.
    """

    recipe: str = ""
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseRecord:
    """The content of CASE.json.

    Attributes
    ----------
    checksums
        CRC-32 of the files of values and mask; empty: not known.
    types
        Type in the file of each condition channel, then of the target; empty: float32 all.
    """

    properties: CaseProperties
    origin: CaseOrigin
    checksums: tuple[int, ...] = ()
    types: tuple[StoredType, ...] = ()
    version: int = CASE_FORMAT.version
