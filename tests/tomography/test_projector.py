"""The projector against scikit-image, against analytic discs, and against itself."""

import math
import typing
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import iradon, radon

from gdmunet.errors import GdmError
from gdmunet.scan_spec import MU_WATER, FilterName, ScanSpec
from gdmunet.tomography.filters import filter_response
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.reconstruction import filtered_back_projection
from gdmunet.tomography.scan_geometry import plan_geometry

HU = 1000 / MU_WATER
PARALLEL = ScanSpec(views=12)
FAN = ScanSpec(views=24, beam="fan", range_degrees=360, source_to_axis=200)
BOTH = pytest.mark.parametrize("settings", [PARALLEL, FAN], ids=["parallel", "fan"])


@pytest.fixture(autouse=True, params=[0, 12], ids=["matrices", "samples"])
def few_slices(request, monkeypatch):
    """Every test by both ways: none of its slices are few, or all are."""
    monkeypatch.setattr("gdmunet.tomography.projector.FEW_SLICES", request.param)


def projector(settings=PARALLEL, shape=(24, 24), pixel=1.5, **options):
    return Projector(plan_geometry(settings, shape, (3.0, pixel, pixel), "case"), **options)


def blobs(shape, seed=0):
    """Smooth attenuation that reaches into the corners."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for _ in range(12):
        centre, width = rng.uniform(0, 1, 2) * shape, rng.uniform(1.0, 4.0)
        image += rng.uniform(0, 1) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / width**2)
    return (MU_WATER * image).astype(np.float32)


def disc(side, pixel, radius, centre=(0.0, 0.0), fine=8):
    """A disc of water whose border pixels hold the share that it covers; centre (x, y) in mm from the axis."""
    offsets = (np.arange(side * fine) + 0.5) / fine - 0.5 - side // 2
    inside = np.hypot(*np.meshgrid(offsets * pixel - centre[0], offsets * pixel - centre[1])) <= radius
    return (MU_WATER * inside.reshape(side, fine, side, fine).mean((1, 3))).astype(np.float32)


def circle(side, diameter):
    """Of a diameter in sides: the reference's detector ends just before the corners."""
    return np.hypot(*(np.mgrid[:side, :side] - side // 2)) < diameter * side / 2


@pytest.mark.parametrize("views", [36, 720])
@pytest.mark.parametrize("side", [40, 41])
def test_parallel_agrees_with_scikit_image(views, side):
    image, pixel = blobs((side, side)) * circle(side, 1.35), 1.5
    ours = projector(ScanSpec(views=views), (side, side), pixel)
    sinogram = ours.project(torch.from_numpy(image))
    angles = np.arange(views) * 180 / views
    reference = radon(image.astype(np.float64), angles, circle=False)
    first = ours.geometry.bins // 2 - len(reference) // 2
    shared = sinogram[:, first : first + len(reference)].numpy()
    assert np.abs(shared - pixel * reference.T).max() < 1e-4
    found = filtered_back_projection(sinogram, ours).numpy()
    expected = iradon(reference, angles, output_size=side, circle=False)
    assert np.abs(found - expected).mean() * HU < 1
    assert np.abs(found - expected)[circle(side, 1.3)].max() * HU < 0.05


@pytest.mark.parametrize("name", typing.get_args(FilterName))
def test_filters_are_those_of_scikit_image(name):
    image = blobs((32, 32)) * circle(32, 1.35)
    ours = projector(ScanSpec(views=18), (32, 32), 1.0)
    angles = np.arange(18) * 10.0
    expected = iradon(radon(image.astype(float), angles, circle=False), angles, 32, name, circle=False)
    found = filtered_back_projection(ours.project(torch.from_numpy(image)), ours, name).numpy()
    # The reference's Hann window lies half a frequency beside its middle.
    assert np.abs(found - expected)[circle(32, 1.3)].max() * HU < (10 if name == "hann" else 0.05)
    assert np.abs(found - expected).mean() * HU < 1


def test_the_ramp_has_no_mean_and_the_kernel_of_its_source():
    response = filter_response(64, 2.0)
    kernel = torch.fft.irfft(response, 64) / 2  # the response is doubled, as the sum over half a turn wants it
    assert kernel[0] == pytest.approx(0.25 / 2.0)
    assert kernel[1] == pytest.approx(-1 / math.pi**2 / 2.0)
    assert kernel[2] == pytest.approx(0, abs=1e-9)
    assert abs(response[0]) < 0.02 * response[-1]


@BOTH
@pytest.mark.parametrize("shape", [(24, 24), (17, 30)])
def test_adjoint(settings, shape):
    ours = projector(settings, shape)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, *shape, generator=generator)
    y = torch.rand(3, ours.geometry.views, ours.geometry.bins, generator=generator)
    left, right = (ours.project(x) * y).sum(), (x * ours.adjoint(y)).sum()
    assert float((left - right).abs() / left.abs()) < 1e-4
    back, gathered = torch.autograd.functional.vjp(ours.back_project, y, x)
    assert float((back * x).sum()) == pytest.approx(float((y * gathered).sum()), rel=1e-4)


@BOTH
def test_gradients_are_those_of_finite_differences(settings):
    ours = projector(replace(settings, views=5), (4, 3), dtype=torch.float64)
    x = torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours.project, x)
    assert torch.autograd.gradcheck(lambda image: filtered_back_projection(ours.project(image), ours), x)


