"""Operations of a generator and of the encoders beside it, and the choice of `auto` by them."""

import math

import pytest
import torch
from published_layouts import write_published
from torch.nn import functional

from gdmunet.encoders import choice
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, Load
from gdmunet.encoders.registry import FAMILIES
from gdmunet.errors import GdmError
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import EncoderLevel, NormalizationSpec
from gdmunet.preprocessing.operations import GeneratorStep
from gdmunet.preprocessing.planned_encoder import WantedEncoder
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.trainers.gdm import GDMTrainer

CT = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -200.0, 400.0), -1000.0, "CT")


def step_of(preset: str, edge: int, batch_size: int = 2) -> GeneratorStep:
    topology = plan_topology((1.0,) * 3, (edge,) * 3, PRESETS[preset].max_poolings)
    return GeneratorStep(PRESETS[preset].network(topology, 1, None), topology.patch_size, batch_size)


@pytest.fixture(scope="module")
def large() -> GeneratorStep:
    """The planner's M at 128^3."""
    return step_of("M", 128)


class TwoConvolutions(FrozenEncoder):
    """Levels at strides 1 and 2 of known cost."""

    def __init__(self):
        levels = [EncoderLevel("fine", 4, (1, 1, 1)), EncoderLevel("coarse", 8, (2, 2, 2))]
        super().__init__(levels, CT, divisor=2)
        self.fine = torch.nn.Conv3d(1, 4, 3, padding=1)
        self.coarse = torch.nn.Conv3d(4, 8, 2, stride=2)

    def drop_behind(self, depth):
        assert depth == 1
        self.coarse = None

    def scale(self, raw):
        return raw / 1000

    def features(self, volume):
        fine = self.fine(volume)
        return [fine] if self.coarse is None else [fine, self.coarse(functional.silu(fine))]


def test_an_encoder_counts_real_patches_and_generated_ones_there_and_back():
    step = step_of("tiny", 48)
    encoder = TwoConvolutions()
    fine = 2 * 27 * 4 * 48**3
    coarse = 2 * 8 * 4 * 8 * 24**3
    assert step.operations_of(encoder) == 2 * 3 * (fine + coarse)
    assert step.operations_of(encoder, lambda levels: levels[:1]) == 2 * 3 * fine
    assert encoder.coarse is not None, "the encoder itself is left whole"


def test_a_generator_counts_forward_and_backward_of_every_convolution():
    ones, threes = (1,) * 3, (3,) * 3
    plain = NetworkSpec(1, 1, (4, 4), (ones, (2,) * 3), (threes, threes), (1, 1), (1,), "plain", "none")
    step = GeneratorStep(plain, (16,) * 3, 3)
    first, rest = 2 * 27 * 1 * 4 * 16**3, 2 * 27 * 4 * 4 * 8**3 + 2 * 27 * 8 * 4 * 16**3
    transposed, output = 2 * 4 * 4 * 16**3, 2 * 4 * 16**3
    # The input of the first convolution gets no gradient.
    assert step.operations == 3 * (2 * first + 3 * (rest + transposed + output))


def test_medvae_is_far_beyond_the_generator_of_m_at_128(large):
    assert 6e12 < large.operations < 9e12
    load = large.load(FAMILIES["medvae-4x-3d"].outlined(CT), GDMTrainer.used_levels)
    assert load.operations > 10
    assert 1.2e14 < load.operations * large.operations < 1.5e14
    assert load.memory > 1


def test_memory_counts_what_waits_for_the_way_back():
    class Waits(TwoConvolutions):
        """Nothing but squares of the volume, each of which waits."""

        def features(self, volume):
            fine = torch.stack([volume[:, 0] ** (2 + number) for number in range(4)], 1)
            return [fine]

    step = step_of("tiny", 48)
    light, heavy = (step.load(encoder, lambda levels: levels[:1]) for encoder in (TwoConvolutions(), Waits()))
    assert light.operations > 0
    assert heavy.operations == 0
    assert 0 < light.memory < heavy.memory < 1
    assert not heavy.heavy
    assert Load(0.5, 1.2).heavy
    assert Load(0.5, 1.2).describe() == "1.2 times the generator's memory"


def test_auto_passes_over_medvae_for_m_at_128_though_its_weights_are_at_hand(large, tmp_path):
    for name in ("medvae-4x-3d", "ct-fm"):
        folder = tmp_path / name
        folder.mkdir()
        write_published(name, folder, narrow=True).rename(folder / FAMILIES[name].source.name)
    planned = WantedEncoder("auto", EncoderOptions(tmp_path), GDMTrainer.used_levels)(CT, large)
    assert planned.spec.spec == "ct-fm"
    assert "medvae-4x-3d has 14.6 times the generator's operations" in planned.reason.because
    assert "TFLOP" in planned.reason.because


@pytest.mark.parametrize(("preset", "edge", "wanted"), [("M", 128, "ct-fm"), ("tiny", 48, "medicalnet-50")])
def test_auto_downloads_the_best_that_is_lighter_than_the_generator(preset, edge, wanted, tmp_path, monkeypatch):
    asked = []

    def refuse(family, *_):
        asked.append(family.name)
        raise GdmError("no network")

    monkeypatch.setattr(choice, "fetch_weights", refuse)
    options = EncoderOptions(tmp_path, allow_download=True)
    planned = WantedEncoder("auto", options, GDMTrainer.used_levels)(CT, step_of(preset, edge))
    assert asked == [wanted]
    assert planned.spec.spec == "mini-random"
    assert "medvae-8x-3d has" in planned.reason.because


def test_a_named_encoder_is_taken_with_a_warning_of_its_weight(large, tmp_path, capsys):
    # Weights of a quarter of the channels: still more operations than a tiny generator's.
    file = write_published("medvae-4x-3d", tmp_path, narrow=True)
    planned = WantedEncoder("medvae-4x-3d", EncoderOptions(tmp_path, file))(CT, step_of("tiny", 48))
    assert planned.spec.spec == "medvae-4x-3d"
    warned = capsys.readouterr().err
    assert warned.startswith("warning: the encoder medvae-4x-3d makes a step slow")
    assert "times as many" in warned
    assert "times as many" in planned.reason.because
    WantedEncoder("tiny", EncoderOptions(tmp_path))(CT, large)
    assert capsys.readouterr().err == ""


def test_every_ranked_encoder_has_an_outline_of_its_published_size():
    for family in FAMILIES.values():
        assert (family.outline is None) == (family.rank is None)
        if family.rank is not None:
            encoder = family.outlined(CT)
            assert {weight.device.type for weight in encoder.parameters()} == {"meta"}
            megabytes = sum(weight.numel() for weight in encoder.parameters()) * 4 / 1e6
            assert megabytes < 1.05 * family.source.megabytes
            assert math.isfinite(megabytes)
