"""Fourier shell correlation and noise power: known answers for noise, blur, sharpening, shift and a second image."""

import numpy as np
import pytest
from scipy import ndimage

from gdmunet.metrics import METRICS, ValueRange
from gdmunet.metrics.metric import ImagePair
from gdmunet.metrics.spectrum import BANDS, shell_spectra

SHAPE = (72, 60, 64)
WIDE = ValueRange(-1e6, 1e6, -1e6)


def noise(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def spectra(target, prediction, mask=None):
    measured = shell_spectra(target, prediction, WIDE, mask)
    assert measured is not None
    return measured


def test_an_image_correlates_fully_with_itself_and_not_with_another():
    same, other = spectra(noise(0), noise(0)), spectra(noise(0), noise(1))
    for share in (0.25, 0.5):
        assert same.correlation(share) == pytest.approx(1)
        assert abs(other.correlation(share)) < 0.1
    assert same.noise_distance() == pytest.approx(0)
    assert other.noise_distance() < 0.3  # the same power, of other voxels


@pytest.mark.parametrize("variance", [0.25, 1.0, 4.0])
def test_white_noise_lowers_the_correlation_as_its_power_says(variance):
    """FSC of x and x + n is 1 / sqrt(1 + variance of n / variance of x) in every shell."""
    target = noise(0)
    measured = spectra(target, target + variance**0.5 * noise(1))
    for share in (0.25, 0.5):
        assert measured.correlation(share) == pytest.approx((1 + variance) ** -0.5, abs=0.02)
    for band in BANDS:
        assert measured.band_difference(band) == pytest.approx(10 * np.log10(1 + variance), abs=0.25)


@pytest.mark.parametrize("amount", [-0.6, 0.4, 1.0])
def test_a_filter_cancels_in_the_correlation_and_shows_in_the_power(amount):
    target = ndimage.gaussian_filter(noise(0), 0.7)
    filtered = target + amount * (target - ndimage.gaussian_filter(target, 1.0))
    measured = spectra(target, filtered)
    assert measured.correlation(0.25) > 0.995
    assert measured.correlation(0.5) > 0.995
    assert np.sign(measured.band_difference("high")) == np.sign(amount)
    assert measured.noise_distance() > 1


def test_blur_is_the_closed_form_in_decibel():
    """A Gaussian of sigma voxels has the power response exp(-(2 pi sigma f)^2) for frequencies f along any axis."""
    target = noise(0)
    difference = spectra(target, ndimage.gaussian_filter(target, 0.8)).band_difference("middle")
    shares = np.linspace(3.5 / 8, 5.5 / 8, 200)
    powers = np.average(np.exp(-((np.pi * 0.8 * shares) ** 2)), weights=shares**2)
    assert difference == pytest.approx(10 * np.log10(powers), abs=0.3)


def test_a_shift_keeps_the_power_and_loses_correlation():
    target = ndimage.gaussian_filter(noise(0, (64, 64, 64)), 0.7)
    measured = spectra(target, np.roll(target, 1, axis=0))
    assert measured.noise_distance() < 0.1
    # The mean of cos(k) over a sphere of radius k; a shell at s of Nyquist has k = pi s for a shift of one voxel.
    for shell in (0.25, 0.5):
        assert measured.correlation(shell) == pytest.approx(np.sinc(shell), abs=0.03)


def test_what_lies_outside_the_mask_and_the_unit_do_not_matter():
    mask = np.zeros(SHAPE, bool)
    mask[6:62, 4:46, 6:50] = True
    target, prediction = noise(0), noise(0) + noise(1)
    wild = np.where(mask, prediction, np.nan)
    one, two = spectra(target, prediction, mask), spectra(target, wild, mask)
    assert one.correlation(0.5) == two.correlation(0.5)
    scaled = spectra(100 * target, 100 * prediction + 7, mask)
    assert scaled.correlation(0.5) == pytest.approx(one.correlation(0.5), abs=1e-4)
    assert scaled.noise_distance() == pytest.approx(one.noise_distance(), abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 40, 40), (5, 40, 40), (20, 24, 28)])
def test_slices_and_small_volumes_have_spectra(shape):
    measured = spectra(noise(0, shape), noise(0, shape) + noise(1, shape))
    assert measured.correlation(0.5) == pytest.approx(0.5**0.5, abs=0.15)


def test_noise_is_measured_where_the_target_is_flat():
    """A structured half that the prediction has exactly right does not hide the noise that the flat half lacks."""
    target = noise(0, (32, 32, 128))
    target[..., :64] += 50 * ndimage.gaussian_filter(noise(1, (32, 32, 64)), 2)
    prediction = target.copy()
    prediction[..., 64:] *= 0.1
    assert spectra(target, prediction).band_difference("middle") == pytest.approx(-20, abs=0.5)


def test_a_constant_prediction_is_as_bad_as_a_score_can_be():
    flat = ImagePair(noise(0), np.full(SHAPE, -1024.0, np.float32), WIDE)
    scores = {name: METRICS[name].score(flat) for name in ("fsc_quarter", "fsc_half", "nps", "nps_low", "nps_high")}
    assert scores == {"fsc_quarter": 0.0, "fsc_half": 0.0, "nps": 100.0, "nps_low": -100.0, "nps_high": -100.0}


def test_a_constant_target_or_a_thin_mask_has_no_value():
    target, mask = noise(0), np.zeros(SHAPE, bool)
    mask[20] = True
    assert shell_spectra(target, target, WIDE, mask) is None
    flat = ImagePair(np.zeros(SHAPE, np.float32), target, WIDE)
    thin = ImagePair(target, target, WIDE, mask)
    for name in ("fsc_quarter", "fsc_half", "nps", "nps_low", "nps_middle", "nps_high"):
        assert METRICS[name].score(flat) is None
        assert METRICS[name].score(thin) is None