@BOTH
def test_projections_of_a_disc_are_chords(settings):
    pixel, radius, centre = 0.5, 9.0, np.array([4.0, -6.0])
    ours = projector(settings, (80, 80), pixel)
    geometry = ours.geometry
    sinogram = ours.project(torch.from_numpy(disc(80, pixel, radius, centre))).numpy()
    compared = 0
    for view, degrees in enumerate(geometry.angles):
        a = math.radians(degrees)
        n, d = np.array([math.cos(a), -math.sin(a)]), np.array([math.sin(a), math.cos(a)])
        for index, position in enumerate(geometry.bin_positions().tolist()):
            along = d if geometry.source_to_axis is None else geometry.source_to_axis * d + position * n
            along = along / np.linalg.norm(along)
            off = centre - position * n
            distance = abs(off[0] * along[1] - off[1] * along[0])
            if abs(distance - radius) > 2 * pixel:  # at the rim half a pixel decides
                chord = 2 * math.sqrt(max(radius**2 - distance**2, 0))
                assert sinogram[view, index] == pytest.approx(MU_WATER * chord, abs=0.02 * MU_WATER * 2 * radius)
                compared += chord > 0
    assert compared > 20 * geometry.views


CASES = {
    "half a turn": ScanSpec(views=180),
    "a full turn": ScanSpec(views=180, range_degrees=360, start_degrees=17),
    "fan": ScanSpec(views=360, beam="fan", range_degrees=360, source_to_axis=120),
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_many_views_give_the_disc_back_where_it_was(settings):
    image = disc(64, 0.8, 11.0, (3.0, 5.0))
    ours = projector(settings, (64, 64), 0.8)
    found = filtered_back_projection(ours.project(torch.from_numpy(image)), ours).numpy()
    y, x = (np.mgrid[:64, :64] - 32) * 0.8
    distance = np.hypot(x - 3.0, y - 5.0)
    assert abs(found[distance < 8].mean() - MU_WATER) * HU < 3
    assert np.abs(found - image)[distance < 8].max() * HU < 40
    assert np.abs(found - image)[distance > 14].mean() * HU < 20


def test_the_size_of_pixels_scales_projections_and_not_the_reconstruction():
    image = torch.from_numpy(blobs((32, 32)))
    small, large = projector(shape=(32, 32), pixel=0.5), projector(shape=(32, 32), pixel=2.0)
    assert torch.allclose(4 * small.project(image), large.project(image), rtol=1e-4)
    assert torch.allclose(*(filtered_back_projection(p.project(image), p) for p in (small, large)), atol=1e-6)


def test_slices_and_blocks_of_views_do_not_mix(monkeypatch):
    images = torch.from_numpy(np.stack([blobs((20, 22), seed) for seed in range(5)]))
    whole = projector(shape=(20, 22))
    one_by_one = torch.stack([whole.project(image) for image in images])
    assert torch.allclose(whole.project(images), one_by_one, rtol=1e-4, atol=1e-6)
    for name, value in (("BLOCK_ENTRIES", 2500), ("KEPT_BYTES", 0), ("MANY_SLICES", 2)):
        monkeypatch.setattr(f"gdmunet.tomography.projector.{name}", value)
    cut = projector(shape=(20, 22))
    assert torch.allclose(cut.project(images), one_by_one, rtol=1e-4, atol=1e-6)
    assert torch.allclose(cut.adjoint(one_by_one), whole.adjoint(one_by_one), rtol=1e-4)
    assert torch.allclose(cut.back_project(one_by_one), whole.back_project(one_by_one), rtol=1e-4, atol=1e-6)


@BOTH
@pytest.mark.parametrize("shape", [(24, 24), (17, 30), (1, 9)])
@pytest.mark.parametrize("name", ["project", "adjoint", "back_project", "gradient of back_project"])
def test_samples_and_matrices_are_one_map(monkeypatch, settings, shape, name):
    ours = projector(settings, shape, dtype=torch.float64)
    rng = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, *shape, generator=rng, dtype=torch.float64)
    sinograms = torch.randn(2, 3, ours.geometry.views, ours.geometry.bins, generator=rng, dtype=torch.float64)

    def gradient():
        values = sinograms.clone().requires_grad_()
        return torch.autograd.grad(ours.back_project(values), values, images)[0]

    maps = {
        "project": lambda: ours.project(images),
        "adjoint": lambda: ours.adjoint(sinograms),
        "back_project": lambda: ours.back_project(sinograms),
        "gradient of back_project": gradient,
    }
    monkeypatch.setattr("gdmunet.tomography.projector.FEW_SLICES", 6)
    sampled = maps[name]()
    monkeypatch.setattr("gdmunet.tomography.projector.FEW_SLICES", 5)
    # Steps of a ray that end on a pixel's border may round to either side of it, where their weight is 0.
    torch.testing.assert_close(sampled, maps[name](), rtol=1e-5, atol=1e-5)


