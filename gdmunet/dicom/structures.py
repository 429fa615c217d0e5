"""Structure sets (RTSTRUCT) of a series, copied so that they refer to a CT series on the same planes.

The contours are kept as they are, in mm of the same frame of reference; what they refer to is mapped slice by slice.
Elements and their meaning: DICOM standard PS3.3, A.19 and C.8.8.5 to C.8.8.8.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from gdmunet.dicom.geometry_check import allowed_off_grid
from gdmunet.dicom.modules import EQUIPMENT, KEPT_OF_EVERY_SERIES, REVIEW
from gdmunet.dicom.series import DAMAGED, DAMAGED_REMEDY, Series
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.geometry import Geometry

_MODALITY = "RTSTRUCT"
_FREE = ("POINT", "OPEN_NONPLANAR")  # geometric types of contours that need not lie in a plane
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management: retired, and what planning systems write
_REMEDY = "omit --rtstruct, or export a structure set that was drawn on this series"


@dataclass(frozen=True)
class StructureSet:
    """A structure set that refers to a series.

    Attributes
    ----------
    file
        File that it was read from.
    content
        All its elements, decoded.
    planes
        Index of the volume's slice on which each contour lies, in the order of the file; None for a point or a free
        curve that lies on none and refers to none.
    """

    file: Path
    content: Dataset = field(repr=False)
    planes: tuple[int | None, ...] = field(repr=False)


def structure_sets_of(
    source: Series, found: Sequence[Series], geometry: Geometry, case: str | None = None
) -> tuple[StructureSet, ...]:
    """The structure sets among the series of a folder that refer to one of them.

    Parameters
    ----------
    source, found
        The series, and all of the folder.
    geometry
        Grid of the volume on whose slices the contours have to lie.

    Raises
    ------
    GdmError
        A damaged file, contours in another frame of reference, or contours that lie on no slice or on another one than
        the slice that they refer to.
    """
    places, taken = _places(source, geometry), []
    for file, content in _referring(source, found, case):
        with reading(DAMAGED, file, case=case, remedy=DAMAGED_REMEDY, private=True):
            _check_frame(content, source)
            planes = tuple(_plane(number, contour, geometry, places) for number, contour in _contours(content))
            taken.append(StructureSet(file, content, planes))
    return tuple(taken)


def has_structure_sets(source: Series, found: Sequence[Series], case: str | None = None) -> bool:
    """Whether a structure set among the series of a folder refers to one of them."""
    return any(True for _ in _referring(source, found, case))


def copied_structure_set(structures: StructureSet, ct: Dataset, uids: Sequence[str]) -> Dataset:
    """A copy with new UIDs that refers to a CT series; contours, names, numbers and colours are those of the source.

    Parameters
    ----------
    ct
        The elements that all slices of the CT series have in common.
    uids
        SOP instance UID of each of its slices, in their order in the volume.
    """
    result: Dataset = copy.deepcopy(structures.content)
    result.remove_private_tags()  # what they refer to is not known
    _describe(result, structures.content, ct)
    study, series, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = ct.SeriesInstanceUID
    series.ContourImageSequence = [_image(uid) for uid in uids]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, ct.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = ct.FrameOfReferenceUID, [study]
    result.ReferencedFrameOfReferenceSequence = [frame]
    for plane, (_, contour) in zip(structures.planes, _contours(result), strict=True):
        if plane is not None:
            contour.ContourImageSequence = [_image(uids[plane])]
        elif "ContourImageSequence" in contour:
            del contour.ContourImageSequence
    return result


def _describe(result: Dataset, source: Dataset, ct: Dataset) -> None:
    """Patient and study of the CT, its equipment as the maker, the earlier equipment as a contributor; not reviewed."""
    for keyword in KEPT_OF_EVERY_SERIES:
        if keyword in result:
            del result[keyword]
        if keyword in ct:
            result.add(copy.deepcopy(ct[keyword]))
    result.SpecificCharacterSet = "ISO_IR 192"  # holds whatever the source's character set held
    earlier = Dataset()
    for keyword in EQUIPMENT:
        if keyword in result:
            if result[keyword].value:
                earlier.add(result[keyword])
            del result[keyword]
        if keyword in ct:
            result.add(copy.deepcopy(ct[keyword]))
    if "Manufacturer" in earlier:
        purpose = Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
        purpose.CodeMeaning = "Processing Equipment"
        earlier.PurposeOfReferenceCodeSequence = [purpose]
        result.ContributingEquipmentSequence = [*(result.get("ContributingEquipmentSequence") or []), earlier]
    for keyword in REVIEW:  # who approved contours on an MR did not see them on this CT
        if keyword in result:
            del result[keyword]
    result.ApprovalStatus = "UNAPPROVED"
    result.SOPInstanceUID, result.SeriesInstanceUID = generate_uid(None), generate_uid(None)
    result.SeriesNumber = 1000 + int(source.get("SeriesNumber") or 0)
    result.SeriesDescription = f"Structures on {ct.SeriesDescription}"[:64]
    for keyword in ("SeriesDate", "SeriesTime", "InstanceCreationDate", "InstanceCreationTime"):
        setattr(result, keyword, ct[keyword].value)
    predecessor = Dataset()
    predecessor.ReferencedSOPClassUID, predecessor.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    result.PredecessorStructureSetSequence = [predecessor]
    result.file_meta = FileMetaDataset()
    # With explicit types an element of contour points holds 64 KB at most.
    result.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    result.file_meta.ImplementationVersionName = "GDMUNET"


def _image(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
    return item


def _contours(content: Dataset) -> Iterator[tuple[int, Dataset]]:
    """Number of the region, and contour, of every contour in the order of the file."""
    for region in content.get("ROIContourSequence") or ():
        for contour in region.get("ContourSequence") or ():
            yield int(region.ReferencedROINumber), contour


def _referring(source: Series, found: Sequence[Series], case: str | None) -> Iterator[tuple[Path, Dataset]]:
    for series in found:
        for file in series.files if series.modality == _MODALITY else ():
            with reading(DAMAGED, file, case=case, remedy=DAMAGED_REMEDY, private=True):
                content = pydicom.dcmread(file)
                content.decode()
                refers = content.get("SOPClassUID") == RTStructureSetStorage and _refers(content, source)
            if refers:
                yield file, content


def _refers(content: Dataset, source: Series) -> bool:
    for frame in content.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                if series.get("SeriesInstanceUID") == source.uid:
                    return True
    uids = {one.uid for one in source.slices}
    return any(
        image.ReferencedSOPInstanceUID in uids for _, contour in _contours(content) for image in _images(contour)
    )


def _images(contour: Dataset) -> Sequence[Dataset]:
    return contour.get("ContourImageSequence") or ()


def _check_frame(content: Dataset, source: Series) -> None:
    for region in content.get("StructureSetROISequence") or ():
        if region.get("ReferencedFrameOfReferenceUID") != source.frame_of_reference:
            raise GdmError(
                "a region of the structure set lies in another frame of reference than the series that it refers to",
                found=f"region {region.get('ROINumber')}",
                expected="all regions in the frame of reference of the series",
                remedy=_REMEDY,
            )


def _places(source: Series, geometry: Geometry) -> dict[tuple[str, int | None], int]:
    """The volume's slice that lies where each slice of the series lies; those that lie between are not in it."""
    found = {}
    for one in source.slices:
        place, off = _nearest(np.array([one.position]), geometry)
        if off <= allowed_off_grid(geometry.spacing[0]):
            found[one.uid, one.frame] = place
    return found


