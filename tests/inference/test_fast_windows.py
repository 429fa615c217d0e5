import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prediction_samples import SPACING, body_of, make_configuration, make_descriptor, make_head

from gdmunet.device_memory import DeviceMemory
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes
from gdmunet.inference import Predictor, fast_windows
from gdmunet.inference.fast_windows import FAST_STEP, bytes_per_voxel, fast_plan
from gdmunet.inference.seams import offset_difference, prediction_seam_score
from gdmunet.inference.windows import plan_windows
from gdmunet.networks import build_network
from gdmunet.preprocessing.memory import LiveBytes

CPU = torch.device("cpu")


def configuration(norm: str = "none"):
    """Four stages, as a plan has them, on windows of 16 voxels."""
    sample = make_configuration((16, 16, 16))
    network = dataclasses.replace(
        sample.network,
        features=(4, 8, 16, 16),
        strides=((1,) * 3, *((2,) * 3,) * 3),
        kernel_sizes=((3,) * 3,) * 4,
        encoder_blocks=(1,) * 4,
        decoder_blocks=(1,) * 3,
        norm=norm,
    )
    return dataclasses.replace(sample, network=network)


def with_memory(monkeypatch, voxels: int) -> None:
    """A device that holds windows of so many voxels."""
    free = 2 * voxels * bytes_per_voxel(configuration().network, (16, 16, 16)) + 1.5e9
    monkeypatch.setattr(fast_windows, "device_memory", lambda _: DeviceMemory(int(free / 0.9) + 1, 2**50))
    monkeypatch.setattr(DeviceMemory, "usable", property(lambda memory: int(0.9 * memory.free - 1.5e9)))


def test_a_volume_that_memory_holds_is_one_window(monkeypatch):
    with_memory(monkeypatch, 10**7)
    plan = fast_plan((60, 90, 75), configuration(), CPU)
    assert plan.window == (64, 96, 80)  # what the strides divide
    assert plan_windows((60, 90, 75), plan.window, plan.step_size).count == 1


@given(st.tuples(*(st.integers(1, 700),) * 3), st.integers(16**3, 10**7))
def test_windows_fit_the_memory_and_no_voxel_is_computed_more_than_one_and_a_half_times(shape, voxels):
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_memory(monkeypatch, voxels)
        plan = fast_plan(shape, configuration(), CPU)
    assert all(size % 8 == 0 for size in plan.window)
    assert math.prod(plan.window) <= max(voxels, 16**3)
    counts = [len(starts) for starts in plan_windows(shape, plan.window, plan.step_size).starts]
    for count, size, length in zip(counts, plan.window, shape, strict=True):
        rounded = 16 if length < 16 else length + 8 * count  # to what the strides divide
        assert count * size <= max(size, (8 / 7) * rounded)


def test_bytes_for_a_voxel_are_those_of_a_pass():
    chosen = configuration()
    network = build_network(chosen.network).eval()
    with torch.no_grad(), LiveBytes() as memory:
        network(torch.zeros(1, 1, 32, 32, 32))
    weights = sum(parameter.nbytes for parameter in network.parameters())
    assert bytes_per_voxel(chosen.network, (16, 16, 16)) * 32**3 == pytest.approx(
        memory.peak, abs=2 * weights, rel=0.05
    )


def prepared(norm: str, seed: int = 0, **options):
    torch.manual_seed(seed)
    network = build_network(configuration(norm).network).eval()
    predictor = Predictor([network], configuration(norm), make_descriptor(), **options)
    head = make_head((48, 40, 40))
    volumes = CaseVolumes("case", head[None], None, body_of(head), Geometry(head.shape, SPACING))
    return predictor, predictor.prepare(volumes)


def test_no_seam_shows_although_windows_hardly_overlap(monkeypatch):
    with_memory(monkeypatch, 40 * 40 * 32)
    predictor, case = prepared("none", fast=True)
    result = predictor.predict_network_units(case)
    plan = predictor.window_plan(case.mask.shape)
    assert (plan.step_size, result.windows.total > 1) == (FAST_STEP, True)
    assert prediction_seam_score(predictor, case, result.array) < 1.05
    assert offset_difference(predictor, case) > 0


def test_instance_normalisation_depends_on_the_window_and_is_refused():
    """Measured: the same weights and place, seen through windows of two sizes, far from the borders of both."""
    differences = {}
    for norm in ("none", "instance"):
        predictor, case = prepared(norm)
        network = predictor.networks[0]
        volume = torch.from_numpy(np.pad(case.condition, [(0, 0), *[(24, 24)] * 3], mode="reflect"))[
            None, :, :64, :64, :64
        ]
        with torch.no_grad():
            small, large = network(volume[..., 8:56, 8:56, 8:56]), network(volume)
        middle = (slice(None), slice(None), *[slice(28, 36)] * 3)
        difference = (large[middle] - torch.nn.functional.pad(small, [8] * 6)[middle]).abs().mean()
        differences[norm] = float(difference / large.std())
    assert differences["instance"] > 20 * differences["none"]
    with pytest.raises(GdmError, match="size of its window"):
        fast_plan((64, 64, 64), configuration("instance"), CPU)
