"""The two places in a NIfTI header: programs that read it put the volume in different ones if they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gdmunet.geometry import Geometry
from gdmunet.plausibility.findings import Finding


@dataclass(frozen=True)
class TwoPlaces:
    """A volume whose header holds two places: both in words, and its file, None if it came from memory."""

    found: str
    file: Path | None = None

    @classmethod
    def of(cls, geometry: Geometry, file: Path | None = None) -> tuple[TwoPlaces, ...]:
        """The two places of a volume; none if its header has one, or two that agree."""
        found = geometry.forms.disagreement(geometry.shape) if geometry.forms is not None else None
        return () if found is None else (cls(found, file),)


def check_places(places: Sequence[TwoPlaces]) -> list[Finding]:
    """Doubts about where the volumes of a case lie."""
    return [_finding(one) for one in places]


def check_place_of(geometry: Geometry) -> list[Finding]:
    """Doubts about where one volume lies whose values are scored, as warnings: the scores do not depend on it."""
    return [replace(finding, wrong=False) for finding in check_places(TwoPlaces.of(geometry))]


def _finding(one: TwoPlaces) -> Finding:
    return Finding(
        "forms",
        wrong=True,
        problem="the two places of the NIfTI header disagree: programs that read it put the volume in different places",
        found=one.found,
        expected="one place in qform and sform (RAS)",
        file=None if one.file is None else f"{one.file.parent.name}/{one.file.name}",
    )
