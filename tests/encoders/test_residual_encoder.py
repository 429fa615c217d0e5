"""Our own encoders: levels, shapes, input gradients, weight files."""

import hashlib
import re

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from gdmunet.conversion.phantoms import make_phantom
from gdmunet.encoders.audit import audit_encoder
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.mini import (
    WEIGHTS,
    MiniEncoder,
    build_first_mini,
    build_mae,
    build_mini,
    build_tiny,
    fine_file,
    mini_file,
    network_input,
)
from gdmunet.encoders.residual import (
    ResidualEncoder,
    bake_weights,
    load_encoder_file,
    random_encoder,
    save_encoder,
    standardise_weights,
)
from gdmunet.errors import GdmError
from gdmunet.plans import NormalizationSpec

CT = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), 0.0, 500.0), -1024.0, "CT")
T1 = VolumeUnits(NormalizationSpec("affine", (0.0, 900.0), 300.0, 150.0), 0.0, "T1")
BUILDERS = {"mini": build_mini, "tiny": build_tiny}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", BUILDERS)
def test_maps_have_the_channels_strides_and_sizes_of_their_levels(name, dimensions):
    encoder = BUILDERS[name](None, CT, dimensions)
    maps = encoder(torch.randn(2, 1, *(33, 40, 32)[:dimensions]))
    strides = (1, 2, 4, 8, 16) if name == "mini" else (2, 4, 8, 16)
    assert [level.stride for level in encoder.levels] == [(s,) * dimensions for s in strides]
    for level, found in zip(encoder.levels, maps, strict=True):
        cells = [-(-n // s) for n, s in zip((33, 40, 32)[:dimensions], level.stride, strict=True)]
        assert found.level == level.name
        assert found.stride == level.stride
        assert found.values.shape == (2, level.channels, *cells)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_stages_of_mini_are_those_of_its_first_version(dimensions):
    volume = torch.randn(1, 1, *(32,) * dimensions, generator=torch.Generator().manual_seed(0))
    first, present = (build(None, CT, dimensions)(volume) for build in (build_first_mini, build_mini))
    for old, new in zip(first, present[1:], strict=True):
        assert old.level == new.level
        assert torch.equal(old.values, new.values)


def test_a_patch_of_32_has_two_cells_a_side_on_the_deepest_level():
    assert build_mini(None, CT, 3)(torch.zeros(1, 1, 32, 32, 32))[-1].values.shape[2:] == (2, 2, 2)


@pytest.mark.parametrize("units", [CT, T1], ids=("CT", "T1"))
@pytest.mark.parametrize("dimensions", [2, 3])
def test_input_gradients_are_bounded_on_flat_noisy_and_extreme_patches(units, dimensions):
    encoder = build_mini(None, units, dimensions)
    size = (1, 1, *(32,) * dimensions)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0))
    largest = {}
    for name, volume in {
        "air": torch.full(size, units.network_background),
        "flat": torch.ones(size),
        "noise": noise,
        "wild": 100 * noise,
    }.items():
        volume = volume.clone().requires_grad_()
        sum(found.values.square().mean() for found in encoder(volume)).backward()
        assert torch.isfinite(volume.grad).all()
        largest[name] = float(volume.grad.abs().max())
    assert largest["flat"] > 0
    assert largest["wild"] > 0
    assert max(largest.values()) < 100 * largest["noise"]


def test_gradients_reach_the_input_and_no_weight():
    encoder = build_mini(None, CT, 3)
    volume = torch.zeros(1, 1, 32, 32, 32, requires_grad=True)
    encoder(volume)[0].values.sum().backward()
    assert volume.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert not encoder.train().training


def test_air_water_and_bone_are_told_apart_and_outside_the_range_as_well():
    hu = torch.tensor([-3000.0, -1000.0, 0.0, 100.0, 1500.0, 6000.0], requires_grad=True)
    values = network_input(hu, CT)
    values.sum().backward()
    assert (values.diff() > 0.05).all()
    assert (hu.grad > 0).all()
    assert values[1:5].abs().max() < 1.5
    assert values[2] == 0


