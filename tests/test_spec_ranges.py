"""Values of files check themselves: no number of a file asks for a terabyte, loops for hours or means nothing."""

import dataclasses
import time

import pytest
from prediction_samples import CT, make_configuration, make_descriptor, make_plans

from gdmunet.checkpoint import CheckpointMetadata, SamplerSpec
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel, EncoderSpec, MemoryFootprint, NormalizationSpec

CONFIGURATION = make_configuration()
NETWORK = CONFIGURATION.network


@pytest.mark.parametrize(
    "change",
    [
        {"features": (4, 10**9)}, {"features": (4, 0)}, {"features": (4, -1)}, {"features": ()}, {"features": (4,)},
        {"features": (4, 8, 16)}, {"features": (8,) * 10_000}, {"strides": ((1, 1, 1), (0, 2, 2))},
        {"strides": ((1, 1, 1), (2, 2))}, {"strides": ((1,), (2,))}, {"strides": ((1, 1, 1), (2, 2, 10**9))},
        {"kernel_sizes": ((3, 3, 3), (3, 3, 10**6))}, {"kernel_sizes": ((3, 3), (3, 3))},
        {"encoder_blocks": (1, 10**9)}, {"encoder_blocks": (1,)}, {"decoder_blocks": ()}, {"decoder_blocks": (0,)},
        {"in_channels": 0}, {"in_channels": 10**9}, {"out_channels": 0}, {"residual_channel": 1},
        {"residual_channel": -1}, {"dial_channels": 0}, {"dial_channels": 10**9},
        {"features": (8192, 8192), "encoder_blocks": (64, 64)},
    ],
)  # fmt: skip
def test_a_network_of_impossible_sizes_is_refused_at_once(change):
    began = time.monotonic()
    with pytest.raises(GdmError) as raised:
        dataclasses.replace(NETWORK, **change)
    assert raised.value.expected is not None
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (1.0, 0.0, 1.0)}, {"spacing": (-1.0, 1.0, 1.0)}, {"spacing": (float("nan"), 1.0, 1.0)},
        {"spacing": (1e9, 1.0, 1.0)}, {"spacing": (1.0, 1.0)}, {"transpose": (0, 0, 1)}, {"transpose": (0, 1, 3)},
        {"patch_size": (8, 8, 0)}, {"patch_size": (8, 8, 10**9)}, {"patch_size": (16384,) * 3}, {"patch_size": (8, 8)},
        {"batch_size": 0}, {"batch_size": 10**9}, {"order": -1}, {"order": 6}, {"background": float("inf")},
        {"median_shape": (0, 1, 1)}, {"condition_normalization": ()}, {"name": "../x"}, {"name": ""},
    ],
)  # fmt: skip
def test_a_configuration_of_impossible_sizes_is_refused(change):
    with pytest.raises(GdmError):
        make_configuration(**{"patch": (8, 8, 8)} | change if "patch_size" not in change else change)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NormalizationSpec("affine", (100.0, -100.0)),
        lambda: NormalizationSpec("affine", (0.0, 0.0)),
        lambda: NormalizationSpec("affine", (0.0, float("inf"))),
        lambda: NormalizationSpec("affine", (0.0, 1.0), scale=0.0),
        lambda: NormalizationSpec("affine", (0.0, 1.0), scale=-1.0),
        lambda: NormalizationSpec("affine", (0.0, 1.0), offset=float("nan")),
        lambda: NormalizationSpec("percentile_zscore", (-1.0, 99.0)),
        lambda: NormalizationSpec("percentile_zscore", (1.0, 101.0)),
        lambda: SamplerSpec("euler", 10**9),
        lambda: SamplerSpec("euler", 0),
        lambda: SamplerSpec("euler", 2, source_channel=-1),
        lambda: SamplerSpec("euler", 2, noise=float("nan")),
        lambda: CheckpointMetadata("T", "p", "c", "0", -1, 0),
        lambda: CheckpointMetadata("T", "p", "c", "0", 0, 0, realism=2.0),
        lambda: MemoryFootprint(-1, 0, 0, 0, 0),
        lambda: EncoderLevel("a", 10**9, (1, 1, 1)),
        lambda: EncoderLevel("a", 4, (0, 1, 1)),
        lambda: EncoderSpec("mini", "0", 3, None, (EncoderLevel("a", 4, (1, 1)),), "MIT"),
        lambda: EncoderSpec("mini", "0", 4, None, (), "MIT"),
        lambda: make_plans(CONFIGURATION, make_descriptor(), name="../../elsewhere"),
        lambda: make_plans(CONFIGURATION, make_descriptor(), dataset_name="/etc"),
        lambda: make_plans(CONFIGURATION, make_descriptor(), configurations={"other": CONFIGURATION}),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(make):
    with pytest.raises(GdmError):
        make()


def test_what_planning_makes_passes():
    assert make_configuration(condition_normalization=(CT, NormalizationSpec("percentile_zscore", (0.5, 99.5))))
