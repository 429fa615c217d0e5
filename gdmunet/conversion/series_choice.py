"""The series that is meant where a folder of a case holds several: ``[CASE/]FOLDER=SERIES``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from gdmunet.errors import GdmError
from gdmunet.quantities import listed


@dataclass(frozen=True)
class SeriesChoice:
    """A series by number or UID, of one case or (None) of every case, and the sub-folder that holds it."""

    case: str | None
    folder: str
    series: str

    @classmethod
    def of(cls, text: str, folders: Sequence[str]) -> Self:
        """The choice that a text ``[CASE/]FOLDER=SERIES`` makes among the sub-folders of a case.

        Raises
        ------
        GdmError
            No such form, or another folder.
        """
        place, _, series = text.rpartition("=")
        for folder in sorted(folders, key=len, reverse=True):
            case = place.removesuffix(folder).removesuffix("/") or None
            if series and place == (folder if case is None else f"{case}/{folder}"):
                return cls(case, folder, series)
        raise GdmError(
            "the choice of a series does not say its folder",
            found=text,
            expected=f"FOLDER=SERIES or CASE/FOLDER=SERIES; FOLDER is {' or '.join(folders)}",
            remedy=f"write it as --series {folders[-1]}=NUMBER",
        )

    def __str__(self) -> str:
        return f"{self.folder if self.case is None else f'{self.case}/{self.folder}'}={self.series}"


def check_choices(choices: Sequence[SeriesChoice], cases: Collection[str]) -> None:
    """Refuse choices of unknown cases, and two for one folder (GdmError)."""
    unknown = sorted({choice.case for choice in choices if choice.case is not None and choice.case not in cases})
    if unknown:
        raise GdmError(
            "a series is chosen for a case that is not there",
            found=listed(unknown),
            expected=f"one of {listed(sorted(cases))}",
            remedy="correct the name before the / of --series",
        )
    places = [(choice.case, choice.folder) for choice in choices]
    if doubled := [str(choice) for choice in choices if places.count((choice.case, choice.folder)) > 1]:
        raise GdmError(
            "two series are chosen for one folder", found=" ".join(doubled), remedy="keep one of these --series"
        )


def chosen_series(choices: Sequence[SeriesChoice], case: str, folder: str) -> str | None:
    """The series that was chosen for a folder of a case; one for this case counts before one for all."""
    fitting = {choice.case: choice.series for choice in choices if choice.folder == folder}
    return fitting.get(case, fitting.get(None))
