"""The content of a training, as settings and hooks. The loop calls them; nothing here touches a disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from gdmunet.dataset import DatasetDescriptor
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import Configuration, EncoderSpec
from gdmunet.sampler_spec import ONE_STEP, SamplerSpec
from gdmunet.training.draws import Draws
from gdmunet.training.patches.augmentation import Augmentation
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.intensity import hu_intensity, mr_intensity
from gdmunet.training.trainers.optimizers import adamw
from gdmunet.training.trainers.step import Generated, Preview, Step, Term, Terms
from gdmunet.training.trainers.trainer_settings import TrainerSettings

EncoderLoader = Callable[[EncoderSpec, VolumeUnits], FrozenEncoder]


class Trainer(TrainerSettings, ABC):
    """Settings and hooks of a training.

    Parameters
    ----------
    configuration
        Configuration to train: spacing, patches, normalisation, the generator in numbers, the frozen encoder.
    dataset
        Description of the channels and the target.
    device
        Device to train on.
    load_encoder
        Function that gives the frozen encoder of a plan; trainers without an encoder do not call it.

    Attributes
    ----------
    step
        The present step, set by the loop before it calls a hook that works on a batch.

    Notes
    -----
    A subclass overrides settings (bare names) and any of the hooks. The order in which they are called is written
    once, in `gdmunet.training.loop`.
    """

    uses_encoder: ClassVar[bool] = False
    """Whether a frozen encoder stands beside the generator."""
    reads_decoder: ClassVar[bool] = False
    """Whether that encoder must have levels of a decoder."""
    trains_in_turns: ClassVar[bool] = False
    """Whether some steps leave trained weights without a gradient."""

    def __init__(
        self,
        configuration: Configuration,
        dataset: DatasetDescriptor,
        device: torch.device,
        load_encoder: EncoderLoader | None = None,
    ) -> None:
        self.configuration, self.dataset, self.device = configuration, dataset, device
        self.load_encoder = load_encoder
        self.units = VolumeUnits.of(configuration, dataset.target_name)
        self.step: Step

    @property
    def network_spec(self) -> NetworkSpec:
        """The generator in numbers: the planned one; it is stored with the weights."""
        return self.configuration.network

    @property
    def thick_slices(self) -> bool:
        """Whether slices are so thick that a change across them is not one of the anatomy within them."""
        spacing = self.configuration.spacing
        return self.configuration.dimensions == 3 and spacing[0] > 3 * spacing[-1]

    @property
    def sampler(self) -> SamplerSpec:
        """The sampler of the trained network; it is stored with the weights."""
        return ONE_STEP

    @property
    def slower_from(self) -> int | None:
        """Step from which on each takes longer; None: all take the same time."""
        return None

    def build_network(self) -> nn.Module:
        """The generator with fresh weights."""
        return build_network(self.network_spec)

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """AdamW; no weight decay on biases and norms, as usual."""
        weights = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return adamw(groups, self.device, lr=self.learning_rate, betas=self.betas)

    def group_learning_rate(self, group: Mapping[str, Any]) -> float:
        """Learning rate of one of the optimiser's groups in the present step."""
        del group
        return self.learning_rate_at(self.step.iteration)

    def starts_from_average(self) -> bool:
        """Whether the present step takes the averaged weights as the network's own."""
        return False

    def improves(self, error: float, best: float) -> bool:
        """Whether an epoch's weights become the best ones, by the moving average of their validation error."""
        return error < best

    def prepare(self) -> None:
        """Make the parts beside the generator; called once, after the generator's weights are drawn."""

    def augmentation(self) -> Augmentation:
        """The augmentation of a training patch."""
        affine = all(spec.scheme == "affine" for spec in self.configuration.condition_normalization)
        intensity = (hu_intensity() if affine else mr_intensity()) if self.intensity_augmentation else ()
        return Augmentation(
            self.spatial_probability, self.rotation, in_plane=self.thick_slices, mirror=self.mirror, intensity=intensity
        )

    def preview(self) -> Preview | None:
        """Real patches that the trainer asks to see before the present step; here none."""
        return None

    def see(self, batch: Batch, draws: Draws) -> None:
        """Take in real patches that `preview` asked for; `draws` is one stream over all of them."""

    def generate(self, batch: Batch) -> Generated | torch.Tensor:
        """Prediction (B, 1, ...) of a batch, in network units; runs under autocast."""
        return Generated(self.step.network(batch.condition))

    @abstractmethod
    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """Named losses of a float32 prediction: scalars, or `Term`."""

    def combine(self, terms: Mapping[str, Term], prediction: torch.Tensor) -> None:
        """Send gradients into the generator: here, of the sum of the terms."""
        total = torch.stack([term.value for term in terms.values()]).sum()
        self.step.scaler.scale(total / self.accumulation).backward()

    def description(self) -> str:
        """A subclass's text before training starts, beside its settings; may be empty."""
        return ""

    def extra_state(self) -> dict[str, Any]:
        """A subclass's part of the resume state: tensors and plain values."""
        return {}

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
