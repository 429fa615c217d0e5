import dataclasses

import numpy as np
import pytest
import torch
from prediction_samples import make_configuration
from torch.nn import functional

from gdmunet.inference.sliding_window import predict_volume
from gdmunet.inference.window_batches import _SLOW_BELOW, windows_per_pass
from gdmunet.inference.window_options import WindowOptions

CPU = torch.device("cpu")


def configuration(patch, features):
    sample = make_configuration(patch)
    n, stages = len(patch), len(features)
    network = dataclasses.replace(
        sample.network,
        features=features,
        strides=((1,) * n, *((2,) * n,) * (stages - 1)),
        kernel_sizes=((3,) * n,) * stages,
        encoder_blocks=(1,) * stages,
        decoder_blocks=(1,) * (stages - 1),
        norm="batch",
    )
    return dataclasses.replace(sample, network=network)


def test_two_small_windows_or_one_large_one_share_a_pass_on_a_cpu():
    assert windows_per_pass(configuration((48, 48, 48), (16, 32, 64, 128)), CPU) == 2
    assert windows_per_pass(configuration((128, 128, 128), (32, 64, 128, 256, 320)), CPU) == 1
    assert windows_per_pass(configuration((48, 48), (16, 32, 64)), CPU) == make_configuration((48, 48)).batch_size


def test_a_gpu_takes_the_configurations_batch():
    assert windows_per_pass(configuration((128, 128, 128), (32, 64, 128)), torch.device("cuda")) == 2


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize(("rows", "images", "slow"), [(8, 1, True), (8, 2, False), (256, 1, False)])
def test_pytorch_leaves_the_fast_library_below_the_bound(rows, images, slow):
    """The bound is PyTorch's own: this fails when it moves."""
    volume = torch.zeros(images, _SLOW_BELOW // 160, rows, 20, 4)
    assert (volume[0].numel() // 4 <= _SLOW_BELOW) == (rows == 8)
    with torch.profiler.profile() as profile, torch.inference_mode():
        functional.conv3d(volume, torch.zeros(1, volume.shape[1], 3, 3, 3), padding=1)
    names = {event.name for event in profile.events()}
    assert ("aten::mkldnn_convolution" not in names) == slow


def test_a_window_that_is_left_over_goes_twice_through_the_network_and_counts_once():
    sizes, counts = [], []

    def network(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch

    values = np.random.default_rng(0).normal(size=(1, 24, 32, 16)).astype(np.float32)
    options = WindowOptions(batch_size=2)
    prediction = predict_volume(network, values, (16, 16, 16), options, progress=counts.append)
    assert sizes == [2] * 4  # two layers of three windows
    assert counts[-1].predicted == 6
    np.testing.assert_allclose(prediction, values[0], atol=1e-5)
