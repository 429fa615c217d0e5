"""What is a slice: a positive list. Whatever is not on it is named, with the reason, and left out.

The classes, and the elements that they require (type 1), are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

_PIXELS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_IMAGE = ("SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType", *_PIXELS)
_PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_FRAMES = ("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Numbers of a plane's elements.
_LENGTHS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}


@dataclass(frozen=True)
class ImageClass:
    """A SOP class whose images are slices of a volume.

    Attributes
    ----------
    name
        Name in words.
    modality
        Value of Modality.
    required
        Keywords of elements that must be there with a value.
    many_frames
        Whether a file holds several slices, each with its own place.
    """

    name: str
    modality: str
    required: tuple[str, ...]
    many_frames: bool = False


CLASSES: dict[str, ImageClass] = {
    CTImageStorage: ImageClass("CT image", "CT", (*_IMAGE, *_PLANE, "RescaleIntercept", "RescaleSlope")),
    EnhancedCTImageStorage: ImageClass("enhanced CT image", "CT", (*_IMAGE, *_FRAMES), True),
    LegacyConvertedEnhancedCTImageStorage: ImageClass("converted CT image", "CT", (*_IMAGE, *_FRAMES), True),
    MRImageStorage: ImageClass("MR image", "MR", (*_IMAGE, *_PLANE)),
    EnhancedMRImageStorage: ImageClass("enhanced MR image", "MR", (*_IMAGE, *_FRAMES), True),
    LegacyConvertedEnhancedMRImageStorage: ImageClass("converted MR image", "MR", (*_IMAGE, *_FRAMES), True),
}
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2")  # they differ in how a screen shows the same numbers
# Values of ImageType for images of these classes that are not planes of the scan.
_NO_PLANES = {
    "LOCALIZER": "localizer",
    "SCOUT": "localizer",
    "TOPOGRAM": "localizer",
    "SCREEN SAVE": "screenshot",
    "SCREENSHOT": "screenshot",
    "PROJECTION IMAGE": "projection",
    "MIP": "projection",
    "MINIP": "projection",
    "MAXIMUM INTENSITY PROJECTION": "projection",
    "VOLUME_RENDERED": "rendering",
    "VRT": "rendering",
}


def class_of(header: Dataset) -> ImageClass | None:
    """The class of an image; None for one that does not belong to a volume."""
    return CLASSES.get(str(header.get("SOPClassUID") or ""))


def why_not_a_slice(header: Dataset) -> str | None:
    """The reason, in words, why an object is not a slice of a volume, or several of them; None if it is."""
    try:
        return _why_not(header)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return "elements with values that cannot be read"


def _why_not(header: Dataset) -> str | None:
    kind = class_of(header)
    if kind is None:
        uid = str(header.get("SOPClassUID") or "")
        return f"{UID(uid).name} is not a CT or MR image" if uid else "no SOP class"
    if header.get("Modality") != kind.modality:
        return f"modality {header.get('Modality') or 'not said'} in a file of the class {kind.name}"
    for keyword in kind.required:
        if header.get(keyword) in (None, ""):
            return f"no {keyword}, which a {kind.name} must have"
    if int(header.SamplesPerPixel) != 1:
        return "colour images"
    if header.PhotometricInterpretation not in _PHOTOMETRIC:
        return f"photometric interpretation {header.PhotometricInterpretation}"
    words = header.ImageType if not isinstance(header.ImageType, str) else [header.ImageType]
    for word in words:
        if str(word).upper() in _NO_PLANES:
            return _NO_PLANES[str(word).upper()]
    return _why_not_bits(header) or _why_not_planes(header, kind)


def _why_not_bits(header: Dataset) -> str | None:
    allocated, stored, highest = (int(header[name].value) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    fits = allocated in (8, 16, 32) and 1 <= stored <= allocated and highest == stored - 1
    if fits and header.PixelRepresentation in (0, 1):
        return None
    return (
        f"bits that cannot be: BitsAllocated {allocated}, BitsStored {stored}, HighBit {highest}, "
        f"PixelRepresentation {header.PixelRepresentation}"
    )


def _why_not_planes(header: Dataset, kind: ImageClass) -> str | None:
    frames = int(header.get("NumberOfFrames") or 1)
    if min(int(header.Rows), int(header.Columns)) < 1:
        return f"{header.Rows} rows of {header.Columns} pixels"
    if kind.many_frames:
        places = len(header.PerFrameFunctionalGroupsSequence)
        return None if frames == places else f"{frames} frames with {places} places"
    if frames != 1:
        return f"{frames} frames in a file of the class {kind.name}, which holds one"
    for keyword, count in _LENGTHS.items():
        values = [float(value) for value in header[keyword].value]
        if len(values) != count or not all(math.isfinite(value) for value in values):
            return f"{keyword} is not {count} numbers"
    return None
