"""Several objectives meet where their gradients have the same shape: in the generator's output.

One backward pass through the generator is enough::

    output = generator(condition)
    leaf = output.detach().float().requires_grad_()
    fidelity = output_gradient(fidelity_loss(leaf), leaf)
    drift = output_gradient(drift_of(encoder(leaf)), leaf)
    direction = coordinate([fidelity, drift], "adaptive", "none")
    output.backward(gradient=direction.to(output.dtype))

Scales. `coordinate` works on unscaled gradients, so that thresholds and averages mean the same at every step. With a
gradient scaler, pass its scale, `scaler.scale(torch.ones(()))`, to `output_gradient` (half precision needs it on the
way through the encoder; the result is unscaled) and `scaler.scale(direction)` to `backward`. With gradient accumulation
divide the direction, not the losses: `output.backward(gradient=direction / steps)`.

Several ranks. The losses of each rank are means over its own batch, and the ranks' weight gradients are averaged; the
Gramian is then that of the whole batch, the same on every rank, and so are the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch

from gdmunet.errors import GdmError
from gdmunet.training.coordination.calibration import Calibration
from gdmunet.training.coordination.weightings import WEIGHTINGS, WeightingName, WeightingOptions, cosines_of
from gdmunet.training.coordination.weights import GradientNormalisation, weights_of
from gdmunet.training.distributed import sum_over_ranks, world_size


@dataclass(frozen=True)
class Coordinated:
    """Result of combining several gradients.

    Attributes
    ----------
    direction
        Direction of the shape of the gradients, (B, ...).
    weights
        (m,): direction = sum of weights times gradients; (B, m) per sample.
    norms
        (m,) lengths of the gradients over all ranks, or (B, m).
    cosines
        (m, m) between them, or (B, m, m).

    Notes
    -----
    Weights, norms and cosines lie on the gradients' device under an elementwise weighting, else on the CPU.
    """

    direction: torch.Tensor
    weights: torch.Tensor
    norms: torch.Tensor
    cosines: torch.Tensor

    @property
    def cosine(self) -> torch.Tensor:
        """() between the first gradient and the second (mean over samples); 0 where there is one gradient alone."""
        return self.cosines[..., 0, 1].mean() if self.cosines.shape[-1] > 1 else self.cosines.new_zeros(())

    @property
    def shares(self) -> torch.Tensor:
        """(m,) length of every part of the direction against all parts; MGDA's lambda on normalised gradients."""
        parts = (self.weights * self.norms).abs()
        return (parts / parts.sum(-1, keepdim=True).clamp_min(1e-300)).reshape(-1, parts.shape[-1]).mean(0)


def coordinate(
    gradients: Sequence[torch.Tensor],
    weighting: WeightingName,
    normalise: GradientNormalisation,
    *,
    mask: torch.Tensor | None = None,
    per_sample: bool = False,
    options: WeightingOptions | None = None,
    across_ranks: bool = True,
) -> torch.Tensor:
    """One direction from the gradients of several objectives.

    Parameters
    ----------
    gradients
        Equally shaped, (B, ...), unscaled; the fidelity's first.
    weighting
        A key of `WEIGHTINGS`.
    normalise
        Normalisation. ``l2``: the weighting sees unit gradients, and the result is multiplied with the first one's
        length. ``none``: it sees them as they are.
    mask
        Mask (B, 1, ...) of 0 and 1: the gradients count only inside; the direction is zero outside.
    per_sample
        Whether each sample has weights of its own, instead of the whole batch.
    options
        Numbers of ``sum``, ``adaptive``, ``calibrated`` and ``cagrad``.
    across_ranks
        Whether the Gramian is summed over all ranks, which must then all call; per sample nothing is summed.

    Returns
    -------
    torch.Tensor
        Shape and dtype of the first gradient. MGDA's is as long as the first gradient. A zero gradient does not count
        (the first that is not zero then gives the length). Where a gradient is not finite, all of it is NaN: a gradient
        scaler skips the step.

    Raises
    ------
    GdmError
        Unknown weighting or normalisation, or gradients of different shapes.
    """
    return (
        Coordinator(weighting, normalise, per_sample=per_sample, options=options, across_ranks=across_ranks)
        .combine(gradients, mask)
        .direction
    )