def test_every_pixel_is_seen_from_every_side():
    for shape in ((24, 24), (25, 25), (16, 31)):
        for settings in (PARALLEL, FAN):
            ours = projector(settings, shape)
            for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
                image = torch.zeros(shape)
                image[corner] = 1
                # A pixel's projection has the pixel's area, 1.5 x 1.5 mm, but for what steps of a pixel miss.
                area = ours.project(image).sum(1) * ours.geometry.bin_size
                assert (area > 0.7 * 1.5**2).all()


def test_outside_the_field_of_view_there_is_air():
    ours = projector(ScanSpec(views=36, field_of_view=24.0), (32, 32), 1.0)
    assert ours.geometry.bins == 26
    found = filtered_back_projection(ours.project(torch.from_numpy(disc(32, 1.0, 8.0))), ours)
    y, x = np.mgrid[:32, :32] - 16
    assert (found[torch.from_numpy(np.hypot(x, y) > 12)] == 0).all()
    assert found[16, 16] == pytest.approx(MU_WATER, rel=0.05)


def test_impossible_geometries_are_refused():
    with pytest.raises(GdmError, match="not square"):
        plan_geometry(PARALLEL, (8, 8), (1.0, 1.0, 1.1), "case")
    with pytest.raises(GdmError, match="inside the scanned circle"):
        plan_geometry(FAN, (512, 512), (1.0, 1.0, 1.0), "case")
    with pytest.raises(GdmError, match="--backend rtk"):
        projector(ScanSpec(beam="cone", range_degrees=360))
    with pytest.raises(GdmError, match="half a turn"):
        ScanSpec(beam="fan")


@pytest.mark.gpu
def test_a_gpu_gives_the_same():
    images = torch.from_numpy(np.stack([blobs((32, 32), seed) for seed in range(4)]))
    for settings in (PARALLEL, FAN):
        here, there = projector(settings, (32, 32)), projector(settings, (32, 32), device="cuda")
        sinogram = here.project(images)
        assert torch.allclose(there.project(images.cuda()).cpu(), sinogram, rtol=1e-3, atol=1e-5)
        found = filtered_back_projection(sinogram.cuda(), there).cpu()
        assert torch.allclose(found, filtered_back_projection(sinogram, here), atol=1e-5)
        assert torch.allclose(there.adjoint(sinogram.cuda()).cpu(), here.adjoint(sinogram), rtol=1e-3, atol=1e-4)
