"""The question that planning asks a trainer: how much memory does a step of this configuration take?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gdmunet.dataset import DatasetDescriptor
from gdmunet.device import Precision
from gdmunet.drift_spec import DriftSpec
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.network_spec import NetworkSpec
from gdmunet.plans import Configuration, MemoryFootprint
from gdmunet.preprocessing.intensity_rules import IntensityPlan
from gdmunet.preprocessing.planned_encoder import PlannedEncoder


@dataclass(frozen=True)
class PlannedStep:
    """A training step before there is a training.

    Attributes
    ----------
    configuration
        Configuration to train; patch size, batch size and generator are those that planning tries. The batch is that
        of one process.
    dataset
        Description of the channels and the target.
    precision
        Precision of the forward pass.
    encoder
        The frozen encoder that the plans choose, with weights on any device; None if there is none.
    processes
        Processes that train together, each with such a batch.
    """

    configuration: Configuration
    dataset: DatasetDescriptor
    precision: Precision
    encoder: FrozenEncoder | None = None
    processes: int = 1


CountMemory = Callable[[PlannedStep], MemoryFootprint]
"""Peak bytes of a training step, by part. The command hands it to planning, which knows no trainer."""


def largest_memory(counts: Sequence[CountMemory]) -> CountMemory:
    """Of several trainers that one plan serves: at every size, the one that needs most."""

    def largest(planned: PlannedStep) -> MemoryFootprint:
        return max((count(planned) for count in counts), key=lambda memory: memory.total)

    return largest


@dataclass(frozen=True)
class StepTrial:
    """Asks how much memory a step takes, for generators, patch sizes and batch sizes that planning tries.

    Attributes
    ----------
    encoders
        Chosen encoders, by number of dimensions.
    gpus
        GPUs that share a batch; the memory is that of the one with the largest share.
    """

    count: CountMemory
    dataset: DatasetDescriptor
    precision: Precision
    transpose: tuple[int, int, int]
    intensities: IntensityPlan
    encoders: Mapping[int, PlannedEncoder]
    gpus: int = 1

    def __call__(
        self, network: NetworkSpec, patch_size: tuple[int, ...], batch_size: int, drift: DriftSpec | None = None
    ) -> MemoryFootprint:
        """Peak bytes; voxels of 1 mm stand for all, since their size takes no memory."""
        encoder = self.encoders.get(network.dimensions)
        configuration = Configuration(
            name="trial",
            transpose=self.transpose,
            spacing=(1.0,) * network.dimensions,
            median_shape=(1, 1, 1),
            patch_size=patch_size,
            batch_size=-(-batch_size // self.gpus),
            condition_normalization=self.intensities.conditions,
            target_normalization=self.intensities.target,
            background=self.intensities.background,
            order=1,
            network=network,
            predicted_memory=MemoryFootprint(0, 0, 0, 0, 0),
            encoder=encoder.spec if encoder else None,
            drift=drift,
        )
        module = encoder.module if encoder else None
        return self.count(PlannedStep(configuration, self.dataset, self.precision, module, self.gpus))
