"""One case from raw volumes to network units on the working grid, and a prediction exactly back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gdmunet.composition import MaskSource
from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry, Shape, Vector, canonical_axes, triple
from gdmunet.host_memory import planned_memory
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.preprocessing.normalization import IntensityMap, fit_map
from gdmunet.preprocessing.resampling import (
    check_room,
    resample,
    resample_mask,
    resampled_shape,
    room_bytes,
    thick_axis,
)
from gdmunet.quantities import counted

if TYPE_CHECKING:  # a MONAI bundle carries this file without them
    from gdmunet.dataset import DatasetDescriptor
    from gdmunet.imageio import CaseVolumes
    from gdmunet.plans import Configuration, NormalizationSpec

CropBox = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class CaseProperties:
    """The values that the way back needs.

    Attributes
    ----------
    identifier
        Identifier of the case.
    geometry
        Grid of the files.
    crop_box
        First voxel and the one behind the last, along each prepared (canonical, then transposed) axis.
    cropped_shape
        Voxels of the crop box, before resampling.
    prepared_shape
        Voxels after resampling.
    prepared_spacing
        mm along the prepared axes; exact, so up to rounding to whole voxels that of the configuration.
    condition_maps, target_map
        Maps from raw values to network units.
    mask_source
        Origin of the body mask: given, or derived from the condition.
    """

    identifier: str
    geometry: Geometry
    crop_box: CropBox
    cropped_shape: Shape
    prepared_shape: Shape
    prepared_spacing: Vector
    condition_maps: tuple[IntensityMap, ...]
    target_map: IntensityMap
    mask_source: MaskSource


@dataclass(frozen=True)
class PreparedCase:
    """A case on the working grid: condition (C, z, y, x), target (1, z, y, x) or None, mask (z, y, x) bool.

    Condition and target are float32 in network units. Outside the body mask they keep their values (context);
    the mask says what counts.
    """

    condition: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray
    properties: CaseProperties


@dataclass(frozen=True)
class CroppedCase:
    """A case in prepared axis order, cropped to its body, still in raw units on its own grid.

    `spacing` is in mm along the prepared axes; `crop_box` is relative to the whole volume.
    """

    conditions: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray
    spacing: Vector
    crop_box: CropBox
    mask_source: MaskSource


def prepared_axes(geometry: Geometry, transpose: Sequence[int]) -> AxisMap:
    """The map from file axes to prepared axes: canonical LPS (z, y, x), then `transpose`."""
    canonical = canonical_axes(geometry)
    return AxisMap(triple(canonical.order[i] for i in transpose), triple(canonical.flipped[i] for i in transpose))


def crop_case(volumes: CaseVolumes, modalities: tuple[str, ...], transpose: Sequence[int] = (0, 1, 2)) -> CroppedCase:
    """Reorient a case and cut it to the bounding box of its body mask; the target does not count.

    Parameters
    ----------
    volumes
        The case as read; without a mask, the body is derived from the conditions.
    modalities
        Word of each condition channel.
    transpose
        Prepared axis i is canonical axis ``transpose[i]``.

    Raises
    ------
    GdmError
        No body can be found; names the case.
    """
    axes = prepared_axes(volumes.geometry, transpose)
    known = with_body(volumes, modalities)
    assert known.mask is not None
    mask = axes.apply(known.mask)
    box = _bounding_box(mask)
    window = tuple(slice(low, high) for low, high in box)
    return CroppedCase(
        axes.apply(volumes.conditions)[:, *window],
        None if volumes.target is None else axes.apply(volumes.target)[window],
        np.ascontiguousarray(mask[window]),
        axes.apply_to_geometry(volumes.geometry).spacing,
        box,
        known.mask_source,
    )


def with_body(volumes: CaseVolumes, modalities: tuple[str, ...]) -> CaseVolumes:
    """The case with its body mask: the given one, else derived from the conditions.

    Raises
    ------
    GdmError
        No body can be found; names the case.
    """
    if volumes.mask is not None:
        return volumes
    canonical = canonical_axes(volumes.geometry)  # axial slices first: the configuration's axis order has no say
    spacing = canonical.apply_to_geometry(volumes.geometry).spacing
    mask = _derive(volumes.identifier, canonical.apply(volumes.conditions), modalities, spacing)
    return replace(volumes, mask=canonical.inverse().apply(mask), mask_source="derived")


def border_values(properties: CaseProperties) -> tuple[float, ...]:
    """Values beyond a volume, for each condition channel in network units: its lowest value, as in training."""
    return tuple(float(mapped.apply(np.array(mapped.clip_low))) for mapped in properties.condition_maps)


def uncrop_mask(cropped: CroppedCase, geometry: Geometry, transpose: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """The body mask (bool) of a cropped case on the grid of its file; `transpose` as it was cropped with."""
    axes = prepared_axes(geometry, transpose)
    whole = np.zeros(axes.apply_to_geometry(geometry).shape, dtype=bool)
    whole[tuple(slice(low, high) for low, high in cropped.crop_box)] = cropped.mask
    return np.ascontiguousarray(axes.inverse().apply(whole))


def prepare_case(volumes: CaseVolumes, configuration: Configuration, descriptor: DatasetDescriptor) -> PreparedCase:
    """Reorient, crop to the body, normalise and resample one case.

    Raises
    ------
    GdmError
        No body, intensities that do not vary, or a body that is smaller than a voxel of the working grid; names
        the case.
    """
    cropped = crop_case(volumes, descriptor.channels, configuration.transpose)
    return prepare_cropped(cropped, volumes.identifier, volumes.geometry, configuration, descriptor)


def prepare_cropped(
    cropped: CroppedCase,
    identifier: str,
    geometry: Geometry,
    configuration: Configuration,
    descriptor: DatasetDescriptor,
) -> PreparedCase:
    """Normalise and resample a case that `crop_case` cut in the configuration's axis order; see `prepare_case`."""
    shape: Shape = cropped.mask.shape
    wanted = working_spacing(configuration, cropped.spacing)
    new_shape = resampled_shape(shape, cropped.spacing, wanted)
    volumes = len(cropped.conditions) + (cropped.target is not None)
    check_room(new_shape, volumes, wanted, identifier)
    thick = thick_axis(cropped.spacing, wanted)

    def to_grid(array: np.ndarray, intensity: IntensityMap) -> np.ndarray:
        with planned_memory(room_bytes(new_shape, volumes), "resampling the case", identifier):
            return resample(intensity.apply(array), new_shape, configuration.order, thick)

    specs = configuration.condition_normalization
    condition_maps = tuple(
        _fit(identifier, f"channel {i} ({descriptor.channels[i]})", array, cropped.mask, specs[i])
        for i, array in enumerate(cropped.conditions)
    )
    if len(condition_maps) == 1:  # no copy: a large volume is held once
        condition = np.ascontiguousarray(to_grid(cropped.conditions[0], condition_maps[0]))[None]
    else:
        condition = np.empty((len(condition_maps), *new_shape), dtype=np.float32)
        for i, intensity in enumerate(condition_maps):
            condition[i] = to_grid(cropped.conditions[i], intensity)
    target_map = _target_map(configuration.target_normalization)
    target = None if cropped.target is None else to_grid(cropped.target, target_map)[None]
    properties = CaseProperties(
        identifier,
        geometry,
        cropped.crop_box,
        shape,
        new_shape,
        triple(old * a / b for old, a, b in zip(cropped.spacing, shape, new_shape, strict=True)),
        condition_maps,
        target_map,
        cropped.mask_source,
    )
    mask = resample_mask(cropped.mask, new_shape)
    if not mask.any():
        raise GdmError(
            "the body mask is smaller than one voxel of the working grid",
            case=identifier,
            found=f"{counted(int(cropped.mask.sum()), 'voxel')} of {_millimetres(cropped.spacing)}",
            expected=f"a body that survives resampling to {_millimetres(wanted)}",
            remedy="make the mask again, or leave the case out",
        )
    return PreparedCase(condition, None if target is None else np.ascontiguousarray(target), mask, properties)


