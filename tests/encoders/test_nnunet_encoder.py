"""Model folders of nnU-Net v2, of today's and of earlier releases, against the networks that nnU-Net builds."""

import json

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet, ResidualUNet
from torch import nn

from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.errors import GdmError

STATISTICS = {"mean": 40.0, "std": 300.0, "percentile_00_5": -900.0, "percentile_99_5": 1100.0, "max": 3000.0}
COMMON = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 16],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin_kwargs": {"inplace": True},
}
LAYERS = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "nonlin": "torch.nn.LeakyReLU",
}
CLASSES = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}


def write_model(root, kind, *, normalization="CTNormalization", transpose=(0, 1, 2), old=False, dataset="Dataset001_A"):
    """A model folder with random weights, and the original network."""
    torch.manual_seed(0)
    blocks = "n_blocks_per_stage" if kind is not PlainConvUNet else "n_conv_per_stage"
    arguments = {**COMMON, blocks: [1, 2, 2]}
    network = kind(input_channels=1, num_classes=2, deep_supervision=True, **arguments, **CLASSES).eval()
    folder = root / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    configuration = {"normalization_schemes": [normalization]}
    if old:
        configuration |= {
            "UNet_class_name": kind.__name__,
            "UNet_base_num_features": 4,
            "unet_max_num_features": 320,
            "conv_kernel_sizes": COMMON["kernel_sizes"],
            "pool_op_kernel_sizes": COMMON["strides"],
            "n_conv_per_stage_encoder": [1, 2, 2],
            "n_conv_per_stage_decoder": [1, 1],
        }
    else:
        configuration["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind.__name__}",
            "arch_kwargs": {**arguments, **LAYERS, "dropout_op": None, "dropout_op_kwargs": None},
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    plans = {
        "dataset_name": dataset,
        "transpose_forward": list(transpose),
        "foreground_intensity_properties_per_channel": {"0": STATISTICS},
        "configurations": {"base": configuration, "3d_fullres": {"inherits_from": "base", "spacing": [1, 1, 1]}},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    state = {"network_weights": network.state_dict(), "_best_ema": np.float64(0.8), "trainer_name": "nnUNetTrainer"}
    torch.save(state, folder / "fold_0" / "checkpoint_final.pth")
    return folder, network


def load(folder, units, tmp_path, **options):
    spec = choose_encoder(f"nnunet:{folder}", units, 3, EncoderOptions(tmp_path, **options)).spec
    return spec, load_encoder(spec, units, tmp_path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
def test_the_maps_are_those_of_the_original_network(kind, old, ct_units, tmp_path):
    folder, network = write_model(tmp_path, kind, old=old)
    spec, encoder = load(folder, ct_units, tmp_path)
    assert [(level.channels, level.stride) for level in spec.levels] == [
        (4, (1, 1, 1)),
        (8, (1, 2, 2)),
        (16, (2, 4, 4)),
    ]
    assert spec.window == (-900.0, 1100.0)
    volume = torch.randn(1, 1, 8, 12, 16)
    hu = volume * 400 - 200
    with torch.no_grad():
        expected = network.encoder((hu.clamp(-900, 1100) - 40) / 300)
        for found, original in zip(encoder(volume), expected, strict=True):
            torch.testing.assert_close(found.values, original, rtol=1e-5, atol=1e-5)


def test_a_transposed_model_sees_transposed_volumes(ct_units, tmp_path):
    folder, network = write_model(tmp_path, PlainConvUNet, transpose=(2, 0, 1))
    spec, encoder = load(folder, ct_units, tmp_path)
    assert spec.levels[1].stride == (2, 2, 1)  # its first axis, which is pooled last, is our third one
    volume = torch.randn(1, 1, 8, 12, 16)
    values = ((volume * 400 - 200).clamp(-900, 1100) - 40) / 300
    with torch.no_grad():
        original = network.encoder(values.permute(0, 1, 4, 2, 3))[1].permute(0, 1, 3, 4, 2)
        torch.testing.assert_close(encoder(volume)[1].values, original, rtol=1e-5, atol=1e-5)


def test_totalsegmentator_sees_its_own_directions(ct_units, tmp_path):
    folder, network = write_model(tmp_path, PlainConvUNet, dataset="Dataset291_TotalSegmentator_part1_organs")
    _, encoder = load(folder, ct_units, tmp_path)
    volume = torch.randn(1, 1, 8, 12, 16)
    values = ((volume * 400 - 200).clamp(-900, 1100) - 40) / 300
    with torch.no_grad():
        original = network.encoder(values.flip(3, 4))[2].flip(3, 4)
        torch.testing.assert_close(encoder(volume)[2].values, original, rtol=1e-5, atol=1e-5)


def test_z_scores_take_mean_and_sd_of_the_target(mr_units, tmp_path):
    _, encoder = load(write_model(tmp_path, PlainConvUNet, normalization="ZScoreNormalization")[0], mr_units, tmp_path)
    assert encoder.scale(torch.tensor([300.0, 420.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalization": "CTNormalization"}, "trained on CT"),
        ({"normalization": "RGBTo01Normalization"}, "normalisation is not known"),
    ],
)
def test_a_model_that_does_not_fit_the_target_is_refused(change, message, mr_units, tmp_path):
    folder, _ = write_model(tmp_path, PlainConvUNet, **change)
    with pytest.raises(GdmError, match=message):
        load(folder, mr_units, tmp_path)


def test_a_folder_without_checkpoint_says_what_it_lacks(ct_units, tmp_path):
    with pytest.raises(GdmError, match="no checkpoint in the model folder"):
        load(tmp_path, ct_units, tmp_path)


def test_layers_outside_pytorch_are_not_imported(ct_units, tmp_path):
    folder, _ = write_model(tmp_path, PlainConvUNet)
    text = (folder / "plans.json").read_text().replace("torch.nn.LeakyReLU", "os.system")
    (folder / "plans.json").write_text(text)
    with pytest.raises(GdmError, match="not PyTorch's"):
        load(folder, ct_units, tmp_path)


def test_a_2d_model_is_refused_for_3d_plans(ct_units, tmp_path):
    folder, _ = write_model(tmp_path, PlainConvUNet)
    with pytest.raises(GdmError, match="differ in their number of dimensions"):
        choose_encoder(f"nnunet:{folder}", ct_units, 2, EncoderOptions(tmp_path))


def test_a_pickle_that_runs_code_is_refused_unless_trusted(ct_units, tmp_path):
    folder, network = write_model(tmp_path, PlainConvUNet)
    file = folder / "fold_0" / "checkpoint_final.pth"
    torch.save({"network_weights": network.state_dict(), "logger": tmp_path}, file)
    with pytest.raises(GdmError, match="--trust-checkpoint"):
        load(folder, ct_units, tmp_path)
    choice = choose_encoder(f"nnunet:{folder}", ct_units, 3, EncoderOptions(tmp_path, trust_checkpoint=True))
    assert len(choice.spec.levels) == 3


def whole(folder, units, tmp_path, **options):
    spec = choose_encoder(f"segmenter:{folder}", units, 3, EncoderOptions(tmp_path, **options)).spec
    return spec, load_encoder(spec, units, tmp_path)


def decoder_maps(network, values):
    """What the stages of the original decoder give, by hooks, coarsest first."""
    found = []
    hooks = [stage.register_forward_hook(lambda *call: found.append(call[2])) for stage in network.decoder.stages]
    network(values)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet, ResidualUNet])
def test_a_segmenter_has_the_maps_of_the_original_decoder_too(kind, old, ct_units, tmp_path):
    folder, network = write_model(tmp_path, kind, old=old)
    spec, encoder = whole(folder, ct_units, tmp_path)
    assert [(level.name, level.channels, level.stride, level.in_decoder) for level in spec.levels] == [
        ("stage_0", 4, (1, 1, 1), False),
        ("stage_1", 8, (1, 2, 2), False),
        ("stage_2", 16, (2, 4, 4), False),
        ("decoder_1", 8, (1, 2, 2), True),
        ("decoder_0", 4, (1, 1, 1), True),
    ]
    volume = torch.randn(1, 1, 8, 12, 16, requires_grad=True)
    values = ((volume * 400 - 200).clamp(-900, 1100) - 40) / 300
    with torch.no_grad():
        expected = [*network.encoder(values), *decoder_maps(network, values)]
    maps = encoder(volume)
    for found, original in zip(maps, expected, strict=True):
        torch.testing.assert_close(found.values, original, rtol=1e-5, atol=1e-5)
    maps[-1].values.square().sum().backward()
    assert volume.grad.abs().sum() > 0


def test_a_segmenters_encoder_is_that_of_nnunet_alone(ct_units, tmp_path):
    folder, _ = write_model(tmp_path, PlainConvUNet)
    spec, encoder = load(folder, ct_units, tmp_path)
    both_spec, both = whole(folder, ct_units, tmp_path)
    assert both_spec.levels[:3] == spec.levels
    assert not any(level.in_decoder for level in spec.levels)
    volume = torch.randn(1, 1, 8, 12, 16)
    assert all(torch.equal(a.values, b.values) for a, b in zip(encoder(volume), both(volume)[:3], strict=True))


def test_a_segmenters_decoder_sees_the_models_axes(ct_units, tmp_path):
    folder, network = write_model(tmp_path, PlainConvUNet, transpose=(2, 0, 1))
    spec, encoder = whole(folder, ct_units, tmp_path)
    assert spec.levels[3].stride == spec.levels[1].stride == (2, 2, 1)
    volume = torch.randn(1, 1, 8, 12, 16)
    values = ((volume * 400 - 200).clamp(-900, 1100) - 40) / 300
    with torch.no_grad():
        original = decoder_maps(network, values.permute(0, 1, 4, 2, 3))[0].permute(0, 1, 3, 4, 2)
        torch.testing.assert_close(encoder(volume)[3].values, original, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_stages_of_a_segmenter_that_nobody_reads_go(depth, ct_units, tmp_path):
    spec, encoder = whole(write_model(tmp_path, PlainConvUNet)[0], ct_units, tmp_path)
    volume = torch.randn(1, 1, 8, 12, 16)
    expected = encoder(volume)[:depth]
    shorter = encoder.stop_after(spec.levels[:depth])
    assert len(shorter.network.encoder.stages) == min(depth, 3)
    assert len(shorter.network.merges) == len(shorter.network.rises) == max(0, depth - 3)
    assert all(torch.equal(a.values, b.values) for a, b in zip(shorter(volume), expected, strict=True))


def test_a_folder_that_does_not_say_its_decoder_is_refused(ct_units, tmp_path):
    folder, _ = write_model(tmp_path, PlainConvUNet, old=True)
    plans = json.loads((folder / "plans.json").read_text())
    del plans["configurations"]["base"]["n_conv_per_stage_decoder"]
    (folder / "plans.json").write_text(json.dumps(plans))
    load(folder, ct_units, tmp_path)
    with pytest.raises(GdmError, match="nnU-Net model cannot be read"):
        whole(folder, ct_units, tmp_path)


def test_the_pickle_of_a_segmenter_needs_trust_and_consent(ct_units, tmp_path):
    folder, network = write_model(tmp_path, PlainConvUNet)
    file = folder / "fold_0" / "checkpoint_final.pth"
    torch.save({"network_weights": network.state_dict(), "logger": tmp_path}, file)
    with pytest.raises(GdmError, match="--trust-checkpoint"):
        whole(folder, ct_units, tmp_path)
    with pytest.raises(GdmError, match="nobody on this machine has allowed"):
        whole(folder, ct_units, tmp_path, trust_checkpoint=True)
