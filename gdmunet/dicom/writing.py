"""A CT volume as a series of CT Image Storage, beside the series that it was made from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from gdmunet.atomic import atomic_folder
from gdmunet.dicom.files import is_dicom, slice_name, structures_name
from gdmunet.dicom.modules import KEPT_OF_EVERY_SERIES, KEPT_OF_THE_IMAGE, REQUIRED_BUT_MAY_BE_EMPTY
from gdmunet.dicom.series import Series
from gdmunet.dicom.slices import (
    AGAINST_NORMAL,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    PRIVATE_SLICE_ORDER,
    Slice,
    read_header,
)
from gdmunet.dicom.structures import StructureSet, copied_structure_set
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume
from gdmunet.version import __version__

_MANUFACTURER = "gdmunet"
_LONG_STRING, _SHORT_TEXT = 64, 1024  # characters of the value representations LO and ST


@dataclass(frozen=True)
class SeriesLabel:
    """The texts of a series about itself.

    Viewers list `description`; `derivation` tells how the values came about; `model` names the device.
    """

    description: str = "Synthetic CT"
    derivation: str = "Synthetic CT: predicted by a neural network, not acquired by a scanner."
    model: str = ""


def write_ct_series(
    folder: Path,
    volume: Volume,
    label: SeriesLabel,
    *,
    reference: Series | None = None,
    patient_id: str = "",
    replace: bool = False,
    structures: Sequence[StructureSet] = (),
) -> str:
    """Write a volume in HU as one file per slice, ``CT_0001.dcm``, ...; the folder appears whole or not at all.

    Parameters
    ----------
    volume
        (z, y, x) in HU; values are rounded to whole ones. Any orientation.
    reference
        The series that the volume was made from: its patient, study and frame of reference are kept. Without one
        these are new, and all that is not known stays empty.
    patient_id
        Used only without a reference.
    replace
        Whether the new series replaces one that gdmunet wrote there before; else a full folder is an error.
    structures
        Structure sets of the reference on the volume's slices, whose copies go with it: ``RS_0001.dcm``, ...

    Returns
    -------
    The new series instance UID.

    Raises
    ------
    GdmError
        Values beyond int16, a folder that is there already (or holds other things), or one that cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not replace and (not folder.is_dir() or any(folder.iterdir())):
        raise GdmError(
            "the folder of the DICOM series is not empty",
            file=folder,
            expected="an empty folder: a folder of DICOM files should hold one series",
            remedy="give another folder, or remove this one first",
        )
    check_replaceable(folder)
    common = _common(volume.geometry, label, reference, patient_id)
    sources = _source_images(volume.geometry, reference)
    uids = [generate_uid(None) for _ in volume.array]
    with atomic_folder(folder, replace=True) as building:
        for index, plane in enumerate(volume.array):
            image = _slice(common, volume.geometry, index, _whole_hu(plane, folder), sources[index])
            image.SOPInstanceUID = uids[index]
            pydicom.dcmwrite(building / slice_name(index + 1), image, enforce_file_format=True)
        for number, one in enumerate(structures, 1):
            copied = copied_structure_set(one, common, uids)
            pydicom.dcmwrite(building / structures_name(number), copied, enforce_file_format=True)
    return str(common.SeriesInstanceUID)


def check_replaceable(folder: Path, case: str | None = None) -> None:
    """Refuse to replace a folder that holds anything but slices that gdmunet wrote; one that is not there is fine.

    Raises
    ------
    GdmError
        Names the first file that is of another origin.
    """
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not _is_ours(file):
            raise GdmError(
                "the folder holds more than a series that gdmunet wrote: it is not replaced",
                case=case,
                file=file,
                expected=f"DICOM files alone, all with the Manufacturer {_MANUFACTURER}",
                remedy="give another folder for the DICOM series, or move this one elsewhere",
            )


def _is_ours(file: Path) -> bool:
    try:
        return file.is_file() and is_dicom(file) and read_header(file).get("Manufacturer") == _MANUFACTURER
    except GdmError:  # damaged: whose it is cannot be told
        return False


def _whole_hu(plane: np.ndarray, folder: Path) -> np.ndarray:
    limits = np.iinfo(np.int16)
    whole = np.rint(plane) if plane.dtype.kind == "f" else plane
    if not np.isfinite(plane).all() or whole.min() < limits.min or whole.max() > limits.max:
        raise GdmError(
            "values that a DICOM CT cannot hold",
            file=folder,
            found=f"{plane.min():g} to {plane.max():g}",
            expected=f"HU, whole numbers from {limits.min} to {limits.max}",
            remedy="check that the volume is a CT in HU",
        )
    return whole.astype("<i2")


