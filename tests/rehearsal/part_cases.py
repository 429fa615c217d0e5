"""Encoders, drift, coordination, prediction, projectors and pretraining on the fake GPU."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args
from unittest import mock

import numpy as np
import torch
from fake_gpu import GPU, Counts, Watch, faked
from planned import EDGE, built_in, planned_configuration, planned_encoder, planned_segmenter, planned_units

from gdmunet.encoders import ct_fm, medicalnet, medvae, mini, nnssl
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.convolutional import ConvolutionalEncoder, RangeEncoder
from gdmunet.encoders.pretraining import Pretraining, PretrainingOptions
from gdmunet.inference.samplers import sample_patches
from gdmunet.inference.sliding_window import WindowOptions, predict_volume
from gdmunet.networks import build_network
from gdmunet.sampler_spec import SamplerSpec
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.consistency import consistency_steps
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.reconstruction import filtered_back_projection
from gdmunet.tomography.scan_geometry import plan_geometry
from gdmunet.training.coordination.coordinator import Coordinator
from gdmunet.training.coordination.weightings import WEIGHTINGS
from gdmunet.training.drift.loss import drift_loss
from gdmunet.training.drift.options import FIELDS, Kernel
from gdmunet.training.patches.augmentation import Augmentation
from gdmunet.training.patches.crops import CropLabel, Crops
from gdmunet.training.patches.intensity import hu_intensity, mr_intensity
from gdmunet.training.trainers.stepwise import stepwise_spec

SAMPLERS = {
    "one_step": SamplerSpec("one_step", 1, None, 0.0),
    "euler": SamplerSpec("euler", 3, None, 0.0),
    "heun": SamplerSpec("heun", 3, None, 0.0),
    "bridge_stochastic": SamplerSpec("bridge_stochastic", 3, 0, 0.3),
    "bridge_deterministic": SamplerSpec("bridge_deterministic", 3, 0, 0.0),
}


def _nnunet(units: VolumeUnits, kind: type[ConvolutionalEncoder]) -> FrozenEncoder:
    return kind(nnssl.residual_encoder_l(), units, nnssl.FEATURES, nnssl._STRIDES)


# One for each row of the table of encoders, built without its weights.
ENCODERS: dict[str, Callable[[VolumeUnits], FrozenEncoder]] = {
    "mini": lambda _: planned_encoder(3),
    "mini-random": lambda _: built_in("mini-random"),
    "mini-1": lambda _: built_in("mini-1"),
    "medvae-4x-3d": lambda units: medvae.MedVaeEncoder(medvae.MedVaeNetwork((1, 2, 4)), units),
    "medvae-8x-3d": lambda units: medvae.MedVaeEncoder(medvae.MedVaeNetwork((1, 2, 4, 4)), units),
    "ct-fm": lambda units: ct_fm.CtFmEncoder(ct_fm.SegResNetwork(), units),
    "medicalnet-10": lambda units: medicalnet.MedicalNetEncoder(
        medicalnet.MedicalNetwork((1, 1, 1, 1), bottleneck=False), units
    ),
    "medicalnet-50": lambda units: medicalnet.MedicalNetEncoder(
        medicalnet.MedicalNetwork((3, 4, 6, 3), bottleneck=True), units
    ),
    "nnunet": lambda units: _nnunet(units, RangeEncoder),
    "segmenter": lambda _: planned_segmenter()[1],
    "nnssl": lambda units: ConvolutionalEncoder(
        nnssl.residual_encoder_l(), units, nnssl.FEATURES, nnssl._STRIDES
    ),
    "mae": lambda _: planned_encoder(3),
    "tiny": lambda units: mini.build_tiny(None, units, 3),
}  # fmt: skip


def part_cases() -> dict[str, Callable[[Watch], Counts]]:
    cases: dict[str, Callable[[Watch], Counts]] = {}
    for name, build in ENCODERS.items():
        cases[f"encoder {name}"] = functools.partial(rehearse_encoder, build=build)
    for field in FIELDS:
        for kernel in get_args(Kernel):
            cases[f"field {field} {kernel}"] = functools.partial(rehearse_drift, field=field, kernel=kernel)
    for name in WEIGHTINGS:
        cases[f"weighting {name}"] = functools.partial(rehearse_weighting, name=name)
    for name, sampler in SAMPLERS.items():
        cases[f"sampler {name}"] = functools.partial(rehearse_sampler, sampler=sampler)
    cases["prediction"] = rehearse_prediction
    cases["prediction with flips"] = functools.partial(rehearse_prediction, mirror_axes=(2,))
    cases["prediction, the condition on the device"] = functools.partial(rehearse_prediction, on_device=True)
    for beam in ("parallel", "fan"):
        cases[f"projector {beam}"] = functools.partial(rehearse_projector, beam=beam)
    for dimensions in (2, 3):
        cases[f"augmentation {dimensions}D"] = functools.partial(rehearse_augmentation, dimensions=dimensions)
    cases["pretraining"] = rehearse_pretraining
    return cases


def rehearse_encoder(watch: Watch, build: Callable[[VolumeUnits], FrozenEncoder]) -> Counts:
    """Forward in mixed precision, and back to the volume."""
    encoder = faked(build(planned_units()), watch.mode).freeze().to(GPU)
    volume = torch.zeros(1, 1, EDGE, EDGE, EDGE, device=GPU, requires_grad=True)
    watch.restart()
    with torch.autocast("cuda", torch.bfloat16):
        maps = encoder(volume)
    torch.stack([level.values.float().mean() for level in maps]).sum().backward()
    return watch.restart()


def rehearse_drift(watch: Watch, field: str, kernel: str) -> Counts:
    """Half-precision features under autocast, with weights and twins: all must be float32 inside."""
    generated = torch.zeros(2, 64, 16, device=GPU, dtype=torch.bfloat16, requires_grad=True)
    positives, negatives = (torch.zeros(2, count, 16, device=GPU) for count in (96, 32))
    watch.restart()
    with torch.autocast("cuda", torch.bfloat16):
        weights = torch.ones(2, 32, device=GPU)
        loss, _ = drift_loss(generated, positives, negatives, weights, field=field, kernel=kernel, mask_twins=True)
    assert loss.dtype == torch.float32, loss.dtype
    loss.sum().backward()
    return watch.restart()


def rehearse_weighting(watch: Watch, name: str) -> Counts:
    """Three gradients, with a mask."""
    gradients = [torch.zeros(2, 1, 8, 8, 8, device=GPU) for _ in range(3)]
    mask = torch.ones(2, 1, 8, 8, 8, device=GPU)
    coordinator = Coordinator(name, "none")
    watch.restart()
    coordinator.combine(gradients, mask)
    return watch.restart()


def rehearse_sampler(watch: Watch, sampler: SamplerSpec) -> Counts:
    """A draw for a batch of patches, as validation makes them."""
    planned = planned_configuration("tiny")
    spec = planned.network if sampler.one_step else stepwise_spec(planned.network)
    network = build_network(spec).to(GPU).eval()
    condition = torch.zeros(2, 1, *planned.patch_size, device=GPU)
    draws = torch.Generator().manual_seed(0)
    watch.restart()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        sample_patches(sampler, network, condition, torch.ones_like(condition), 0.0, draws)
    return watch.restart()


def rehearse_prediction(watch: Watch, mirror_axes: tuple[int, ...] = (), on_device: bool = False) -> Counts:
    """A volume of three windows."""
    planned = planned_configuration("tiny")
    network = build_network(planned.network).to(GPU).eval()
    shape = (2 * planned.patch_size[0], *planned.patch_size[1:])
    options = WindowOptions(device=GPU, batch_size=2, precision="bfloat16", mirror_axes=mirror_axes)
    condition = torch.zeros(1, *shape, device=GPU) if on_device else np.zeros((1, *shape), np.float32)
    watch.restart()
    predict_volume(network, condition, planned.patch_size, options, mask=np.ones(shape, bool))
    return watch.restart()


def rehearse_projector(watch: Watch, beam: str) -> Counts:
    """Projection, filtered back-projection with a gradient, and steps towards the measured views.

    Sparse tensors ask CUDA's runtime itself: dense matrices stand in, whose devices are checked all the same.
    """
    turn = 180.0 if beam == "parallel" else 360.0
    geometry = plan_geometry(ScanSpec(views=8, beam=beam, range_degrees=turn), (32, 32), (1.0, 1.0, 1.0), "case")
    with (
        mock.patch.object(torch, "sparse_csr_tensor", _dense),
        mock.patch.object(torch.Tensor, "to_sparse_csr", lambda matrix: matrix),
    ):
        projector = Projector(geometry, GPU)
        images = torch.zeros(3, 32, 32, device=GPU, requires_grad=True)
        watch.restart()
        sinogram = projector.project(images)
        filtered_back_projection(sinogram, projector).sum().backward()
        consistency_steps(images.detach(), sinogram.detach(), projector, 2)
    return watch.restart()


def _dense(
    starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, size: tuple[int, int], **_: object
) -> torch.Tensor:
    del starts, columns
    return torch.zeros(size, dtype=values.dtype, device=values.device)


def rehearse_augmentation(watch: Watch, dimensions: int) -> Counts:
    """Two patches, turned, mirrored and changed by every transform that there is."""
    size = (EDGE,) * dimensions
    transforms = {type(one): dataclasses.replace(one, probability=1.0) for one in (*mr_intensity(), *hu_intensity())}
    augmentation = Augmentation(in_plane=dimensions == 2, intensity=tuple(transforms.values()))
    changes = [augmentation.draw(np.random.SeedSequence(seed), dimensions, move=True) for seed in range(2)]
    labels = [CropLabel("case", change.crop_shape(size), change) for change in changes]
    crops = Crops.empty(labels, 2, size).pinned()
    watch.restart()
    batch = crops.to(GPU).finish(augmentation)
    assert batch.condition.shape == (2, 1, *size)
    return watch.restart()


def rehearse_pretraining(watch: Watch) -> Counts:
    """A step of an encoder's own pretraining."""
    settings = PretrainingOptions(
        blocks=(1, 1, 1, 1), crop=32, shift=16, batch_size=2, places=32, masked_windows=1, blurred_windows=1
    )
    training = Pretraining(settings, _windows, Path(tempfile.gettempdir()), device=GPU)
    watch.restart()
    training.step()
    return watch.restart()


def _windows(_iteration: int) -> torch.Tensor:
    return torch.zeros(2, 1, 48, 48, 48)
