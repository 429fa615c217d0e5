"""Whole scans: self-test, orientation, back ends, files."""

import dataclasses

import numpy as np
import pytest
import torch

from gdmunet.errors import GdmError
from gdmunet.geometry import AxisMap, Geometry
from gdmunet.imageio import Volume
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography import simulation
from gdmunet.tomography.self_test import self_test
from gdmunet.tomography.simulation import reconstruct_volume, simulate_scan, stored_ct
from gdmunet.tomography.sinogram import read_sinogram, write_sinogram

FAN = {"beam": "fan", "range_degrees": 360.0}


def body(shape=(5, 30, 26), spacing=(3.0, 1.5, 1.5)):
    """An uneven body of water with bone, HU."""
    array = np.full(shape, -1000, np.float32)
    array[:, 6:20, 5:22] = 0
    array[1:4, 8:12, 8:13] = 700
    return Volume(array, Geometry(shape, spacing))


@pytest.mark.parametrize("settings", [{}, FAN, {"filter": "shepp-logan"}, {"filter": "hann"}], ids=str)
def test_a_water_cylinder_has_0_hu_and_air_minus_1000(settings):
    found = self_test(ScanSpec(views=720, **settings), side=72)
    assert found.passed, found
    assert abs(found.inside) < 5
    assert abs(found.outside + 1000) < 5


def test_the_self_test_fails_where_water_gets_another_number(monkeypatch):
    right = simulation.mu_to_hu
    monkeypatch.setattr(simulation, "mu_to_hu", lambda mu, water: right(mu * 1.01, water))
    assert not self_test(ScanSpec(views=60), side=48).passed