def restore_prediction(
    prediction: np.ndarray, mask: np.ndarray, properties: CaseProperties, configuration: Configuration
) -> np.ndarray:
    """Bring a prediction back onto the grid of the file: the inverse of `prepare_case`.

    Parameters
    ----------
    prediction
        (z, y, x) in network units on the prepared grid.
    mask
        Body (z, y, x) on the prepared grid.
    properties
        Properties of the prepared case.
    configuration
        The one that the case was prepared with.

    Returns
    -------
    float32 (z, y, x) on ``properties.geometry`` in raw units, inside the target's clip range;
    ``configuration.background`` outside the crop box and the body.
    """
    axes = prepared_axes(properties.geometry, configuration.transpose)
    oriented = axes.apply_to_geometry(properties.geometry)
    thick = thick_axis(oriented.spacing, working_spacing(configuration, oriented.spacing))
    cropped = resample(prediction, properties.cropped_shape, configuration.order, thick)
    body = resample_mask(mask, properties.cropped_shape)
    whole = np.full(oriented.shape, configuration.background, dtype=np.float32)
    box = whole[tuple(slice(low, high) for low, high in properties.crop_box)]
    for row, values, inside in zip(box, cropped, body, strict=True):  # row by row: no further volume is needed
        row[inside] = properties.target_map.invert(values[inside])
    return np.ascontiguousarray(axes.inverse().apply(whole))


