"""Where voxels lie: against SimpleITK, in all orientations."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry, canonical_axes

OBLIQUE = tuple(np.linalg.qr([[9.0, 2.0, 1.0], [-2.0, 8.0, 3.0], [1.0, -3.0, 9.0]])[0].ravel())
STRAIGHT = Geometry((3, 4, 5), (2.5, 1.0, 0.75), (10.0, -20.0, 30.0))
TILTED = Geometry((3, 4, 5), (2.5, 1.0, 0.75), (10.0, -20.0, 30.0), OBLIQUE)
MAPS = [
    AxisMap(order, flipped)
    for order in itertools.permutations(range(3))
    for flipped in itertools.product((False, True), repeat=3)
]


def every_index(geometry):
    return np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)


@pytest.mark.parametrize("geometry", [STRAIGHT, TILTED], ids=["straight", "oblique"])
def test_world_positions_are_those_of_simpleitk(geometry):
    image = sitk.Image(geometry.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    for index in ((0, 0, 0), (2, 3, 4), (1, 0, 3)):
        expected = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(geometry.to_world(np.array(index)), expected, atol=1e-9)


@pytest.mark.parametrize("geometry", [STRAIGHT, TILTED], ids=["straight", "oblique"])
@pytest.mark.parametrize("axes", MAPS, ids=str)
def test_reordering_moves_no_voxel_in_the_world(axes, geometry):
    world = geometry.to_world(every_index(geometry))
    other = axes.apply_to_geometry(geometry)
    moved = np.stack([axes.apply(world[..., i]) for i in range(3)], axis=-1)
    np.testing.assert_allclose(other.to_world(every_index(other)), moved, atol=1e-9)


@pytest.mark.parametrize("axes", MAPS, ids=str)
def test_the_inverse_undoes_the_map(axes):
    array = np.arange(60).reshape(3, 4, 5)
    np.testing.assert_array_equal(axes.inverse().apply(axes.apply(array)), array)
    back = axes.inverse().apply_to_geometry(axes.apply_to_geometry(TILTED))
    assert back.difference(TILTED) is None


@pytest.mark.parametrize("geometry", [STRAIGHT, TILTED], ids=["straight", "oblique"])
@pytest.mark.parametrize("axes", MAPS, ids=str)
def test_every_encoding_of_a_volume_has_one_canonical_form(axes, geometry):
    array = np.arange(60).reshape(3, 4, 5)
    other = axes.apply_to_geometry(geometry)
    canonical = canonical_axes(other)
    np.testing.assert_array_equal(canonical.apply(axes.apply(array)), canonical_axes(geometry).apply(array))
    found = canonical.apply_to_geometry(other)
    assert found.difference(canonical_axes(geometry).apply_to_geometry(geometry)) is None
    assert (np.diag(found.matrix) > 0.5).all()


def test_axes_before_the_last_three_stay_in_place():
    array = np.arange(120).reshape(2, 3, 4, 5)
    moved = AxisMap((2, 0, 1), (True, False, False)).apply(array)
    assert moved.shape == (2, 5, 3, 4)
    assert moved[1, 0, 2, 3] == array[1, 2, 3, 4]


@pytest.mark.parametrize(
    ("shape", "spacing", "direction", "message"),
    [
        ((0, 4, 5), (1, 1, 1), STRAIGHT.direction, "at least one voxel"),
        ((4, 5), (1, 1, 1), STRAIGHT.direction, "three axes"),
        ((3, 4, 5), (1, 0, 1), STRAIGHT.direction, "spacing must be positive"),
        ((3, 4, 5), (1, float("nan"), 1), STRAIGHT.direction, "spacing must be positive"),
        ((3, 4, 5), (1, 1, 1), (1, 0, 0, 1, 1, 0, 0, 0, 1), "not orthonormal"),
        ((3, 4, 5), (1, 1, 1), (2, 0, 0, 0, 1, 0, 0, 0, 1), "not orthonormal"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(shape, spacing, direction, message):
    with pytest.raises(GdmError, match=message):
        Geometry(shape, spacing, direction=direction)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape": (3, 4, 6)}, "shape"),
        ({"spacing": (2.5, 1.0, 0.76)}, "spacing"),
        ({"origin": (10.0, -20.0, 30.1)}, "origin"),
        ({"direction": OBLIQUE}, "direction"),
    ],
)
def test_a_difference_is_said_in_words(change, word):
    values = {"shape": STRAIGHT.shape, "spacing": STRAIGHT.spacing, "origin": STRAIGHT.origin, **change}
    difference = STRAIGHT.difference(Geometry(**values))
    assert difference.found.startswith(word)
    assert difference.expected.startswith(word)
    assert str(difference).startswith(f"{word} {difference.values} against {difference.expected_values}")


def test_rounding_is_no_difference():
    nudged = Geometry((3, 4, 5), (2.50001, 1.0, 0.75), (10.001, -20.0, 30.0))
    assert STRAIGHT.difference(nudged) is None


@st.composite
def geometries(draw):
    """Any grid: a rotation from a quaternion, with or without a mirrored axis."""
    parts = st.floats(-1, 1, allow_subnormal=False)
    w, x, y, z = np.array(draw(st.tuples(parts, parts, parts, parts).filter(lambda q: np.linalg.norm(q) > 0.1)))
    rotation = np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    ) / (w * w + x * x + y * y + z * z)
    mirror = np.diag([1.0, 1.0, draw(st.sampled_from([1.0, -1.0]))])
    return Geometry(
        draw(st.tuples(*[st.integers(1, 4)] * 3)),
        draw(st.tuples(*[st.floats(0.2, 6)] * 3)),
        draw(st.tuples(*[st.floats(-500, 500)] * 3)),
        tuple((rotation @ mirror).ravel().tolist()),
    )


@given(geometries(), st.sampled_from(MAPS))
def test_any_map_keeps_every_voxel_of_any_grid_in_its_place_and_is_undone(geometry, axes):
    world = geometry.to_world(every_index(geometry))
    other = axes.apply_to_geometry(geometry)
    moved = np.stack([axes.apply(world[..., i]) for i in range(3)], axis=-1)
    np.testing.assert_allclose(other.to_world(every_index(other)), moved, atol=1e-6)
    assert axes.inverse().apply_to_geometry(other).difference(geometry) is None


@given(geometries())
def test_the_canonical_axes_of_any_grid_point_the_canonical_way(geometry):
    canonical = canonical_axes(geometry).apply_to_geometry(geometry)
    cosines = canonical.matrix
    assert (np.diag(cosines) >= -1e-9).all()
    for order in itertools.permutations(range(3)):
        assert np.trace(cosines) >= sum(abs(cosines[i, k]) for i, k in enumerate(order)) - 1e-9


@given(geometries(), st.integers(0, 2))
def test_neighbours_lie_a_voxel_apart(geometry, axis):
    step = geometry.to_world(np.eye(3)[axis]) - geometry.to_world(np.zeros(3))
    assert np.linalg.norm(step) == pytest.approx(geometry.spacing[axis], rel=1e-6)


@given(geometries(), st.floats(-5, 5), st.integers(0, 2))
def test_grids_differ_from_a_hundredth_of_a_voxel_on(geometry, shift, axis):
    origin = list(geometry.origin)
    origin[axis] += shift * min(geometry.spacing)
    difference = geometry.difference(Geometry(geometry.shape, geometry.spacing, tuple(origin), geometry.direction))
    if abs(shift) < 0.0099:
        assert difference is None
    elif abs(shift) > 0.0101:
        assert difference.quantity == "origin"