def _nearest(points: np.ndarray, geometry: Geometry) -> tuple[int, float]:
    """The slice nearest to points (n, 3) in mm, and how far the farthest of them lies from its plane, in mm."""
    along = (points - np.array(geometry.origin)) @ geometry.matrix[:, 2]
    place = min(max(round(float(along.mean()) / geometry.spacing[0]), 0), geometry.shape[0] - 1)
    return place, float(np.abs(along - place * geometry.spacing[0]).max())


def _plane(number: int, contour: Dataset, geometry: Geometry, places: dict[tuple[str, int | None], int]) -> int | None:
    points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
    referred: set[int] = set()
    for image in _images(contour):
        frame = int(image.get("ReferencedFrameNumber") or 0)
        key = (str(image.ReferencedSOPInstanceUID), frame - 1 if frame else None)
        referred |= {places[key]} if key in places else set()
    place, off = _nearest(points, geometry)
    allowed = allowed_off_grid(geometry.spacing[0])
    if off > allowed and contour.ContourGeometricType in _FREE:
        return referred.pop() if len(referred) == 1 else None
    if off > allowed:
        raise GdmError(
            "a contour of the structure set lies on no slice of the predicted CT",
            found=f"region {number}: points up to {off:.2f} mm from the nearest slice, number {place + 1} of "
            f"{geometry.shape[0]}",
            expected=f"contours in the planes of the slices, {geometry.spacing[0]:g} mm apart, to {allowed:.3g} mm",
            remedy=_REMEDY,
        )
    if referred and referred != {place}:
        raise GdmError(
            "a contour of the structure set lies on another slice than the one that it refers to",
            found=f"region {number}: points on slice {place + 1}, which refer to slice "
            f"{', '.join(str(other + 1) for other in sorted(referred))}",
            expected="contours in the plane of their slice",
            remedy=_REMEDY,
        )
    return place
