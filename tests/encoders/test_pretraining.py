"""Pretraining: what is drawn, what is compared, exact resumption."""

import math

import pytest
import torch

from gdmunet.encoders.pretraining import ENCODER_FILE, Pretraining
from gdmunet.encoders.pretraining_losses import ContrastOptions, place_contrast
from gdmunet.encoders.pretraining_options import PretrainingOptions
from gdmunet.encoders.residual import load_encoder_file
from gdmunet.encoders.views import make_views, random_mask, random_window
from gdmunet.errors import GdmError

SETTINGS = PretrainingOptions(
    dimensions=2, iterations=6, crop=32, batch_size=2, masked_windows=1, blurred_windows=1, warmup=2,
    widths=(4, 4, 8, 8), blocks=(1, 1, 1, 1),
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def source(iteration: int) -> torch.Tensor:
    return torch.randn(2, 1, SETTINGS.window, SETTINGS.window, generator=generator(iteration))


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = Pretraining(SETTINGS, source, tmp_path / "whole")
    assert whole.run()
    asked = iter([False, False, True])
    assert not Pretraining(SETTINGS, source, tmp_path / "parts").run(stop=lambda: next(asked))
    torch.manual_seed(99)  # the global random state must not matter
    assert Pretraining(SETTINGS, source, tmp_path / "parts").run()
    files = [tmp_path / name / ENCODER_FILE for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_training_moves_the_weights_and_reports_every_iteration(tmp_path):
    seen = []
    training = Pretraining(SETTINGS, source, tmp_path)
    before = [p.detach().clone() for p in training.network.parameters()]
    training.run(report=lambda iteration, losses: seen.append((iteration, losses["loss"])))
    assert [iteration for iteration, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(loss) for _, loss in seen)
    moved = [not torch.equal(a, b) for a, b in zip(before, training.network.parameters(), strict=True)]
    assert all(moved)


def test_the_exported_encoder_is_calibrated_and_plain(tmp_path):
    Pretraining(SETTINGS, source, tmp_path).run()
    network = load_encoder_file(tmp_path / ENCODER_FILE)
    deviations = [values.std() for values in network(torch.cat([source(100 + k) for k in range(8)]))]
    assert all(0.5 < float(value.detach()) < 2 for value in deviations)


def test_other_settings_are_refused_in_the_same_folder(tmp_path):
    Pretraining(SETTINGS, source, tmp_path).run(stop=lambda: True)
    other = PretrainingOptions(**{**SETTINGS.__dict__, "temperature": 0.2})
    with pytest.raises(GdmError, match=r"temperature was 0\.1"):
        Pretraining(other, source, tmp_path).run()


def test_a_crop_that_the_encoder_cannot_halve_is_refused(tmp_path):
    with pytest.raises(GdmError, match="crop"):
        Pretraining(PretrainingOptions(crop=40), source, tmp_path)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_shift_of_two_views_is_where_they_overlap(dimensions):
    line = torch.arange(40.0)
    ramp = sum(1000**axis * line.view(-1, *(1,) * (dimensions - 1 - axis)) for axis in range(dimensions))
    window = ramp.expand((40,) * dimensions)[None, None]
    views = make_views(window, 16, generator())
    # Noise and colours are far smaller than a step of the ramp: undo them by the clean view's own slope.
    slope = (views.clean[0, 0].flatten()[-1] - views.clean[0, 0].flatten()[0]) / 15
    moved = (views.second - views.first)[0, 0].mean() / slope
    wanted = sum(1000**axis * views.shift[0, axis] for axis in range(dimensions))
    assert abs(moved * sum(1000**a for a in range(dimensions)) - wanted) < 0.15 * 1000**dimensions


def test_a_window_is_a_function_of_its_seed_and_stays_inside_the_values():
    volume = torch.rand(50, 60, 40)
    first, again = (random_window(volume, 24, generator(3)) for _ in range(2))
    assert first.shape == (1, 24, 24, 24)
    assert torch.equal(first, again)
    assert first.min() >= -1 - 1e-5
    assert first.max() <= 1 + 1e-5
    assert not torch.equal(first, random_window(volume, 24, generator(4)))


def test_a_window_of_a_small_slice_is_padded_with_air():
    found = random_window(torch.ones(10, 12), 48, generator(), air=-1.0)
    assert found.shape == (1, 48, 48)
    assert (found == -1).float().mean() > 0.5


def test_the_mask_has_about_its_share_of_cells():
    shares = [float(random_mask((4, 1, 24, 24, 24), 0.6, generator(seed)).float().mean()) for seed in range(8)]
    assert all(abs(share - 0.6) < 0.06 for share in shares)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_contrast_finds_shifted_places_and_nothing_in_noise(dimensions):
    size, stride = 12, 4
    big = torch.randn(1, 16, *(size + 4,) * dimensions, generator=generator())
    at = (slice(None), slice(None))
    keys, queries = big[(*at, *[slice(0, size)] * dimensions)], big[(*at, *[slice(2, size + 2)] * dimensions)]
    images = torch.randn(1, 1, *(size * stride,) * dimensions, generator=generator(1))
    shift, decoys = torch.full((1, dimensions), 2.0 * stride), torch.zeros_like(keys)
    loss, found = place_contrast(queries, keys, decoys, images, shift, generator(2), ContrastOptions(stride, count=100))
    assert found == 1.0
    assert loss < 0.1
    noise = torch.randn(queries.shape, generator=generator(5))
    _, chance = place_contrast(noise, keys, decoys, images, shift, generator(2), ContrastOptions(stride, count=100))
    assert chance < 0.2


def test_a_sharp_place_that_is_its_own_decoy_costs_more():
    keys = torch.randn(1, 16, 8, 8, generator=generator())
    images, shift = torch.randn(1, 1, 32, 32, generator=generator(1)), torch.zeros(1, 2)
    easy, _ = place_contrast(keys, keys, torch.zeros_like(keys), images, shift, generator(2), ContrastOptions(4))
    hard, _ = place_contrast(keys, keys, keys, images, shift, generator(2), ContrastOptions(4))
    assert hard > easy + 0.05


def test_places_are_compared_in_float32_within_mixed_precision():
    """In bfloat16 two cosines of 0.99 over a temperature of 0.1 are the same number or 0.04 apart."""
    keys = torch.randn(1, 16, 8, 8, generator=generator()).bfloat16()
    queries = (keys + 0.3 * torch.randn(keys.shape, generator=generator(4))).bfloat16()
    images, shift = torch.randn(1, 1, 32, 32, generator=generator(1)), torch.zeros(1, 2)
    decoys = torch.zeros_like(keys)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = place_contrast(queries, keys, decoys, images, shift, generator(2), ContrastOptions(4))
    maps = [maps.float() for maps in (queries, keys, decoys)]
    exact, _ = place_contrast(*maps, images, shift, generator(2), ContrastOptions(4))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, exact)
