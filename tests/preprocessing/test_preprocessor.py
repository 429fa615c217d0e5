"""Preparing a case and exactly back: in every orientation, with every odd grid that a file may bring."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry
from gdmunet.imageio import CaseVolumes
from gdmunet.plans import NormalizationSpec
from gdmunet.preprocessing.preprocessor import CaseProperties, prepare_case, restore_prediction
from gdmunet.serialization import load_json, save_json

DESCRIPTOR = DatasetDescriptor({"0": "CT"}, "CT", ".nii.gz", 1)
SHAPE = (10, 12, 14)
SPACING = (3.0, 1.0, 1.5)
OBLIQUE = tuple(np.linalg.qr([[9.0, 2.0, 1.0], [-2.0, 8.0, 3.0], [1.0, -3.0, 9.0]])[0].ravel())
ORIENTATIONS = [
    AxisMap(order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def case(geometry=None, seed=0, given_mask=True, channels=1):
    """A smooth random CT; the mask is a box that touches no face."""
    geometry = geometry or Geometry(SHAPE, SPACING, (-30.0, 12.0, 7.0))
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=geometry.shape), 1) * 800 for _ in range(channels + 1)]
    mask = np.zeros(geometry.shape, bool)
    mask[tuple(slice(min(2, n // 4), n - n // 5) for n in geometry.shape)] = True
    arrays = [field.astype(np.float32) for field in fields]
    return CaseVolumes("head", np.stack(arrays[:-1]), arrays[-1], mask if given_mask else None, geometry)


def reoriented(volumes, axes):
    """The same anatomy in a file of another axis order and direction."""
    return CaseVolumes(
        volumes.identifier,
        np.ascontiguousarray(axes.apply(volumes.conditions)),
        np.ascontiguousarray(axes.apply(volumes.target)),
        None if volumes.mask is None else np.ascontiguousarray(axes.apply(volumes.mask)),
        axes.apply_to_geometry(volumes.geometry),
    )


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("axes", ORIENTATIONS, ids=str)
def test_the_prepared_target_comes_back_within_one_hu_in_every_orientation(axes, make_configuration):
    configuration = make_configuration(spacing=(1.5, 3.0, 1.0), transpose=(2, 0, 1))
    straight = case()
    volumes = reoriented(straight, axes)
    prepared = prepare_case(volumes, configuration, DESCRIPTOR)
    restored = restore_prediction(prepared.target[0], prepared.mask, prepared.properties, configuration)
    assert prepared.properties.geometry == volumes.geometry
    assert restored.shape == volumes.geometry.shape
    assert np.abs(restored - volumes.target)[volumes.mask].max() < 1
    assert (restored[~volumes.mask] == -1024).all()
    # The prepared arrays do not know how the file was encoded ...
    reference = prepare_case(straight, configuration, DESCRIPTOR)
    np.testing.assert_array_equal(prepared.condition, reference.condition)
    np.testing.assert_array_equal(prepared.mask, reference.mask)
    # ... and every voxel lies where it lay in the world.
    index = np.array([4, 5, 6])
    place = straight.geometry.to_world(index)
    grid = np.stack(np.meshgrid(*map(np.arange, restored.shape), indexing="ij"), axis=-1)
    nearest = np.linalg.norm(volumes.geometry.to_world(grid) - place, axis=-1)
    assert nearest.min() < 1e-6
    found = restored[np.unravel_index(nearest.argmin(), restored.shape)]
    assert found == pytest.approx(straight.target[tuple(index)], abs=1)


def test_resampling_back_is_close_for_a_smooth_target(make_configuration):
    grid = np.stack(np.meshgrid(*(np.linspace(0, 2, n) for n in (20, 24, 28)), indexing="ij"))
    smooth = (300 * np.sin(grid.sum(0))).astype(np.float32)
    volumes = CaseVolumes(
        "a", smooth[None], smooth, np.ones_like(smooth, bool), Geometry(smooth.shape, (2.0, 1.0, 1.0))
    )
    configuration = make_configuration(spacing=(1.5, 1.3, 0.8))
    prepared = prepare_case(volumes, configuration, DESCRIPTOR)
    assert prepared.mask.shape == (27, 18, 35)
    restored = restore_prediction(prepared.target[0], prepared.mask, prepared.properties, configuration)
    assert np.abs(restored - smooth)[2:-2, 2:-2, 2:-2].max() < 3


def test_the_crop_does_not_look_at_the_target(make_configuration):
    volumes = case(given_mask=False)
    volumes.conditions[:] = -1000
    volumes.conditions[0, 2:8, 1:11, 2:12] = 40
    without = dataclasses.replace(volumes, target=None)
    other = dataclasses.replace(volumes, target=volumes.target[::-1].copy() * 3)
    boxes = {
        prepare_case(each, make_configuration(spacing=SPACING), DESCRIPTOR).properties.crop_box
        for each in (volumes, without, other)
    }
    assert len(boxes) == 1


def test_a_given_mask_decides_crop_and_body(make_configuration):
    volumes = case()
    prepared = prepare_case(volumes, make_configuration(spacing=SPACING), DESCRIPTOR)
    assert prepared.properties.mask_source == "given"
    assert prepared.properties.crop_box == ((2, 8), (2, 10), (2, 12))
    assert prepared.mask.all()


def test_condition_values_outside_the_body_are_kept(make_configuration):
    volumes = case()
    volumes.mask[4, 5, 6] = False
    prepared = prepare_case(volumes, make_configuration(spacing=SPACING), DESCRIPTOR)
    assert not prepared.mask[2, 3, 4]
    raw = prepared.properties.condition_maps[0].invert(prepared.condition[0])
    assert raw[2, 3, 4] == pytest.approx(volumes.conditions[0, 4, 5, 6], abs=0.01)


def test_a_derived_mask_is_the_same_whatever_the_axis_order_of_the_configuration(make_configuration):
    volumes = case(given_mask=False)
    volumes.conditions[:] = -1000
    volumes.conditions[0, 1:9, 1:11, 2:12] = 40
    volumes.conditions[0, 3:7, 4:7, 5:9] = -900  # a lung
    first = prepare_case(volumes, make_configuration(spacing=SPACING), DESCRIPTOR)
    turned = (SPACING[2], SPACING[0], SPACING[1])
    second = prepare_case(volumes, make_configuration(spacing=turned, transpose=(2, 0, 1)), DESCRIPTOR)
    assert first.properties.mask_source == "derived"
    np.testing.assert_array_equal(first.mask.transpose(2, 0, 1), second.mask)


def test_two_dimensions_keep_the_spacing_of_the_first_axis(make_configuration):
    configuration = make_configuration(spacing=(2.0, 3.0), patch=(8, 8))
    prepared = prepare_case(case(), configuration, DESCRIPTOR)
    assert prepared.mask.shape == (6, 4, 5)
    assert prepared.properties.prepared_spacing == (3.0, 2.0, 3.0)
    restored = restore_prediction(prepared.target[0], prepared.mask, prepared.properties, configuration)
    assert restored.shape == SHAPE


def test_each_channel_has_its_own_map(make_configuration):
    volumes = case(channels=2)
    volumes.conditions[1] = volumes.conditions[1] * 3 + 500
    descriptor = DatasetDescriptor({"0": "CT", "1": "MR"}, "CT", ".nii.gz", 1)
    configuration = make_configuration(spacing=SPACING, conditions=("affine", "percentile_zscore"))
    prepared = prepare_case(volumes, configuration, descriptor)
    first, second = prepared.properties.condition_maps
    assert first == prepared.properties.target_map
    body = volumes.conditions[1][volumes.mask]
    assert second.clip_low == pytest.approx(np.percentile(body, 0.5))
    assert abs(prepared.condition[1][prepared.mask].mean()) < 0.01


def test_case_properties_survive_json(tmp_path, make_configuration):
    prepared = prepare_case(case(), make_configuration(), DESCRIPTOR)
    save_json(prepared.properties, tmp_path / "case.json")
    assert load_json(CaseProperties, tmp_path / "case.json") == prepared.properties


def test_predictions_are_clipped_to_the_range_of_the_target(make_configuration):
    configuration = make_configuration(spacing=SPACING)
    prepared = prepare_case(case(), configuration, DESCRIPTOR)
    wild = np.where(np.arange(prepared.mask.size).reshape(prepared.mask.shape) % 2, 1e4, -1e4).astype(np.float32)
    restored = restore_prediction(wild, prepared.mask, prepared.properties, configuration)
    assert (restored.min(), restored.max()) == (-1024, 3071)


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((3, 40, 40), (20.0, 1.0, 1.0)),
        Geometry((20, 20, 2), (1.0, 1.0, 20.0)),
        Geometry((2, 3, 3), (4.0, 4.0, 4.0)),
        Geometry((10, 12, 14), (2.0, 1.0, 1.0), direction=OBLIQUE),
    ],
    ids=["spacing 20 to 1", "thick sagittal slices", "smaller than the patch", "oblique"],
)
def test_odd_grids_just_work(geometry, make_configuration):
    volumes = case(geometry)
    configuration = make_configuration(spacing=(2.0, 2.0, 2.0))
    prepared = prepare_case(volumes, configuration, DESCRIPTOR)
    assert np.isfinite(prepared.condition).all()
    assert prepared.condition.shape[1:] == prepared.target.shape[1:] == prepared.mask.shape
    restored = restore_prediction(prepared.target[0], prepared.mask, prepared.properties, configuration)
    assert restored.shape == geometry.shape
    assert (restored != -1024).any()


def test_a_body_smaller_than_a_working_voxel_names_the_case(make_configuration):
    volumes = case()
    volumes.mask[:] = False
    volumes.mask[2, 2, 2] = volumes.mask[9, 11, 13] = True
    with pytest.raises(GdmError, match="smaller than one voxel") as caught:
        prepare_case(volumes, make_configuration(spacing=(12.0, 12.0, 12.0)), DESCRIPTOR)
    assert "case: head" in str(caught.value)


def test_a_channel_that_does_not_vary_names_case_and_channel(make_configuration):
    volumes = case()
    volumes.conditions[0][volumes.mask] = 5
    with pytest.raises(GdmError, match="do not vary") as caught:
        prepare_case(volumes, make_configuration(conditions=("percentile_zscore",)), DESCRIPTOR)
    assert "case: head" in str(caught.value)
    assert "channel 0 (CT)" in str(caught.value)


def test_no_body_at_all_names_the_case_and_asks_for_masks(make_configuration):
    volumes = case(given_mask=False)
    volumes.conditions[:] = -1000
    volumes.conditions[0, 0, 0, 0] = 0
    with pytest.raises(GdmError, match="no body") as caught:
        prepare_case(volumes, make_configuration(), DESCRIPTOR)
    assert "case: head" in str(caught.value)
    assert "mask" in str(caught.value)


def test_a_target_scheme_that_prediction_cannot_invert_is_refused(make_configuration):
    configuration = make_configuration(target_normalization=NormalizationSpec("percentile_zscore", (0.5, 99.5)))
    with pytest.raises(GdmError, match="one map for all cases"):
        prepare_case(case(), configuration, DESCRIPTOR)
