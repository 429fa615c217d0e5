"""The slices of one DICOM file without their voxels: classic files hold one slice, enhanced ones many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from gdmunet.dicom.image_classes import class_of
from gdmunet.errors import GdmError

# Files in use break rules of form (a date with a space, a number of 17 characters). None of them matters for the
# volume, and pydicom's warnings would print what stands there, which may be the patient's.
config.settings.reading_validation_mode = config.IGNORE

# A private block of gdmunet: a left-handed grid has its slices stored against the normal of their rows and columns.
PRIVATE_GROUP, PRIVATE_CREATOR, PRIVATE_SLICE_ORDER = 0x0071, "GDMUNET", 0x01
AGAINST_NORMAL = "AGAINST NORMAL"

_HEADER: list[str | tuple[int, int]] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "Manufacturer",
    "FrameOfReferenceUID",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PatientID",
    "IssuerOfPatientID",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    (PRIVATE_GROUP, 0x10),
    (PRIVATE_GROUP, 0x1000 + PRIVATE_SLICE_ORDER),
]


@dataclass(frozen=True)
class Slice:
    """One plane of voxels and where it lies.

    Attributes
    ----------
    file, frame
        Place of its voxels; frame counts from 0, and is None if the file holds one slice.
    uid, sop_class
        SOP instance UID and SOP class UID of the file.
    shape
        Rows and columns.
    position
        World position (x, y, z) in mm of the centre of the first voxel.
    orientation
        Direction cosines: along a row (to the next column), then along a column (to the next row).
    spacing
        mm between rows, and between columns.
    thickness
        mm, or None if the file does not say it.
    slope, intercept
        Value = slope x stored number + intercept; every slice has its own.
    """

    file: Path
    frame: int | None
    uid: str
    sop_class: str
    shape: tuple[int, int]
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float | None
    slope: float
    intercept: float


def read_header(file: Path) -> Dataset:
    """The elements of a file that say its kind and its place; no voxels.

    Raises
    ------
    GdmError
        The file is cut short or damaged.
    """
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_HEADER)  # type: ignore[arg-type]
        header.decode()
        return header
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        # The kind alone: pydicom's text may hold what stands in the file.
        raise GdmError(
            "the DICOM file cannot be read: cut short or damaged",
            file=file,
            found=type(error).__name__,
            remedy="export the series again",
        ) from None


def slices_of(header: Dataset, file: Path) -> tuple[Slice, ...]:
    """The slices of a file that `why_not_a_slice` has nothing against.

    Raises
    ------
    GdmError
        A frame that does not say where it lies, or values that go through a table instead of slope and intercept.
    """
    try:
        if "PerFrameFunctionalGroupsSequence" not in header:
            return (_slice(header, file, None, [header]),)
        shared = list(header.get("SharedFunctionalGroupsSequence") or [])
        frames = header.PerFrameFunctionalGroupsSequence
        return tuple(_slice(header, file, index, _groups([frame, *shared])) for index, frame in enumerate(frames))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise GdmError(
            "the DICOM file does not say where its slices lie",
            file=file,
            expected="position, orientation, voxel spacing, and values by slope and intercept, for every slice",
            remedy="export the series again as classic CT or MR images",
        ) from None


def _groups(holders: list[Dataset]) -> list[Dataset]:
    """The items of the functional groups that place a frame and scale its values; the frame's own come first."""
    names = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    return [
        holder[name][0] for holder in holders for name in (*names, "PixelValueTransformationSequence") if name in holder
    ]


def _slice(header: Dataset, file: Path, frame: int | None, places: list[Dataset]) -> Slice:
    def find(keyword: str) -> object:
        return next((place[keyword].value for place in places if keyword in place), None)

    def numbers(keyword: str, count: int) -> tuple[float, ...]:
        values = tuple(float(value) for value in find(keyword))  # type: ignore[attr-defined]
        if len(values) != count:
            raise ValueError(keyword)
        return values

    def number(keyword: str, default: float | None) -> float | None:
        value = find(keyword)
        return default if value in (None, "") else float(value)  # type: ignore[arg-type]

    if "ModalityLUTSequence" in header:
        raise ValueError("values go through a table")
    kind = class_of(header)
    if kind is not None and kind.modality == "CT" and find("RescaleIntercept") in (None, ""):
        raise ValueError("a CT without its Hounsfield units")
    return Slice(
        file,
        frame,
        str(header.SOPInstanceUID),
        str(header.SOPClassUID),
        (int(header.Rows), int(header.Columns)),
        numbers("ImagePositionPatient", 3),  # type: ignore[arg-type]
        numbers("ImageOrientationPatient", 6),
        numbers("PixelSpacing", 2),  # type: ignore[arg-type]
        number("SliceThickness", None),
        number("RescaleSlope", 1.0) or 1.0,
        number("RescaleIntercept", 0.0) or 0.0,
    )
