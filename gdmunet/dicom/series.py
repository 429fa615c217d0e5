"""The series of a folder, and the choice of one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from gdmunet.dicom.files import dicom_files, other_files
from gdmunet.dicom.image_classes import why_not_a_slice
from gdmunet.dicom.slices import (
    AGAINST_NORMAL,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    PRIVATE_SLICE_ORDER,
    Slice,
    read_header,
    slices_of,
)
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.quantities import counted, listed

BY_FLAG = "choose one with --series NUMBER or --series UID (the last column)"
BY_FOLDER = "choose one by its folder, or move the other series elsewhere"


class UnchosenSeriesError(GdmError):
    """A folder does not say which series is meant.

    Attributes
    ----------
    largest
        Number (UID where two share it) of the volume with the most images; None: no series is a volume.
    """

    largest: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A file that is not a part of the volume, and the reason in words."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file.name} ({self.reason})"


DAMAGED = "an element of the DICOM file is not what the standard allows"
DAMAGED_REMEDY = "export the series again, or leave it out"


@dataclass(frozen=True)
class Series:
    """The images of one series instance UID; nothing of the patient but a hash that tells two patients apart.

    Attributes
    ----------
    images
        Number of slices (of frames, if files hold several).
    slices
        Slices in no particular order; empty if the series is not a volume.
    files
        Files of the slices; all files of a series that is not a volume.
    left_out
        Further files of the series: localizers, screenshots and the like, which do not disqualify its slices.
    no_volume
        Reason, in words, why the series cannot be read as a volume; else None.
    against_normal
        Written by gdmunet from a left-handed grid, whose slices count against the normal of their rows and columns.
    patient
        Hash of the patient's ID and its issuer; empty without an ID.
    """

    uid: str
    number: int | None
    modality: str
    description: str
    frame_of_reference: str | None
    images: int
    slices: tuple[Slice, ...]
    files: tuple[Path, ...]
    no_volume: str | None = None
    against_normal: bool = False
    left_out: tuple[LeftOut, ...] = ()
    patient: str = field(default="", repr=False)

    def __str__(self) -> str:
        number = "-" if self.number is None else str(self.number)
        why = f" (no volume: {self.no_volume})" if self.no_volume else ""
        if self.left_out and not self.no_volume:
            why = f" (left out: {listed(map(str, self.left_out), 4)})"
        return f"{number:>5} {self.modality:<4} {self.images:>5} images  {self.description or '-'}  {self.uid}{why}"


def scan_series(folder: Path, case: str | None = None) -> tuple[Series, ...]:
    """All series in a folder and the folders in it, by number and UID; `left_out_of` names other files.

    Raises
    ------
    GdmError
        No such folder, no DICOM image in it, or a file that is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise GdmError("the folder is missing", case=case, file=folder, remedy="check the path")
    headers: dict[str, list[tuple[Path, Dataset]]] = {}
    for file in dicom_files(folder):
        with reading(DAMAGED, file, case=case, remedy=DAMAGED_REMEDY, private=True):
            header = read_header(file)
            headers.setdefault(str(header.get("SeriesInstanceUID") or "-"), []).append((file, header))
    if not any("Rows" in header for files in headers.values() for _, header in files):
        raise GdmError(
            "there is no DICOM image",
            case=case,
            file=folder,
            found=f"{sum(1 for _ in folder.rglob('*'))} entries, none of them a DICOM file with an image",
            expected="DICOM files (128 bytes, then DICM) of a CT or MR series, in the folder or in folders in it",
            remedy="check the path",
        )
    with reading(DAMAGED, folder, case=case, remedy=DAMAGED_REMEDY, private=True):
        series_of_folder = [_series(uid, files) for uid, files in headers.items()]
    return tuple(sorted(series_of_folder, key=lambda series: (series.number is None, series.number or 0, series.uid)))


