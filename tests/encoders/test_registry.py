import dataclasses
import shutil

import pytest
import torch

from gdmunet.consents import ConsentList, file_sha256
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.encoders.mini import mini_file
from gdmunet.encoders.registry import FAMILIES, parse_spec
from gdmunet.errors import GdmError


def allowed(file):
    return ConsentList({file_sha256(file): str(file)})


def plan(spec, units, tmp_path, dimensions=3, **options):
    return choose_encoder(spec, units, dimensions, EncoderOptions(tmp_path / "cache", **options))


def test_an_own_factory_is_pinned_and_loads_again(own_encoder, ct_units, tmp_path):
    spec = plan(f"{own_encoder}:factory", ct_units, tmp_path).spec
    assert (spec.window, spec.licence, spec.levels[0].channels, spec.file) == ((-500.0, 500.0), "CC0", 4, None)
    encoder = load_encoder(spec, ct_units, tmp_path / "cache", allowed(own_encoder))
    assert not encoder.training
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_a_relative_factory_file_is_pinned_as_an_absolute_one(own_encoder, ct_units, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan(f"{own_encoder.name}:factory", ct_units, tmp_path).spec.spec == f"{own_encoder}:factory"


def test_a_factory_in_an_importable_module_loads(own_encoder, ct_units, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(own_encoder.parent))
    assert plan("own_encoder:factory", ct_units, tmp_path).spec.spec == "own_encoder:factory"


def test_other_weights_than_planned_are_refused(own_encoder, ct_units, tmp_path):
    spec = plan(f"{own_encoder}:factory", ct_units, tmp_path).spec
    with pytest.raises(GdmError, match="not the expected ones"):
        load_encoder(dataclasses.replace(spec, spec=f"{own_encoder}:other"), ct_units, tmp_path, allowed(own_encoder))


def test_other_levels_than_planned_are_refused(own_encoder, ct_units, tmp_path):
    spec = plan(f"{own_encoder}:factory", ct_units, tmp_path).spec
    levels = (dataclasses.replace(spec.levels[0], channels=8),)
    with pytest.raises(GdmError, match="does not have the levels"):
        load_encoder(dataclasses.replace(spec, levels=levels), ct_units, tmp_path, allowed(own_encoder))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("medvae", "there is no encoder"),
        ("nnunet", "needs its weights"),
        ("mini:3", "takes no argument"),
        ("nowhere.py:factory", "the encoder's file is missing"),
        ("no_such_package:factory", "module no_such_package cannot be imported"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(spec, message, ct_units, tmp_path):
    with pytest.raises(GdmError, match=message):
        plan(spec, ct_units, tmp_path)


def test_a_factory_that_makes_no_encoder_is_refused(own_encoder, ct_units, tmp_path):
    with pytest.raises(GdmError, match="did not make an encoder"):
        plan(f"{own_encoder}:wrong", ct_units, tmp_path)


def test_a_3d_encoder_is_refused_for_2d_with_the_way_out(ct_units, tmp_path):
    with pytest.raises(GdmError, match="FidelityTrainer"):
        plan("ct-fm", ct_units, tmp_path, dimensions=2)


def test_every_family_parses_as_its_own_name():
    for name, family in FAMILIES.items():
        assert parse_spec(name if family.argument is None else f"{name}:place").family is family


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("spec", ["mini", "mini-random", "mini-1", "tiny", "mae"])
def test_built_in_encoders_give_the_declared_maps(spec, dimensions, ct_units, tmp_path):
    if spec == "mae":  # a run folder of gdm_pretrain_encoder holds a file of the same form
        shutil.copy(mini_file(dimensions), tmp_path / "encoder.safetensors")
        spec = f"mae:{tmp_path}"
    planned = plan(spec, ct_units, tmp_path, dimensions).spec
    encoder = load_encoder(planned, ct_units, tmp_path)
    volume = torch.randn(1, 1, *(18, 21, 20)[:dimensions], requires_grad=True)
    maps = encoder(volume)
    for level, found in zip(planned.levels, maps, strict=True):
        places = tuple(-(-n // s) for n, s in zip(volume.shape[2:], level.stride, strict=True))
        assert found.values.shape == (1, level.channels, *places)
        gradient = torch.autograd.grad(found.values.square().mean(), volume, retain_graph=True)[0]
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    assert not any(weight.requires_grad for weight in encoder.parameters())


@pytest.mark.parametrize(
    ("dimensions", "sha256"),
    [
        (2, "d238c49c68df1936cab01fedf066c103e8a57b005cc41e626bcf722112edb082"),
        (3, "52cd77b208641b08dfbbe9918b92ba332dfb1c5aadb7b01b9c921ada4f4e0b16"),
    ],
)
def test_random_filters_are_the_same_on_every_machine(ct_units, tmp_path, dimensions, sha256):
    torch.manual_seed(dimensions)
    before = torch.get_rng_state()
    spec = plan("mini-random", ct_units, tmp_path, dimensions).spec
    assert torch.equal(torch.get_rng_state(), before)
    assert (spec.sha256, spec.licence) == (sha256, "Apache-2.0")
    trained = plan("mini", ct_units, tmp_path, dimensions).spec
    assert spec.levels == trained.levels
    load_encoder(spec, ct_units, tmp_path / "cache")