def _common(geometry: Geometry, label: SeriesLabel, reference: Series | None, patient_id: str) -> Dataset:
    """The elements that are the same in every slice."""
    image = Dataset()
    source = pydicom.dcmread(reference.files[0], stop_before_pixels=True) if reference else Dataset()
    for keyword in (*KEPT_OF_EVERY_SERIES, *KEPT_OF_THE_IMAGE):
        if keyword in source:
            image.add(copy.deepcopy(source[keyword]))
    for keyword in REQUIRED_BUT_MAY_BE_EMPTY:
        if keyword not in image:
            setattr(image, keyword, None)
    if "SpecificCharacterSet" not in image:
        image.SpecificCharacterSet = "ISO_IR 192"
    if "BodyPartExamined" not in image and "Laterality" not in image:
        image.Laterality = None  # needed, though empty, where it is open whether the part is one of a pair
    if reference is None:
        image.StudyDate, image.StudyTime = _now()
        image.PatientID = patient_id[:_LONG_STRING]
    image.StudyInstanceUID = image.get("StudyInstanceUID") or generate_uid(None)
    image.FrameOfReferenceUID = image.get("FrameOfReferenceUID") or generate_uid(None)
    _describe_series(image, label, reference)
    _describe_pixels(image, geometry)
    return image


def _describe_series(image: Dataset, label: SeriesLabel, reference: Series | None) -> None:
    image.SOPClassUID = CTImageStorage
    image.Modality = "CT"
    image.SeriesInstanceUID = generate_uid(None)
    image.SeriesNumber = 1000 + ((reference.number or 0) if reference else 0)
    origin = f" from {reference.description}" if reference and reference.description else ""
    image.SeriesDescription = _text(f"{label.description}{origin}", _LONG_STRING)
    image.DerivationDescription = _text(label.derivation, _SHORT_TEXT)
    image.Manufacturer = _MANUFACTURER
    image.ManufacturerModelName = _text(label.model or "gdmunet", _LONG_STRING)
    image.SoftwareVersions = __version__
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    for kind in ("Series", "Content", "InstanceCreation"):
        date, time = _now()
        setattr(image, f"{kind}Date", date)
        setattr(image, f"{kind}Time", time)


def _describe_pixels(image: Dataset, geometry: Geometry) -> None:
    image.ImageOrientationPatient = [_ds(value) for value in geometry.matrix[:, :2].T.ravel()]
    image.PixelSpacing = [_ds(geometry.spacing[1]), _ds(geometry.spacing[2])]
    image.SliceThickness = _ds(geometry.spacing[0])
    image.Rows, image.Columns = geometry.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "1", "0", "HU"
    image.WindowCenter, image.WindowWidth = ["40", "500"], ["400", "2000"]
    image.WindowCenterWidthExplanation = ["SOFT TISSUE", "BONE"]
    image.BurnedInAnnotation = "NO"
    if np.linalg.det(geometry.matrix) < 0:  # DICOM has no left-handed stacks: slices are sorted along the normal
        block = image.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
        block.add_new(PRIVATE_SLICE_ORDER, "CS", AGAINST_NORMAL)


def _slice(common: Dataset, geometry: Geometry, index: int, plane: np.ndarray, source: Slice | None) -> Dataset:
    image = Dataset()
    image.update(common)
    position = geometry.to_world(np.array([index, 0, 0]))
    image.InstanceNumber = index + 1
    image.ImagePositionPatient = [_ds(value) for value in position]
    image.SliceLocation = _ds(float(position @ geometry.matrix[:, 2]))
    if source is not None:
        image.SourceImageSequence = [_reference_to(source)]
    image.PixelData = plane.tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationVersionName = "GDMUNET"
    return image


def _source_images(geometry: Geometry, reference: Series | None) -> list[Slice | None]:
    """The reference's slice that lies where each slice of the volume lies; None where there is none."""
    if reference is None or not reference.slices:
        return [None] * geometry.shape[0]
    positions = np.array([one.position for one in reference.slices])
    sources: list[Slice | None] = []
    for index in range(geometry.shape[0]):
        distances = np.linalg.norm(positions - geometry.to_world(np.array([index, 0, 0])), axis=1)
        nearest = int(np.argmin(distances))
        sources.append(reference.slices[nearest] if distances[nearest] < 0.01 * min(geometry.spacing) else None)
    return sources


def _reference_to(source: Slice) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class
    item.ReferencedSOPInstanceUID = source.uid
    if source.frame is not None:
        item.ReferencedFrameNumber = source.frame + 1
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _now() -> tuple[str, str]:
    date, time = datetime.now().strftime("%Y%m%d %H%M%S").split()
    return date, time


def _ds(value: float) -> str:
    return format_number_as_ds(0.0 if abs(value) < 1e-12 else float(value))


def _text(text: str, longest: int) -> str:
    return text.replace("\\", "/")[:longest]