def left_out_of(folder: Path, found: Sequence[Series], chosen: Series, place: str) -> list[str]:
    """Lines about the files of a folder that are not in the chosen series' volume; none if all are.

    Parameters
    ----------
    place
        Case and folder, as the lines name them.
    """
    others = [file.name for file in other_files(folder)]
    rest = [series for series in found if series is not chosen]
    lines = []
    if chosen.left_out:
        taken = counted(len(chosen.files), "file")
        lines.append(f"{place}: {taken} of the series taken, left out {listed(map(str, chosen.left_out))}")
    lines += [f"{place}: left out series {' '.join(str(series).split())}" for series in rest]
    if others:
        lines.append(f"{place}: left out {counted(others, 'file')}, not DICOM: {listed(others)}")
    return lines


def choose_series(
    found: Sequence[Series],
    wanted: str | None = None,
    *,
    folder: Path | None = None,
    case: str | None = None,
    remedy: str = BY_FLAG,
) -> Series:
    """The series of this UID or number; without one, the only series that is a volume.

    Parameters
    ----------
    remedy
        Way out that the command has if there are several.

    Raises
    ------
    GdmError
        None or several fit (all are listed), or the wanted one is not a volume.
    """
    if wanted is None:
        fitting = [series for series in found if series.no_volume is None]
        problem = "the folder holds several DICOM series" if fitting else "no DICOM series of the folder is a volume"
    else:
        fitting = [series for series in found if wanted in (series.uid, str(series.number))]
        problem = f"several DICOM series have the number {wanted}" if fitting else f"there is no DICOM series {wanted}"
    if len(fitting) != 1 or fitting[0].no_volume:
        error = UnchosenSeriesError(
            problem if len(fitting) != 1 else f"the series is not a volume: {fitting[0].no_volume}",
            case=case,
            file=folder,
            found="".join(f"\n    {series}" for series in found),
            expected="one series of CT or MR slices",
            remedy=remedy if any(series.no_volume is None for series in found) else "export a CT or MR series",
        )
        error.largest = _largest(found)
        raise error
    return fitting[0]


def _largest(found: Sequence[Series]) -> str | None:
    volumes = [series for series in found if series.no_volume is None]
    if not volumes:
        return None
    largest = max(volumes, key=lambda series: series.images)
    number = str(largest.number)
    return number if [str(series.number) for series in found].count(number) == 1 else largest.uid


def _series(uid: str, files: list[tuple[Path, Dataset]]) -> Series:
    reasons = {file: why_not_a_slice(header) for file, header in files}
    taken = [(file, header) for file, header in files if reasons[file] is None]
    left_out = tuple(LeftOut(file, reason) for file, reason in reasons.items() if reason)
    held = taken or files
    first = held[0][1]
    return Series(
        uid,
        _number(first.get("SeriesNumber")),
        str(first.get("Modality") or "?"),
        str(first.get("SeriesDescription") or ""),
        str(first.get("FrameOfReferenceUID") or "") or None,
        sum(_number(header.get("NumberOfFrames")) or 1 for _, header in held if "Rows" in header),
        tuple(part for file, header in taken for part in slices_of(header, file)),
        tuple(file for file, _ in held),
        None if taken else left_out[0].reason,
        _against_normal(first),
        left_out if taken else (),
        _patient(first),
    )


def _number(value: object) -> int | None:
    """A whole number; None where there is none, or something else stands in its place."""
    try:
        return int(str(value))
    except ValueError:
        return None


def _patient(header: Dataset) -> str:
    identity = [str(header.get(keyword) or "").strip() for keyword in ("PatientID", "IssuerOfPatientID")]
    return hashlib.sha256("\0".join(identity).encode()).hexdigest() if identity[0] else ""


def _against_normal(header: Dataset) -> bool:
    try:
        block = header.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
        return bool(block[PRIVATE_SLICE_ORDER].value == AGAINST_NORMAL)
    except KeyError:
        return False