class Coordinator:
    """A choice of coordination, with an average of the Gramian if one is wanted.

    Parameters
    ----------
    weighting, normalise, per_sample, options, across_ranks
        The same as those of `coordinate`.
    gramian_ema
        Weight of the past, per step, in the average of the Gramian from which the weights come; 0: the present one
        alone.
    every
        Steps for which all gradients but the first count: that many times their weight.
    """

    def __init__(
        self,
        weighting: WeightingName,
        normalise: GradientNormalisation,
        *,
        per_sample: bool = False,
        gramian_ema: float = 0.0,
        every: int = 1,
        options: WeightingOptions | None = None,
        across_ranks: bool = True,
    ) -> None:
        _check_choice("weighting", weighting, tuple(WEIGHTINGS))
        _check_choice("normalisation", normalise, get_args(GradientNormalisation))
        if not 0 <= gramian_ema < 1 or (per_sample and gramian_ema):
            raise GdmError(
                "the Gramian cannot be averaged in this way",
                found=f"gramian_ema {gramian_ema}, per_sample {per_sample}",
                expected="a weight of the past from 0 to below 1; 0 per sample, as samples change from step to step",
                remedy="correct the two options",
            )
        self.weighting, self.normalise, self.per_sample = weighting, normalise, per_sample
        if weighting == "calibrated" and (per_sample or normalise != "none"):
            raise GdmError(
                "the weighting calibrated is one constant for gradients as they are",
                found=f"per_sample {per_sample}, normalise {normalise}",
                expected="per_sample false, normalise none",
                remedy="choose another weighting, or these values",
            )
        if every < 1:
            raise GdmError(
                "gradients cannot count for less than their own step",
                found=f"every {every}",
                expected="1 or more",
                remedy="set feature_every to 1 or more",
            )
        self.gramian_ema, self.across_ranks, self.every = gramian_ema, across_ranks, every
        self.options = options or WeightingOptions()
        self._calibration = Calibration(self.options.calibration_steps)
        self._sum: torch.Tensor | None = None
        self._steps = 0

    def combine(
        self,
        gradients: Sequence[torch.Tensor],
        mask: torch.Tensor | None = None,
        reach: torch.Tensor | None = None,
    ) -> Coordinated:
        """The direction of this step; shapes as for `coordinate`.

        Under ``calibrated``, `reach` (m,) is the distance that is left to each objective: the weights are those of
        forces at a distance of 1. None: those of the forces as they are.
        """
        present = gramian(gradients, mask, per_sample=self.per_sample, across_ranks=self.across_ranks)
        if self.gramian_ema or not WEIGHTINGS[self.weighting].elementwise:
            present = present.cpu()
        smooth = self._averaged(present)
        options = self.options
        if self.weighting == "calibrated":
            options = replace(options, ratios=self._calibration.ratios(present, reach))
        weights = weights_of(smooth, self.weighting, self.normalise, options)
        if self.every > 1:
            weights = torch.cat([weights[..., :1], self.every * weights[..., 1:]], -1)
        norms = present.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        return Coordinated(_combination(gradients, weights, mask), weights, norms, cosines_of(present))

    def state(self) -> dict[str, torch.Tensor]:
        """The state for continuing: tensors on the CPU; the same on every rank."""
        average = {} if self._sum is None else {"sum": self._sum.clone(), "steps": torch.tensor(self._steps)}
        return average | self._calibration.state()

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Continue where `state` stood."""
        self._sum = state["sum"].clone() if "sum" in state else None
        self._steps = int(state["steps"]) if "steps" in state else 0
        self._calibration.load_state(state)

    def _averaged(self, present: torch.Tensor) -> torch.Tensor:
        if not self.gramian_ema or not present.isfinite().all():
            return present
        if self._sum is not None and self._sum.shape != present.shape:
            raise GdmError(
                "the number of gradients has changed while their Gramian is averaged",
                found=len(present),
                expected=len(self._sum),
                remedy="give the same terms in every step",
            )
        past = torch.zeros_like(present) if self._sum is None else self._sum
        self._sum = self.gramian_ema * past + (1 - self.gramian_ema) * present
        self._steps += 1
        return self._sum / (1 - self.gramian_ema**self._steps)


def output_gradient(
    loss: torch.Tensor, output: torch.Tensor, *, loss_scale: float | torch.Tensor = 1.0, keep_graph: bool = False
) -> torch.Tensor:
    """Unscaled gradient of a loss () at `output`, in float32 at least; zeros where the loss does not depend on it.

    Parameters
    ----------
    loss
        (), with a graph that leads to `output`.
    output
        The generator's output, or a leaf in its place.
    loss_scale
        Factor that keeps half-precision gradients from vanishing; the result is divided by it.
    keep_graph
        Whether the graph is kept for another loss that shares a part of it; else it is freed.
    """
    if not loss.requires_grad:
        return _wide(torch.zeros_like(output))
    (scaled,) = torch.autograd.grad(loss * loss_scale, output, retain_graph=keep_graph, allow_unused=True)
    return _wide(torch.zeros_like(output) if scaled is None else scaled) / loss_scale


def gramian(
    gradients: Sequence[torch.Tensor],
    mask: torch.Tensor | None = None,
    *,
    per_sample: bool = False,
    across_ranks: bool = True,
) -> torch.Tensor:
    """Inner products of the gradients: (m, m), or (B, m, m) per sample; multiplied in float32, float64 from then on.

    Under several ranks, those of the loss that is averaged over all of them.
    """
    _check_shapes(gradients, mask)
    count, first = len(gradients), _wide(gradients[0])
    products = first.new_zeros(len(first), count, count)
    for i in range(count):
        inside = _wide(gradients[i]) if mask is None else _wide(gradients[i]) * mask
        for j in range(i + 1):
            products[:, i, j] = products[:, j, i] = (inside * _wide(gradients[j])).flatten(1).sum(1)
    if not per_sample:
        products = products.sum(0)
        products = sum_over_ranks(products) if across_ranks else products
    ranks = world_size() if across_ranks else 1
    # Not every device has float64.
    products = products.cpu() if products.device.type == "mps" else products
    return products.double() / ranks**2


def _combination(gradients: Sequence[torch.Tensor], weights: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    total = torch.zeros_like(_wide(gradients[0]))
    for number, gradient in enumerate(gradients):
        total += _factor(weights[..., number], total) * _wide(gradient)
    return (total if mask is None else total * mask).to(gradients[0].dtype)


def _factor(weight: torch.Tensor, total: torch.Tensor) -> torch.Tensor | float:
    """A weight () or (B,) as a factor of tensors (B, ...); a number on the host need not be copied to the device."""
    if weight.ndim == 0 and weight.device.type == "cpu":
        return float(weight)
    return weight.to(total).reshape(-1, *[1] * (total.ndim - 1)) if weight.ndim else weight.to(total)


def _wide(gradient: torch.Tensor) -> torch.Tensor:
    """Detached, in float32 at least."""
    return gradient.detach().to(torch.promote_types(gradient.dtype, torch.float32))


def _check_choice(what: str, chosen: str, known: tuple[str, ...]) -> None:
    if chosen not in known:
        raise GdmError(
            f"unknown {what} of gradients", found=chosen, expected=", ".join(known), remedy="choose one of these"
        )


def _check_shapes(gradients: Sequence[torch.Tensor], mask: torch.Tensor | None) -> None:
    shapes = [tuple(gradient.shape) for gradient in gradients]
    shape, within = (shapes[0], shapes[0] if mask is None else tuple(mask.shape)) if shapes else ((), ())
    fits = len(within) == len(shape) and all(m in (1, n) for m, n in zip(within, shape, strict=True))
    if len(set(shapes)) != 1 or not shape or not fits:
        raise GdmError(
            "gradients that are coordinated must have one shape, a batch of samples, and their mask must fit it",
            found=f"{shapes or 'no gradients'}, mask {None if mask is None else within}",
            remedy="give the gradients of one prediction, and a mask of its shape or of one channel",
        )
