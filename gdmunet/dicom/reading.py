"""A DICOM series as a volume."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from gdmunet.dicom.geometry_check import Stack, examine
from gdmunet.dicom.repair import resample_stack
from gdmunet.dicom.series import DAMAGED, DAMAGED_REMEDY, Series
from gdmunet.dicom.slices import Slice
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.geometry import AxisMap, Geometry, triple
from gdmunet.hounsfield import HU_AIR
from gdmunet.imageio import Volume, check_values

_AIR = {"CT": HU_AIR}  # HU; for other modalities nothing is 0


@dataclass(frozen=True)
class DicomVolume:
    """A volume (float32, in HU for CT), the series that it was read from, and the changes of its geometry."""

    volume: Volume
    series: Series
    repairs: tuple[str, ...] = ()


def read_series(series: Series, fix_geometry: bool = False, case: str | None = None) -> DicomVolume:
    """Read a series, its slices sorted by their position along the normal.

    Values are slope x stored number + intercept, slice by slice. Padding (Pixel Padding Value, up to Range Limit)
    becomes the lowest value that is not padding, but at most air (-1024 HU for CT, else 0).

    Parameters
    ----------
    fix_geometry
        Whether uneven, missing, tilted or doubled slices are resampled onto a regular grid; False: refuse them.

    Raises
    ------
    GdmError
        Slices that do not form a regular grid (with the numbers), two different slices at one position, a damaged file,
        or a compression that cannot be read here.
    """
    folder = series.slices[0].file.parent
    with reading(DAMAGED, folder, case=case, remedy=DAMAGED_REMEDY, private=True):
        return _read_series(series, folder, fix_geometry, case)


def _read_series(series: Series, folder: Path, fix_geometry: bool, case: str | None) -> DicomVolume:
    stack = examine(series.slices, case)
    slices = [series.slices[i] for i in stack.order]
    if stack.problems and not fix_geometry:
        if stack.twins:  # several volumes in one series, such as phases, are refused with and without --fix-geometry
            _without_twins(_read_values(slices, series.modality, case)[0], stack, slices, case)
        raise GdmError(
            "the slices of the series do not form a regular grid",
            case=case,
            file=folder,
            found="".join(f"\n    {problem}" for problem in stack.problems),
            expected="slices at equal distances, straight above each other, one at each position",
            remedy="complete or export the series again, or resample it with --fix-geometry (linear interpolation)",
        )
    array, fill = _read_values(slices, series.modality, case)
    if stack.twins:
        keep = _without_twins(array, stack, slices, case)
        array, slices = array[keep], [slices[i] for i in keep]
        problems, stack = stack.problems, examine(slices, case)
        stack = replace(stack, problems=stack.problems)
    else:
        problems = stack.problems
    if stack.problems:
        array, geometry = resample_stack(array, stack, np.array(slices[0].position), slices[0].spacing, fill)
    else:
        geometry = _grid(array.shape, stack, slices[0])
    if series.against_normal:
        turned = AxisMap((0, 1, 2), (True, False, False))
        array, geometry = turned.apply(array), turned.apply_to_geometry(geometry)
    check_values(array, folder, case)
    try:
        geometry.check_size()
    except GdmError as error:
        error.located(case=case, file=folder)
        raise
    return DicomVolume(Volume(array, geometry), series, problems)


def _grid(shape: tuple[int, ...], stack: Stack, first: Slice) -> Geometry:
    return Geometry(
        triple(shape),
        (stack.spacing, *first.spacing),
        first.position,
        tuple(stack.axes.ravel().tolist()),
    )


def _read_values(slices: Sequence[Slice], modality: str, case: str | None) -> tuple[np.ndarray, float]:
    """All planes (n, rows, columns) float32 without padding, and the value that padding has become."""
    array = np.empty((len(slices), *slices[0].shape), dtype=np.float32)
    padded = np.zeros(array.shape, dtype=bool)
    lowest = np.inf
    files: dict[Path, Dataset] = {}
    for plane, padding, one in zip(array, padded, slices, strict=True):
        if one.file not in files:
            files = {one.file: _open(one.file, case)}  # one at a time; frames of a file follow each other mostly
        stored = _stored(files[one.file], one, case)
        padding[...] = _padding(files[one.file], stored)
        plane[...] = stored * one.slope + one.intercept
        if not padding.all():
            lowest = min(lowest, float(plane[~padding].min()))
    fill = min(lowest, _AIR.get(modality, 0.0))
    array[padded] = fill
    return array, fill


def _open(file: Path, case: str | None) -> Dataset:
    try:
        return pydicom.dcmread(file)
    except Exception:  # the file's damage may show as any exception; its text may hold what stands in the file
        raise _damaged(file, case) from None


def _stored(image: Dataset, one: Slice, case: str | None) -> np.ndarray:
    """Stored numbers (rows, columns) as float64."""
    try:
        plane = _decode(image, one)
    except Exception:
        raise _damaged(one.file, case) from None
    if plane is None:
        raise GdmError(
            "the compression of the DICOM file cannot be read here",
            case=case,
            file=one.file,
            found=image.file_meta.TransferSyntaxUID.name,
            remedy='pip install "gdmunet[dicom]" reads more compressions; or export the series uncompressed',
        )
    if plane.shape != one.shape:
        raise _damaged(one.file, case)
    if not image.file_meta.TransferSyntaxUID.is_compressed:
        plane = _within_bits(image, plane, one.file, case)
    return plane.astype(np.float64)


def _within_bits(image: Dataset, plane: np.ndarray, file: Path, case: str | None) -> np.ndarray:
    """Stored numbers of the bits that the header names; the bits above may be empty, repeat the sign, or be overlays.

    Raises
    ------
    GdmError
        Numbers that need more bits than the header says: what they mean cannot be told.
    """
    bits, signed = int(image.BitsStored), int(image.PixelRepresentation) == 1
    if bits == int(image.BitsAllocated):
        return plane
    low = plane.astype(np.int64) & (2**bits - 1)
    value: np.ndarray = np.where(signed & (low >= 2 ** (bits - 1)), low - 2**bits, low)
    fits = (plane == value) | (plane == low)
    if fits.all() or any(image.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2)):
        return value
    raise GdmError(
        "the stored numbers of the DICOM file need more bits than its header says",
        case=case,
        file=file,
        found=f"numbers from {plane.min()} to {plane.max()}",
        expected=f"BitsStored {bits}: {-(2 ** (bits - 1)) if signed else 0} to {2 ** (bits - signed) - 1}",
        remedy="export the series again",
    )


def _decode(image: Dataset, one: Slice) -> np.ndarray | None:
    """Stored numbers; None where nothing here reads the compression."""
    syntax = image.file_meta.TransferSyntaxUID
    try:
        # pydicom reads what is not compressed and RLE by itself, other compressions where its plug-ins are.
        if not syntax.is_compressed or get_decoder(syntax).is_available:
            return pixel_array(image, index=one.frame or 0, correct_unused_bits=False)
    except NotImplementedError:  # pydicom does not know the compression
        return None
    return _decode_with_itk(image) if one.frame is None else None


def _decode_with_itk(image: Dataset) -> np.ndarray | None:
    """Stored numbers by the decoders in SimpleITK, from a copy that has no rescaling: ITK would apply it."""
    bare = Dataset()
    bare.file_meta = image.file_meta
    for element in image:
        if element.tag.group in (0x0008, 0x0020, 0x0028, 0x7FE0) and not element.keyword.startswith("Rescale"):
            bare.add(element)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slice.dcm"
        bare.save_as(file, enforce_file_format=True)
        try:
            read = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        except RuntimeError:
            return None
    return read.reshape(read.shape[-2:])


def _padding(image: Dataset, stored: np.ndarray) -> np.ndarray | bool:
    """Which voxels (rows, columns) hold no image."""
    if image.get("PixelPaddingValue") in (None, ""):
        return False
    ends = [image.PixelPaddingValue]
    if image.get("PixelPaddingRangeLimit") not in (None, ""):
        ends.append(image.PixelPaddingRangeLimit)
    # Some write the bits of a negative number as an unsigned one, or the reverse.
    bits = image.BitsAllocated
    ends = [int(end) % 2**bits for end in ends]
    if image.PixelRepresentation == 1:
        ends = [end - 2**bits if end >= 2 ** (bits - 1) else end for end in ends]
    padded: np.ndarray = (stored >= min(ends)) & (stored <= max(ends))
    return padded


def _without_twins(array: np.ndarray, stack: Stack, slices: Sequence[Slice], case: str | None) -> list[int]:
    """Places of the stack without those that repeat the one before; twins of different content are an error."""
    for first, second in stack.twins:
        if not np.array_equal(array[first], array[second]):
            raise GdmError(
                "two slices of the series lie at one position and differ",
                case=case,
                file=slices[second].file,
                found=f"{slices[first].file.name} and {slices[second].file.name} at {stack.along[first]:.2f} mm; "
                f"{len(stack.twins)} such pair(s) of slices",
                expected="one slice at each position, or copies of it",
                remedy="several volumes in one series (echoes, phases, reconstructions): move each into its own folder",
            )
    repeated = {second for _, second in stack.twins}
    return [i for i in range(len(slices)) if i not in repeated]


def _damaged(file: Path, case: str | None) -> GdmError:
    return GdmError(
        "the voxels of the DICOM file cannot be read: cut short or damaged",
        case=case,
        file=file,
        remedy="export the series again",
    )
