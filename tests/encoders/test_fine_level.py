"""The level at stride 1: the same numbers as its convolution, its calibration, its file, its training."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from test_pretraining import SETTINGS, source
from torch.nn import functional

from gdmunet.encoders.fine import FineLevel, load_fine_level, save_fine_level, window_statistics
from gdmunet.encoders.pretraining import ENCODER_FILE, Pretraining
from gdmunet.encoders.pretraining_losses import ContrastOptions, texture_contrast
from gdmunet.encoders.residual import load_encoder_file, random_encoder, save_encoder
from gdmunet.errors import GdmError

FINE = replace(SETTINGS, fine=4)


def level_of(dimensions: int = 2, channels: int = 4) -> FineLevel:
    torch.manual_seed(0)
    fine = FineLevel(dimensions, channels)
    with torch.no_grad():
        fine.filters.bias.normal_()
    return fine


@pytest.mark.parametrize("dimensions", [2, 3])
def test_blocks_of_voxels_give_the_convolution_and_its_gradients(dimensions):
    fine = level_of(dimensions)
    volume = torch.randn(2, 1, *(12, 8, 10)[:dimensions], requires_grad=True)
    found, wanted = fine(volume), fine.filters(volume)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(found)
    inputs = (volume, fine.filters.weight, fine.filters.bias)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((wanted * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_calibrated_filters_have_mean_0_and_a_deviation_of_1_inside_windows(dimensions):
    fine = level_of(dimensions)
    volumes = torch.randn(3, 1, *(16,) * dimensions) + 2
    fine.calibrate(volumes)
    values = fine(volumes)
    axes = (0, *range(2, values.ndim))
    assert torch.allclose(values.mean(axes), torch.zeros(4), atol=1e-4)
    _, deviation = window_statistics(values, 8)
    assert torch.allclose(deviation.square().mean(axes), torch.ones(4), atol=1e-3)


def test_window_statistics_are_those_of_every_tile_also_far_from_zero():
    values = torch.randn(1, 2, 8, 12) + 1000
    mean, deviation = window_statistics(values, 4)
    tiles = values.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).double()
    torch.testing.assert_close(mean.double(), tiles.mean(4), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(deviation.double(), tiles.std(4, correction=0), rtol=1e-3, atol=1e-3)


def test_its_file_gives_it_back_in_half_precision(tmp_path):
    fine = level_of(3)
    save_fine_level(fine, tmp_path / "fine.safetensors", {"data": "none"})
    again = load_fine_level(tmp_path / "fine.safetensors")
    assert (again.dimensions, again.channels) == (3, 4)
    assert torch.equal(again.filters.weight, fine.filters.weight.half().float())
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    for name, words in (("bad.safetensors", "damaged"), ("none.safetensors", "missing")):
        with pytest.raises(GdmError, match=words):
            load_fine_level(tmp_path / name)


def test_an_encoder_keeps_it_in_its_weight_file_and_files_of_format_1_have_none(tmp_path):
    file = tmp_path / "encoder.safetensors"
    network = random_encoder(2, 1, widths=(4, 4, 6, 8), fine=3)
    save_encoder(network, file, {})
    again = load_encoder_file(file)
    assert [level.stride for level in again.levels] == [(s, s) for s in (1, 2, 4, 8, 16)]
    assert torch.equal(again.fine.filters.weight, network.fine.filters.weight.half().float())
    from gdmunet.encoders.mini import mini_file

    with safe_open(str(mini_file(2)), framework="pt") as stored:
        assert json.loads(stored.metadata()["gdmunet_encoder"])["format"] == 1
    assert load_encoder_file(mini_file(2)).fine is None


def test_it_changes_no_other_weight_of_a_random_encoder():
    with_it, without = (random_encoder(3, 5, widths=(2, 2, 2, 2), fine=fine) for fine in (4, 0))
    for name, value in without.state_dict().items():
        assert torch.equal(with_it.state_dict()[name], value)


def test_trained_alone_it_becomes_what_it_becomes_beside_the_others(tmp_path):
    """So the stages of `mini` did not have to be trained again."""
    for name, settings in (
        ("whole", FINE),
        ("fine", replace(FINE, part="fine")),
        ("trunk", replace(FINE, fine=0)),
    ):
        assert Pretraining(settings, source, tmp_path / name).run()
    whole = load_encoder_file(tmp_path / "whole" / ENCODER_FILE)
    fine = load_fine_level(tmp_path / "fine" / ENCODER_FILE)
    trunk = load_encoder_file(tmp_path / "trunk" / ENCODER_FILE)
    for name, value in fine.state_dict().items():
        assert torch.equal(whole.fine.state_dict()[name], value)
    for name, value in trunk.state_dict().items():
        assert torch.equal(whole.state_dict()[name], value)


def test_its_training_stops_and_resumes_exactly(tmp_path):
    settings = replace(FINE, part="fine")
    assert Pretraining(settings, source, tmp_path / "whole").run()
    asked = iter([False, False, True])
    assert not Pretraining(settings, source, tmp_path / "parts").run(stop=lambda: next(asked))
    assert Pretraining(settings, source, tmp_path / "parts").run()
    files = [tmp_path / name / ENCODER_FILE for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_texture_is_found_again_and_a_blurred_decoy_costs():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 64, 64, generator=generator) * torch.rand(2, 8, 64, 64, generator=generator)
    images, shift = torch.randn(2, 1, 64, 64, generator=generator), torch.zeros(2, 2)

    def loss(decoys):
        return texture_contrast(maps, maps, decoys, images, shift, torch.Generator().manual_seed(1), ContrastOptions(1))

    blurred = functional.avg_pool2d(maps, 3, stride=1, padding=1)
    easy, share = loss(torch.zeros_like(maps))
    assert share == 1.0
    assert loss(maps)[0] > loss(blurred)[0] > easy
