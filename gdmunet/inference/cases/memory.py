"""Cases from memory: arrays, SimpleITK images, and paths of files and of DICOM folders, as one case on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union, cast

import numpy as np

from gdmunet.dataset import Case
from gdmunet.dataset_names import condition_name
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes, Volume, check_mask_numbers, check_values, read_mask_values, read_volume
from gdmunet.inference.cases.source import CaseSource
from gdmunet.plausibility.masks import MaskValues
from gdmunet.plausibility.places import TwoPlaces
from gdmunet.volume_formats.itk import geometry_of
from gdmunet.volume_formats.table import stem_of

if TYPE_CHECKING:
    import SimpleITK as sitk

VolumeInput: TypeAlias = Union[np.ndarray, "sitk.Image", Volume, str, Path]


class MemoryCases(CaseSource):
    """Cases that are given as objects, to be predicted into a folder.

    Parameters
    ----------
    conditions
        Identifier to a condition as `gather_case` takes it.
    channels
        The modality words of the channels that the model needs.
    masks
        Identifier to a body mask; without one the body is derived from the condition.
    spacing
        Voxel size (z, y, x) in mm of the conditions that are arrays.
    """

    def __init__(
        self,
        conditions: Mapping[str, VolumeInput | Sequence[VolumeInput]],
        channels: Sequence[str],
        masks: Mapping[str, VolumeInput] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> None:
        self._conditions, self._channels, self._masks, self._spacing = conditions, channels, masks or {}, spacing

    def list_cases(self) -> list[Case]:
        """The given cases in their order; they have no files."""
        return [Case(identifier, ()) for identifier in self._conditions]

    def read(self, case: Case) -> CaseVolumes:
        """Bring the volumes of a case together."""
        name = case.identifier
        return gather_case(self._conditions[name], self._channels, self._masks.get(name), self._spacing, name)


def gather_case(
    condition: VolumeInput | Sequence[VolumeInput],
    channels: Sequence[str],
    mask: VolumeInput | None = None,
    spacing: Sequence[float] | None = None,
    identifier: str | None = None,
) -> CaseVolumes:
    """Bring the channels of one case and its mask together.

    Parameters
    ----------
    condition
        One volume, or one per channel: array (z, y, x), SimpleITK image, `Volume`, path of a file, or of a folder
        that holds one DICOM series.
    channels
        The modality words of the channels that are needed.
    mask
        Body, on the same grid; above 0 is body.
    spacing
        Voxel size (z, y, x) in mm; needed for arrays, which hold none, and only for them.
    identifier
        Name of the case; a file gives its own.

    Raises
    ------
    GdmError
        Wrong number of channels, different grids, or a volume that cannot be used.
    """
    inputs: list[VolumeInput] = (
        list(condition) if isinstance(condition, list | tuple) else [cast(VolumeInput, condition)]
    )
    name = identifier or _name_of(inputs[0])
    if len(inputs) != len(channels):
        raise GdmError(
            "the number of condition channels is not that of the model",
            case=name,
            found=f"{len(inputs)} volume(s)",
            expected=f"{len(channels)}: {', '.join(channels)}",
            remedy="give one volume per channel, as a list in this order",
        )
    volumes = [_condition(source, spacing, name, word) for source, word in zip(inputs, channels, strict=True)]
    geometry = volumes[0].geometry
    for word, volume in zip(channels[1:], volumes[1:], strict=True):
        _check_grid(name, f"channel {word}", volume.geometry, geometry)
    read = list(zip(volumes, inputs, strict=True))
    body, values = None, None
    if mask is not None:
        given, values = _mask(mask, spacing, name)
        _check_grid(name, "the mask", given.geometry, geometry)
        body = given.array
        read.append((given, mask))
    # One channel is a view: a large volume is not copied.
    arrays = volumes[0].array[None] if len(volumes) == 1 else np.stack([volume.array for volume in volumes])
    two = tuple(place for volume, source in read for place in TwoPlaces.of(volume.geometry, _file_of(source)))
    return CaseVolumes(name, arrays, None, body, geometry, mask_values=values, two_places=two)


def _condition(source: VolumeInput, spacing: Sequence[float] | None, name: str, word: str) -> Volume:
    if isinstance(source, str | Path):
        path = Path(source)
        return _dicom(path, name, word) if path.is_dir() else read_volume(path, name)
    volume = _in_memory(source, spacing, name)
    array = volume.array.astype(np.float32, copy=False)
    check_values(array, identifier=name)
    try:
        volume.geometry.check_size()
    except GdmError as error:
        error.located(case=name)
        raise
    return Volume(array, volume.geometry)


def _dicom(folder: Path, name: str, word: str) -> Volume:
    from gdmunet.dicom.agreement import ChannelSeries, check_case_series  # here: pydicom is needed for folders alone
    from gdmunet.dicom.reading import read_series
    from gdmunet.dicom.series import BY_FOLDER, choose_series, scan_series

    series = choose_series(scan_series(folder, name), folder=folder, case=name, remedy=BY_FOLDER)
    check_case_series([ChannelSeries(series, folder, word)], name)
    return read_series(series, case=name).volume


def _mask(source: VolumeInput, spacing: Sequence[float] | None, name: str) -> tuple[Volume, MaskValues | None]:
    if isinstance(source, str | Path):
        return read_mask_values(Path(source), name)
    volume = _in_memory(source, spacing, name)
    check_mask_numbers(volume.array, identifier=name)
    body = volume.array > 0
    if not body.any():
        raise GdmError(
            "the mask has no voxel",
            case=name,
            found="all zero",
            expected="a body mask",
            remedy="give a mask that holds the body, or none: the body is then derived",
        )
    return Volume(body, volume.geometry), MaskValues.of(volume.array)


def _in_memory(source: np.ndarray | sitk.Image | Volume, spacing: Sequence[float] | None, name: str) -> Volume:
    if isinstance(source, Volume):
        return source
    if isinstance(source, np.ndarray):
        return _of_array(source, spacing, name)
    import SimpleITK as sitk  # here: arrays and files of other formats need no ITK

    if isinstance(source, sitk.Image):
        if source.GetDimension() != 3 or source.GetNumberOfComponentsPerPixel() != 1:
            raise _not_a_volume(name, f"size {source.GetSize()}, {source.GetNumberOfComponentsPerPixel()} components")
        return Volume(sitk.GetArrayFromImage(source), _grid(source, name))
    raise GdmError(
        "this cannot be predicted",
        case=name,
        found=type(source).__name__,
        expected="a NumPy array, a SimpleITK image, a path, or a list of these",
        remedy="give one of these",
    )


def _of_array(source: np.ndarray, spacing: Sequence[float] | None, name: str) -> Volume:
    if source.ndim != 3:
        raise _not_a_volume(name, f"an array of shape {source.shape}")
    if spacing is None:
        raise GdmError(
            "an array does not say how large its voxels are",
            case=name,
            expected="spacing=(z, y, x) in mm",
            remedy="give spacing, or a SimpleITK image",
        )
    z, y, x = (float(value) for value in spacing)
    return Volume(source, Geometry(source.shape, (z, y, x)))


def _grid(image: sitk.Image, name: str) -> Geometry:
    try:
        return geometry_of(image)
    except GdmError as error:
        error.located(case=name)
        raise


def _name_of(source: VolumeInput) -> str:
    if not isinstance(source, str | Path):
        return "volume"
    path = Path(source).resolve()
    return stem_of(path).removesuffix(condition_name(""))


def _file_of(source: VolumeInput) -> Path | None:
    return Path(source) if isinstance(source, str | Path) else None


def _not_a_volume(name: str, found: str) -> GdmError:
    return GdmError(
        "not a three-dimensional volume of one value per voxel",
        case=name,
        found=found,
        expected="three axes (z, y, x)",
        remedy="give several channels as a list of volumes",
    )


def _check_grid(name: str, what: str, geometry: Geometry, expected: Geometry) -> None:
    difference = geometry.difference(expected)
    if difference:
        raise GdmError(
            f"{what} does not lie on the grid of the first channel",
            case=name,
            found=difference.found,
            expected=difference.expected,
            remedy="resample it onto the first channel's grid, for example with SimpleITK.Resample",
        )