def test_more_views_come_nearer_to_the_ct():
    ct = body()
    errors = [np.abs(simulate_scan(ct, ScanSpec(views=n), "a").reconstruction - ct.array).mean() for n in (9, 18, 90)]
    assert errors[0] > 1.3 * errors[1] > 1.3 * errors[2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flipped", [(False, False, False), (True, False, True)])
def test_the_encoding_of_the_file_changes_nothing(order, flipped):
    ct, axes = body(), AxisMap(order, flipped)
    expected = simulate_scan(ct, ScanSpec(views=10), "a")
    turned = Volume(np.ascontiguousarray(axes.apply(ct.array)), axes.apply_to_geometry(ct.geometry))
    found = simulate_scan(turned, ScanSpec(views=10), "a")
    assert found.reconstruction.shape == turned.array.shape
    assert np.array_equal(axes.inverse().apply(found.reconstruction), expected.reconstruction)
    assert torch.equal(found.sinogram.projections, expected.sinogram.projections)


def test_slices_do_not_know_each_other():
    ct = body()
    one = Volume(ct.array[2:3], Geometry((1, *ct.geometry.shape[1:]), ct.geometry.spacing))
    settings = ScanSpec(views=12)
    whole = simulate_scan(ct, settings, "a").reconstruction[2:3]
    assert np.allclose(simulate_scan(one, settings, "a").reconstruction, whole, atol=0.01)


def test_a_field_of_view_is_air_outside_before_and_after():
    settings = ScanSpec(views=60, field_of_view=24.0)
    scan = simulate_scan(body(), settings, "a")
    assert (scan.reconstruction[~scan.field_of_view] == -1000).all()
    assert scan.field_of_view.mean() == pytest.approx(np.pi * 8**2 / (30 * 26), rel=0.05)
    # What lies beyond does not show inside.
    emptied = body()
    emptied.array[~scan.field_of_view] = -1000
    assert np.array_equal(simulate_scan(emptied, settings, "a").reconstruction, scan.reconstruction)


def test_values_are_what_a_scanner_stores():
    metal = body()
    metal.array[2, 10, 10] = 30000
    metal.array[0, 0, 0] = -3024
    found = simulate_scan(metal, ScanSpec(views=9), "a").reconstruction
    assert found.min() == -1024
    assert found.max() == 3071


def test_a_ct_is_stored_in_whole_hu_that_fit_in_12_bits():
    ct = body()
    ct.array[0, 0, :4] = -3024, 6000, 12.6, -0.4
    found = stored_ct(ct)
    assert found.array.dtype == np.int16
    assert found.geometry == ct.geometry
    assert found.array[0, 0, :4].tolist() == [-1024, 3071, 13, 0]


def test_noise_grows_with_fewer_photons():
    ct = body()
    clean = simulate_scan(ct, ScanSpec(views=90), "a").reconstruction
    spread = [(simulate_scan(ct, ScanSpec(views=90, photons=n), "a").reconstruction - clean).std() for n in (1e3, 1e5)]
    assert spread[0] == pytest.approx(10 * spread[1], rel=0.3)


@pytest.mark.parametrize("settings", [{}, FAN, {"filter": "hann"}], ids=str)
def test_a_sinogram_file_holds_all_that_its_reconstruction_needs(tmp_path, settings):
    scan = simulate_scan(body(), ScanSpec(views=8, photons=1e5, random_offset=True, **settings), "a")
    write_sinogram(tmp_path / "a.npz", scan.sinogram)
    again = read_sinogram(tmp_path / "a.npz")
    assert again.header == scan.sinogram.header
    assert torch.equal(again.projections, scan.sinogram.projections)
    assert np.array_equal(reconstruct_volume(again), scan.reconstruction)


def test_damaged_sinograms_are_refused(tmp_path):
    sinogram = simulate_scan(body(), ScanSpec(views=8), "a").sinogram
    file = tmp_path / "a.npz"
    with pytest.raises(GdmError, match="missing"):
        read_sinogram(file)
    write_sinogram(file, dataclasses.replace(sinogram, projections=sinogram.projections[:, :5]))
    with pytest.raises(GdmError, match="not what the header says"):
        read_sinogram(file)
    write_sinogram(file, dataclasses.replace(sinogram, projections=sinogram.projections * float("nan")))
    with pytest.raises(GdmError, match="not numbers"):
        read_sinogram(file)
    write_sinogram(file, sinogram)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(GdmError, match="cannot be read"):
        read_sinogram(file)
    short = dataclasses.replace(sinogram, projections=sinogram.projections[:3])
    with pytest.raises(GdmError, match="differ in their number of slices"):
        reconstruct_volume(short)


@pytest.mark.parametrize("shape", [(30, 26), (25, 25), (17, 32)])
def test_the_back_end_of_scikit_image_is_the_same(shape):
    ct = body((3, *shape))
    ours, reference = (simulate_scan(ct, ScanSpec(views=12, backend=name), "a") for name in ("torch", "skimage"))
    assert torch.allclose(ours.sinogram.projections, reference.sinogram.projections, atol=1e-4)
    assert np.abs(ours.reconstruction - reference.reconstruction).mean() < 1


def test_back_ends_say_what_they_cannot_do():
    for name, beam in (("skimage", "fan"), ("astra", "fan"), ("torch", "cone"), ("rtk", "fan")):
        with pytest.raises(GdmError, match=f"the back end {name} does not do {beam} beams"):
            simulate_scan(body(), ScanSpec(backend=name, beam=beam, range_degrees=360), "a")


@pytest.mark.parametrize(("name", "module", "settings"), [("astra", "astra", {}), ("rtk", "itk", {"beam": "cone",
    "range_degrees": 360.0})])  # fmt: skip
def test_a_missing_package_names_its_command(monkeypatch, name, module, settings):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(GdmError, match=rf"pip install 'gdmunet\[{name}\]'"):
        simulate_scan(body((4, 20, 20)), ScanSpec(backend=name, **settings), "a")


@pytest.mark.slow
def test_astra_agrees():
    pytest.importorskip("astra")
    ours, theirs = (simulate_scan(body(), ScanSpec(views=60, backend=name), "a") for name in ("torch", "astra"))
    difference = (ours.sinogram.projections - theirs.sinogram.projections).abs().mean()
    assert difference < 0.01 * ours.sinogram.projections.mean()
    assert np.abs(ours.reconstruction - theirs.reconstruction).mean() < 20


@pytest.mark.slow
def test_the_middle_of_a_cone_is_a_fan():
    if not hasattr(pytest.importorskip("itk"), "RTK"):
        pytest.skip("itk is here without its module RTK")
    ct = body((9, 30, 26))
    ct.array[:] = ct.array[2]
    fan = simulate_scan(ct, ScanSpec(views=90, **FAN), "a")
    cone = simulate_scan(ct, ScanSpec(views=90, beam="cone", range_degrees=360, backend="rtk"), "a")
    rows = cone.sinogram.projections
    difference = (rows[len(rows) // 2] - fan.sinogram.projections[4]).abs().mean()
    assert difference < 0.02 * fan.sinogram.projections.mean()
    assert np.abs(cone.reconstruction[4] - fan.reconstruction[4]).mean() < 15
    assert abs(cone.reconstruction[4, 15, 16]) < 20
