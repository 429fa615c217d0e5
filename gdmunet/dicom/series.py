"""The series of a folder, and the choice of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from gdmunet.dicom.files import dicom_files
from gdmunet.dicom.slices import (
    AGAINST_NORMAL,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    PRIVATE_SLICE_ORDER,
    Slice,
    read_header,
    slices_of,
    why_not_a_slice,
)
from gdmunet.errors import GdmError
from gdmunet.quantities import counted


@dataclass(frozen=True)
class Series:
    """The images of one series instance UID; nothing of the patient.

    Attributes
    ----------
    images
        Number of slices (of frames, if files hold several).
    slices
        Slices in no particular order; empty if the series is not a volume.
    no_volume
        Reason, in words, why the series cannot be read as a volume; else None.
    against_normal
        Written by gdmunet from a left-handed grid, whose slices count against the normal of their rows and columns.
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

    def __str__(self) -> str:
        number = "-" if self.number is None else str(self.number)
        why = f" (no volume: {self.no_volume})" if self.no_volume else ""
        return f"{number:>5} {self.modality:<4} {self.images:>5} images  {self.description or '-'}  {self.uid}{why}"


def scan_series(folder: Path, case: str | None = None) -> tuple[Series, ...]:
    """All series of images in a folder and the folders in it, by number and UID; other files are not looked at.

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
        header = read_header(file)
        if "Rows" in header and "SeriesInstanceUID" in header:  # no structure set, report, plan, DICOMDIR
            headers.setdefault(str(header.SeriesInstanceUID), []).append((file, header))
    if not headers:
        raise GdmError(
            "there is no DICOM image",
            case=case,
            file=folder,
            found=f"{sum(1 for _ in folder.rglob('*'))} entries, none of them a DICOM file with an image",
            expected="DICOM files (128 bytes, then DICM) of a CT or MR series, in the folder or in folders in it",
            remedy="check the path",
        )
    series_of_folder = [_series(uid, files) for uid, files in headers.items()]
    return tuple(sorted(series_of_folder, key=lambda series: (series.number is None, series.number or 0, series.uid)))


def choose_series(
    found: Sequence[Series], wanted: str | None = None, *, folder: Path | None = None, case: str | None = None
) -> Series:
    """The series of this UID or number; without one, the only series that is a volume.

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
        raise GdmError(
            problem if len(fitting) != 1 else f"the series is not a volume: {fitting[0].no_volume}",
            case=case,
            file=folder,
            found="".join(f"\n    {series}" for series in found),
            expected="one series of CT or MR slices",
            remedy="choose one with --series NUMBER or --series UID (the last column)",
        )
    return fitting[0]


def _series(uid: str, files: list[tuple[Path, Dataset]]) -> Series:
    first = files[0][1]
    reasons = [reason for _, header in files if (reason := why_not_a_slice(header))]
    why = reasons[0] if reasons else None
    if why and len(reasons) < len(files):
        why = f"{len(reasons)} of {counted(files, 'file')} do not belong to a volume: {why}"
    number = first.get("SeriesNumber")
    return Series(
        uid,
        None if number in (None, "") else int(number),
        str(first.get("Modality") or "?"),
        str(first.get("SeriesDescription") or ""),
        str(first.get("FrameOfReferenceUID") or "") or None,
        sum(int(header.get("NumberOfFrames") or 1) for _, header in files),
        () if why else tuple(part for file, header in files for part in slices_of(header, file)),
        tuple(file for file, _ in files),
        why,
        _against_normal(first),
    )


def _against_normal(header: Dataset) -> bool:
    try:
        block = header.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
        return bool(block[PRIVATE_SLICE_ORDER].value == AGAINST_NORMAL)
    except KeyError:
        return False
