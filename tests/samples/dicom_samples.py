"""Synthetic DICOM series as scanners write them, made with pydicom alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

NAME = "Doe^Jane"
PATIENT_ID = "SECRET-4711"


def make_stored(shape: tuple[int, int, int] = (6, 10, 12), seed: int = 0) -> np.ndarray:
    """Stored numbers (z, y, x) of a CT with intercept -1024; no two voxels' neighbourhoods are alike."""
    return np.random.default_rng(seed).integers(0, 3000, shape).astype(np.int16)


def make_series(
    folder: Path,
    stored: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (2.0, 1.5, 1.25),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    origin: tuple[float, float, float] = (-30.0, 12.5, 100.0),
    along: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    modality: str = "CT",
    number: int = 3,
    description: str = "Thorax",
    change: Callable[[Dataset, int], None] | None = None,
) -> str:
    """Write one file a slice, names and instance numbers shuffled; `along` in mm, `shift` (n, 2) in mm."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    names, numbers = random.permutation(len(stored)), random.permutation(len(stored))
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    along = np.arange(len(stored)) * spacing[0] if along is None else along
    shift = np.zeros((len(stored), 2)) if shift is None else shift
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for index, plane in enumerate(stored):
        image = _image(plane, modality)
        image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID = series, study, frame
        image.SeriesNumber, image.SeriesDescription, image.InstanceNumber = number, description, int(numbers[index])
        image.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
        position = np.array(origin) + along[index] * np.cross(row, column) + shift[index] @ np.stack([row, column])
        image.ImagePositionPatient = [f"{value:.10g}" for value in position]
        image.PixelSpacing, image.SliceThickness = list(spacing[1:]), spacing[0]
        if change:
            change(image, index)
        pydicom.dcmwrite(folder / f"IM{names[index]:04d}", image, enforce_file_format=True)
    return str(series)


def make_enhanced(file: Path, stored: np.ndarray, spacing: tuple[float, float, float] = (2.0, 1.5, 1.25)) -> None:
    """One file of all slices, frames from the last to the first, each with an intercept of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = _image(stored[::-1], "CT")
    image.SOPClassUID = EnhancedCTImageStorage
    image.SeriesInstanceUID, image.SeriesNumber, image.NumberOfFrames = generate_uid(), 4, len(stored)
    image.StudyInstanceUID, image.FrameOfReferenceUID = generate_uid(), generate_uid()
    del image.RescaleSlope, image.RescaleIntercept
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(spacing[1:]), spacing[0]
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in reversed(range(len(stored))):
        position, values, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-30.0, 12.5, 100.0 + index * spacing[0]]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1000 - index, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Sequence([position]), Sequence([values])
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    pydicom.dcmwrite(file, image, enforce_file_format=True)


def make_structures(
    file: Path,
    series_folder: Path,
    regions: dict[str, dict[str, np.ndarray]],
    *,
    change: Callable[[Dataset], None] | None = None,
) -> None:
    """A structure set on a series: for each region its name, and SOP instance UID of a slice to points (n, 3) in mm."""
    images = [pydicom.dcmread(one, stop_before_pixels=True) for one in sorted(series_folder.iterdir())]
    first, classes = images[0], {image.SOPInstanceUID: image.SOPClassUID for image in images}
    result = _structures_header(first)
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(uid, of) for uid, of in classes.items()]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    result.ReferencedFrameOfReferenceSequence = [frame]
    result.StructureSetROISequence, result.ROIContourSequence, result.RTROIObservationsSequence = [], [], []
    for number, (name, planes) in enumerate(regions.items(), 1):
        region, contours, observation = Dataset(), Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ROIGenerationAlgorithm = number, name, "MANUAL"
        region.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        contours.ROIDisplayColor, contours.ReferencedROINumber = [255, 10 * number, 0], number
        contours.ContourSequence = [_contour(uid, classes[uid], points) for uid, points in planes.items()]
        observation.ObservationNumber, observation.ReferencedROINumber = number, number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
        result.StructureSetROISequence.append(region)
        result.ROIContourSequence.append(contours)
        result.RTROIObservationsSequence.append(observation)
    if change:
        change(result)
    file.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(file, result, enforce_file_format=True)


def _structures_header(first: Dataset) -> Dataset:
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    result.SpecificCharacterSet = "ISO_IR 100"
    result.SOPClassUID, result.SOPInstanceUID, result.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    result.PatientName, result.PatientID, result.PatientBirthDate, result.PatientSex = NAME, PATIENT_ID, "19500101", "F"
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(result, keyword, first[keyword].value)
    result.ReferringPhysicianName, result.OperatorsName = "Roe^R", "Poe^P"
    result.SeriesInstanceUID, result.SeriesNumber, result.Manufacturer = generate_uid(), 9, "Planning Inc"
    result.SeriesDescription, result.StructureSetLabel = "Contours", "Plan A"
    result.StructureSetDate, result.StructureSetTime = "20240103", "121314"
    result.ApprovalStatus, result.ReviewDate, result.ReviewTime = "APPROVED", "20240104", "090000"
    result.ReviewerName = "Coe^C"
    return result


def _contour(uid: str, of: str, points: np.ndarray) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [_reference(uid, of)]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{value:.10g}" for value in np.ravel(points)]
    return contour


def _reference(uid: str, of: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = of, uid
    return item


def _image(stored: np.ndarray, modality: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = {"CT": CTImageStorage, "MR": MRImageStorage}[modality]
    image.SOPInstanceUID, image.Modality = generate_uid(), modality
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = NAME, PATIENT_ID, "19500101", "F"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240102", "101112", "77", "A1"
    image.ReferringPhysicianName, image.BodyPartExamined, image.PatientPosition = "Roe^R", "CHEST", "HFS"
    image.Rows, image.Columns = stored.shape[-2:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1 if stored.dtype.kind == "i" else 0
    image.RescaleSlope, image.RescaleIntercept = (1, -1024) if modality == "CT" else (1, 0)
    image.PixelData = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("<")).tobytes()
    return image
