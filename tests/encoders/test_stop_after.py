"""Encoders stop after the last level that is used: the same maps, fewer weights."""

import copy

import pytest
import torch
from published_layouts import write_published

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.encoders.choice import EncoderOptions, choose_encoder

# Families, and the weight of a stage that is not used once the second level is the last.
PUBLISHED = ("medvae-4x-3d", "medvae-8x-3d", "ct-fm", "medicalnet-10", "nnssl")


def check(encoder: FrozenEncoder, volume: torch.Tensor) -> None:
    with torch.no_grad():
        whole = encoder(volume)
    for depth in range(1, len(whole)):
        shorter = copy.deepcopy(encoder).stop_after(encoder.levels[:depth])
        volume = volume.detach().requires_grad_()
        maps = shorter(volume)
        assert [found.level for found in maps] == [level.name for level in shorter.levels]
        for found, wanted in zip(maps, whole, strict=False):
            assert torch.equal(found.values, wanted.values)
        assert torch.autograd.grad(maps[-1].values.square().mean(), volume)[0].abs().sum() > 0


@pytest.mark.parametrize("family", PUBLISHED)
def test_maps_of_published_encoders_stay_and_weights_go(family, ct_units, tmp_path):
    file = write_published(family, tmp_path, narrow=True)
    spec, given = (f"nnssl:{file}", None) if family == "nnssl" else (family, file)
    encoder = choose_encoder(spec, ct_units, 3, EncoderOptions(tmp_path, given)).encoder
    before = sum(weight.numel() for weight in encoder.parameters())
    check(encoder, torch.randn(1, 1, *((33, 18, 17) if family == "nnssl" else (17, 9, 10))))
    encoder.stop_after(encoder.levels[:2])
    assert sum(weight.numel() for weight in encoder.parameters()) < 0.5 * before


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("spec", ["mini", "mini-random", "mini-1", "tiny"])
def test_maps_of_built_in_encoders_stay_and_weights_go(spec, dimensions, ct_units, tmp_path):
    encoder = choose_encoder(spec, ct_units, dimensions, EncoderOptions(tmp_path)).encoder
    before = sum(weight.numel() for weight in encoder.parameters())
    check(encoder, torch.randn(1, 1, *(18, 21, 20)[:dimensions]))
    encoder.stop_after(encoder.levels[:-1])
    assert sum(weight.numel() for weight in encoder.parameters()) < 0.75 * before


def test_an_encoder_of_the_user_that_drops_nothing_gives_fewer_maps(ct_units, tmp_path):
    class Two(FrozenEncoder):
        def __init__(self, levels, units):
            super().__init__(levels, units, divisor=4)

        def scale(self, raw):
            return raw / 1000

        def features(self, volume):
            return [torch.nn.functional.avg_pool3d(volume, 2**n) for n in range(len(self._given))]

    levels = choose_encoder("tiny", ct_units, 3, EncoderOptions(tmp_path)).spec.levels[:2]
    encoder = Two(levels, ct_units)
    encoder._given = levels
    assert len(encoder(torch.zeros(1, 1, 8, 8, 8))) == 2
    assert [found.level for found in encoder.stop_after(levels[:1])(torch.zeros(1, 1, 8, 8, 8))] == [levels[0].name]
    with pytest.raises(ValueError, match="not in"):
        encoder.stop_after(levels[1:])
