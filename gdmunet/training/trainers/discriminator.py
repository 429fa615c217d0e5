"""The discriminator of the adversarial rival: a conditional PatchGAN with spectral norm, and its losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

from gdmunet.network_spec import NetworkSpec
from gdmunet.training import distributed

AdversarialLoss = Literal["hinge", "least_squares"]


@dataclass(frozen=True)
class DiscriminatorSpec:
    """A PatchGAN in numbers.

    Attributes
    ----------
    in_channels
        Condition channels and the image that is judged.
    width
        Channels of the first layer; each further one has twice as many, at most 8 times.
    strides
        Strides of the layers that shrink.
    """

    in_channels: int
    width: int
    strides: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, network: NetworkSpec, width: int, layers: int) -> DiscriminatorSpec:
        """Beside a planned generator: its first strides, so that thick slices are not shrunk across."""
        return cls(network.condition_channels + 1, width, network.strides[1 : 1 + layers])


class SpectralNorm(nn.Module):
    """Divides a convolution's weight by its largest singular value: one power iteration per pass in training.

    torch's own fails in mixed precision (a product of a float32 and a bfloat16 vector). Products and sums element by
    element stay in float32 there.
    """

    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("left", functional.normalize(torch.randn(len(matrix)), dim=0))
        self.register_buffer("right", torch.zeros(matrix.shape[1]))
        for _ in range(15):
            self._iterate(matrix)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight at unit norm."""
        matrix = weight.flatten(1)
        if self.training:
            self._iterate(matrix.detach())
        # Copies: the next pass moves the vectors before this one's gradient is taken.
        return weight / ((matrix * self.right.clone()).sum(dim=1) * self.left.clone()).sum()

    @torch.no_grad()
    def _iterate(self, matrix: torch.Tensor) -> None:
        self.right.copy_(functional.normalize((matrix * self.left[:, None]).sum(dim=0), dim=0))
        self.left.copy_(functional.normalize((matrix * self.right).sum(dim=1), dim=0))


class PatchDiscriminator(nn.Module):
    """Judges every place of an image by its surroundings, given the condition.

    Convolutions with spectral norm and LeakyReLU, and no other norm: spectral norm alone keeps it Lipschitz, and
    statistics of a patch would tell it apart by the share of air in it.

    Source: Isola et al., arXiv 1611.07004 (PatchGAN); Miyato et al., arXiv 1802.05957 (spectral norm).
    """

    def __init__(self, spec: DiscriminatorSpec) -> None:
        super().__init__()
        conv: Any = nn.Conv3d if len(spec.strides[0]) == 3 else nn.Conv2d
        channels, layers = spec.in_channels, []
        for number, stride in enumerate(spec.strides):
            width = spec.width * min(2**number, 8)
            # Four voxels where the stride is two, so that every voxel counts as often as its neighbours.
            kernel = tuple(4 if step > 1 else 3 for step in stride)
            layers.append(_at_unit_norm(conv(channels, width, kernel, stride, padding=1)))
            channels = width
        width = spec.width * min(2 ** len(spec.strides), 8)
        layers.append(_at_unit_norm(conv(channels, width, 3, padding=1)))
        self.layers = nn.ModuleList(layers)
        self.head = _at_unit_norm(conv(width, 1, 3, padding=1))

    def forward(self, condition: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, ...) and (B, 1, ...) -> the features of every layer, and last the judgement (B, 1, ...)."""
        values, features = torch.cat([condition, image], dim=1), []
        for layer in self.layers:
            values = functional.leaky_relu(layer(values), 0.2)
            features.append(values)
        return [*features, self.head(values)]


def _at_unit_norm(convolution: nn.Conv2d | nn.Conv3d) -> nn.Module:
    return register_parametrization(convolution, "weight", SpectralNorm(convolution.weight))


def discriminator_loss(
    real: torch.Tensor, fake: torch.Tensor, mask: torch.Tensor, kind: AdversarialLoss
) -> torch.Tensor:
    """The discriminator's loss over its judgements (B, 1, ...), each weighted by its share of body voxels.

    Hinge: mean of max(0, 1 - real) + max(0, 1 + fake) (Lim and Ye, arXiv 1705.02894). Least squares: mean of
    ((real - 1)^2 + fake^2) / 2 (Mao et al., arXiv 1611.04076).
    """
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return body_mean(functional.relu(1 - real) + functional.relu(1 + fake), mask)
    return body_mean(0.5 * ((real - 1).square() + fake.square()), mask)


def generator_loss(fake: torch.Tensor, mask: torch.Tensor, kind: AdversarialLoss) -> torch.Tensor:
    """The generator's loss: the mean of -fake (hinge) or of (fake - 1)^2 / 2 (least squares)."""
    fake = fake.float()
    return body_mean(-fake if kind == "hinge" else 0.5 * (fake - 1).square(), mask)


def gradient_penalty(judgement: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """R1: half the squared norm of the judgement's gradient at real images, mean over the batch.

    Source: Mescheder et al., arXiv 1801.04406, equation 9. The judgement of an image is the mean over its places.
    """
    scores = body_mean(judgement.float(), mask) * len(image)
    (gradient,) = torch.autograd.grad(scores, image, create_graph=True)
    return 0.5 * gradient.float().square().flatten(1).sum(dim=1).mean()


def feature_distance(real: list[torch.Tensor], fake: list[torch.Tensor]) -> torch.Tensor:
    """Mean over the layers of the mean absolute difference of features (Wang et al., arXiv 1711.11585, equation 4)."""
    return torch.stack([(a.detach().float() - b.float()).abs().mean() for a, b in zip(real, fake, strict=True)]).mean()


def body_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of judgements (B, 1, ...) weighted by the share of body (mask (B, 1, ...), finer) at their places.

    Under several processes the weights are those of all, as in `masked_mean`.
    """
    weights = functional.interpolate(mask, size=values.shape[2:], mode="area")
    return (values * weights).sum() / distributed.mean_over_ranks(weights.sum()).clamp(min=1e-6)
