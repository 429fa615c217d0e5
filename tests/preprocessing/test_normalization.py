"""Every scheme inverts inside its clip range; statistics come from the body alone."""

import numpy as np
import pytest

from gdmunet.errors import GdmError
from gdmunet.plans import NormalizationSpec
from gdmunet.preprocessing.normalization import IntensityMap, fit_map

SCHEMES = [
    NormalizationSpec("affine", (-1024.0, 3071.0), -150.0, 480.0),
    NormalizationSpec("percentile_zscore", (0.5, 99.5)),
]


def volume(seed=0):
    rng = np.random.default_rng(seed)
    array = rng.normal(300, 400, (9, 10, 11)).astype(np.float32)
    mask = rng.random(array.shape) < 0.5
    return array, mask


@pytest.mark.parametrize("spec", SCHEMES, ids=lambda spec: spec.scheme)
def test_each_scheme_inverts_inside_its_clip_range(spec):
    array, mask = volume()
    intensity = fit_map(array, mask, spec)
    restored = intensity.invert(intensity.apply(array))
    inside = (array >= intensity.clip_low) & (array <= intensity.clip_high)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(restored[inside], array[inside], atol=2e-3)
    np.testing.assert_allclose(restored, np.clip(array, intensity.clip_low, intensity.clip_high), atol=2e-3)


@pytest.mark.parametrize("spec", SCHEMES, ids=lambda spec: spec.scheme)
def test_the_input_is_left_alone_and_the_output_is_float32(spec):
    array, mask = volume()
    before = array.copy()
    intensity = fit_map(array, mask, spec)
    mapped = intensity.apply(array)
    untouched = mapped.copy()
    assert mapped.dtype == np.float32
    assert intensity.invert(mapped).dtype == np.float32
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(mapped, untouched)


def test_every_whole_hounsfield_unit_comes_back_exactly():
    intensity = IntensityMap(-1024.0, 3071.0, -137.3, 461.7)
    hounsfield = np.arange(-1024, 3072, dtype=np.float32)
    np.testing.assert_array_equal(np.rint(intensity.invert(intensity.apply(hounsfield))), hounsfield)


def test_zscore_gives_the_body_mean_zero_and_deviation_one():
    array, mask = volume()
    body = fit_map(array, mask, SCHEMES[1]).apply(array)[mask]
    assert body.mean() == pytest.approx(0, abs=1e-4)
    assert body.std() == pytest.approx(1, abs=1e-4)


def test_zscore_does_not_look_outside_the_body():
    array, mask = volume()
    other = np.where(mask, array, 1e6).astype(np.float32)
    assert fit_map(array, mask, SCHEMES[1]) == fit_map(other, mask, SCHEMES[1])


def test_a_body_of_one_value_is_an_error_with_a_remedy():
    array, mask = volume()
    array[mask] = 7.0
    with pytest.raises(GdmError, match="do not vary") as caught:
        fit_map(array, mask, SCHEMES[1])
    assert "remedy" in str(caught.value)


def test_an_empty_body_is_an_error():
    array, mask = volume()
    with pytest.raises(GdmError, match="no voxel"):
        fit_map(array, np.zeros_like(mask), SCHEMES[1])


@pytest.mark.parametrize("numbers", [(0, 1, 0, 0), (0, 1, 0, -1), (1, 1, 0, 1), (0, 1, float("nan"), 1)])
def test_a_map_without_an_inverse_is_refused(numbers):
    with pytest.raises(GdmError, match="cannot be inverted"):
        IntensityMap(*numbers)