def predicted_body(volumes: CaseVolumes, configuration: Configuration, descriptor: DatasetDescriptor) -> np.ndarray:
    """Where a prediction of this case is not the background: bool (z, y, x) on the grid of its files.

    The body mask, given or derived, there and back through the working grid, as in `restore_prediction`.
    """
    cropped = crop_case(volumes, descriptor.channels, configuration.transpose)
    shape: Shape = cropped.mask.shape
    new_shape = resampled_shape(shape, cropped.spacing, working_spacing(configuration, cropped.spacing))
    there_and_back = resample_mask(resample_mask(cropped.mask, new_shape), shape)
    return uncrop_mask(replace(cropped, mask=there_and_back), volumes.geometry, configuration.transpose)


def working_spacing(configuration: Configuration, spacing: Sequence[float]) -> Vector:
    """The configuration's spacing as three numbers; in 2D the first prepared axis keeps the `spacing` of the case."""
    missing = 3 - len(configuration.spacing)
    return triple((*spacing[:missing], *configuration.spacing))


def _derive(identifier: str, conditions: np.ndarray, modalities: tuple[str, ...], spacing: Vector) -> np.ndarray:
    try:
        return derive_body_mask(conditions, modalities, spacing)
    except GdmError as error:
        error.located(case=identifier)
        raise


def _fit(identifier: str, what: str, array: np.ndarray, mask: np.ndarray, spec: NormalizationSpec) -> IntensityMap:
    try:
        return fit_map(array, mask, spec)
    except GdmError as error:
        error.within(what).located(case=identifier)
        raise


def _target_map(spec: NormalizationSpec) -> IntensityMap:
    if spec.scheme != "affine":
        raise GdmError(
            "the target needs one map for all cases",
            found=f"target_normalization.scheme {spec.scheme}",
            expected="affine",
            remedy="statistics of the target are unknown at prediction; set scheme affine in the plans",
        )
    return IntensityMap(*spec.clip, spec.offset, spec.scale)


def _bounding_box(mask: np.ndarray) -> CropBox:
    """The smallest box around all voxels of a mask that has some."""
    lines = [np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis))) for axis in range(3)]
    return triple((int(inside[0]), int(inside[-1]) + 1) for inside in lines)


def _millimetres(spacing: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"