def test_other_modalities_enter_by_the_constants_of_the_plans():
    found = network_input(torch.tensor([300.0, 450.0, 150.0]), T1)
    assert torch.allclose(found, torch.asinh(torch.tensor([0.0, 2.0, -2.0])) / 2)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_shipped_weights_are_those_that_their_page_names(dimensions):
    page = (WEIGHTS / "MINI.md").read_text()
    named = dict(re.findall(r"`(mini_\w+\.safetensors)`, sha256 `([0-9a-f]{64})`", page))
    for file in (mini_file(dimensions), fine_file(dimensions)):
        assert named[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 8e6


@pytest.mark.parametrize("dimensions", [2, 3])
def test_mini_finds_places_of_an_unseen_volume_better_than_random_weights(dimensions):
    rng = np.random.default_rng(5)
    shapes = sum(a * (gaussian_filter(rng.normal(size=(72,) * 3), s) > 0) for a, s in ((1, 3), (0.5, 2), (-1.5, 5)))
    volume = gaussian_filter(shapes.astype(np.float32), 0.6) - 0.5
    options = {"windows": 2 if dimensions == 3 else 12, "window": 32}
    own = audit_encoder(build_first_mini(None, CT, dimensions), {"shapes": volume}, **options)
    twin = audit_encoder(MiniEncoder(random_encoder(dimensions, 0), CT), {"shapes": volume}, **options)
    deep = [np.mean([level.retrieval for level in audit.levels[2:]]) for audit in (own, twin)]
    assert deep[0] > deep[1] + 0.1
    assert own.levels[2].retrieval > 5 * own.levels[2].chance


def test_every_channel_of_mini_varies():
    phantom = torch.from_numpy(make_phantom(78, 32).ct.astype(np.float32) / 500)[None, None]
    for found in build_mini(None, CT, 3)(phantom):
        assert (found.values[0].flatten(1).std(1) > 1e-3).all()


def test_tiny_is_the_same_every_time():
    first, again = (build_tiny(None, CT, 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert 1e5 < sum(p.numel() for p in first.parameters()) < 3e5


def test_random_weights_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    random_encoder(3, 5, widths=(2, 2, 2, 2))
    assert torch.equal(before, torch.get_rng_state())


def test_standardised_weights_have_no_mean_and_baking_keeps_the_function():
    network = random_encoder(2, 0, widths=(4, 4, 6, 8))
    standardise_weights(network)
    volume = torch.randn(1, 1, 32, 32)
    weight = network.stages[0][0].first.weight
    assert torch.allclose(weight.mean((1, 2, 3)), torch.zeros(4), atol=1e-6)
    assert torch.allclose(weight.square().sum((1, 2, 3)), torch.ones(4), atol=1e-4)
    before = network(volume)
    bake_weights(network)
    assert set(network.state_dict()) == set(random_encoder(2, 0, widths=(4, 4, 6, 8)).state_dict())
    for a, b in zip(before, network(volume), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_calibrated_channels_have_mean_0_and_deviation_1():
    network = random_encoder(3, 0, widths=(4, 6, 8, 8))
    volumes = torch.randn(2, 1, 32, 32, 32)
    network.calibrate(volumes)
    for values in network(volumes):
        flat = values.transpose(0, 1).flatten(1)
        assert torch.allclose(flat.mean(1), torch.zeros(len(flat)), atol=1e-4)
        assert flat.std(1).max() < 1.001


def test_a_weight_file_gives_the_network_back_in_half_precision(tmp_path):
    network = random_encoder(2, 1, widths=(4, 4, 6, 8))
    save_encoder(network, tmp_path / "encoder.safetensors", {"data": "none"})
    again = load_encoder_file(tmp_path / "encoder.safetensors")
    assert again.widths == (4, 4, 6, 8)
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())
    assert isinstance(build_mae(tmp_path, CT, 2), MiniEncoder)


def test_foreign_missing_and_wrong_files_are_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(GdmError, match="damaged"):
        build_mae(tmp_path / "bad.safetensors", CT, 3)
    with pytest.raises(GdmError, match="missing"):
        build_mae(tmp_path, CT, 3)
    save_encoder(ResidualEncoder(2, (4, 4, 4, 4)), tmp_path / "encoder.safetensors", {})
    with pytest.raises(GdmError, match="dimensions"):
        build_mae(tmp_path, CT, 3)
