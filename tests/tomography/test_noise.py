"""Photon noise and CT values."""

import math

import numpy as np
import pytest
import torch

from gdmunet.errors import GdmError
from gdmunet.scan_spec import MU_WATER, ScanSpec
from gdmunet.tomography.attenuation import hu_to_mu, mu_to_hu
from gdmunet.tomography.noise import add_noise


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_attenuation_inverts_from_vacuum_on(kind):
    hu = np.array([-1000, -500, 0, 40, 3071], np.float32)
    assert np.asarray(mu_to_hu(hu_to_mu(kind(hu)))) == pytest.approx(hu, abs=1e-3)
    assert np.asarray(hu_to_mu(kind(np.float32([-1024, -3000])))) == pytest.approx(0, abs=1e-9)
    assert float(hu_to_mu(kind(np.float32([0])))[0]) == pytest.approx(MU_WATER)
    assert float(hu_to_mu(kind(np.float32([1000])), 0.02)[0]) == pytest.approx(0.04)


def test_noise_has_the_spread_of_photons_and_electronics():
    integrals = torch.full((1, 100, 200), 2.0)
    settings = ScanSpec(photons=1e4, electronic_noise=20.0)
    noisy = add_noise(integrals, settings, "case")
    photons = 1e4 * math.exp(-2)
    assert float(noisy.mean()) == pytest.approx(2.0, abs=0.005)
    assert float(noisy.std()) == pytest.approx(math.sqrt(photons + 20**2) / photons, rel=0.03)


def test_noise_follows_the_name_of_the_case_and_the_seed():
    integrals = torch.ones(2, 5, 6)
    settings = ScanSpec(photons=1e3)
    first = add_noise(integrals, settings, "a")
    assert torch.equal(first, add_noise(integrals, settings, "a"))
    assert not torch.equal(first, add_noise(integrals, settings, "b"))
    assert not torch.equal(first, add_noise(integrals, ScanSpec(photons=1e3, seed=1), "a"))
    assert add_noise(integrals, ScanSpec(), "a") is integrals


def test_a_ray_without_photons_stays_finite():
    noisy = add_noise(torch.full((1, 4, 50), 30.0), ScanSpec(photons=100.0, electronic_noise=2.0), "case")
    assert torch.isfinite(noisy).all()


def test_angles_start_elsewhere_only_when_asked_to():
    fixed, drawn = ScanSpec(views=4, start_degrees=3), ScanSpec(views=4, random_offset=True)
    assert fixed.angles("a") == fixed.angles("b") == (3, 48, 93, 138)
    assert drawn.angles("a") == drawn.angles("a") != drawn.angles("b")
    assert 0 <= drawn.angles("a")[0] < 45
    assert np.diff(drawn.angles("a")) == pytest.approx(45)


@pytest.mark.parametrize("wrong", [{"views": 0}, {"range_degrees": 200.0}, {"photons": 0.0}, {"electronic_noise": 5.0},
    {"mu_water": 0.0}, {"field_of_view": -1.0}, {"source_to_axis": 0.0}])  # fmt: skip
def test_impossible_scans_are_refused(wrong):
    with pytest.raises(GdmError):
        ScanSpec(**wrong)
