"""The drift of many token sets at once: sets of one size are stacked, so that a GPU starts few kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from gdmunet.training.drift.loss import DriftField, drift_losses
from gdmunet.training.drift.options import DriftOptions


@dataclass(frozen=True)
class SetSamples:
    """The samples of one token set, in B problems.

    Attributes
    ----------
    generated, positives, negatives, shared
        (B, G, C), (B, P, C), (B, N, C) or None, (B, M, C) or None, as for `drift_losses`.
    sizes
        Numbers of samples that other processes hold: sets are stacked alike on all of them.
    """

    generated: torch.Tensor
    positives: torch.Tensor
    negatives: torch.Tensor | None
    sizes: tuple[int, ...] = ()
    shared: torch.Tensor | None = None

    @property
    def size(self) -> tuple[object, ...]:
        """What sets must have in common to be stacked."""
        negatives, shared = (None if part is None else part.shape for part in (self.negatives, self.shared))
        return self.generated.shape, self.positives.shape, negatives, shared, self.sizes

    @property
    def distances(self) -> int:
        """Number of distances between its samples."""
        problems, generated, _ = self.generated.shape
        others = sum(part.shape[1] for part in (self.positives, self.negatives, self.shared) if part is not None)
        return problems * generated * (generated + others)


@dataclass(frozen=True)
class SetDrift:
    """The drift of one token set: loss (), the mean over its problems, and the field without S."""

    loss: torch.Tensor
    field: DriftField


def drift_of_sets(
    samples: Mapping[str, SetSamples], options: DriftOptions, averages: Mapping[str, torch.Tensor]
) -> dict[str, SetDrift]:
    """`drift_loss` of every set, each with its own unit of length and normalisation.

    Parameters
    ----------
    averages
        `DriftField.force_average` of the previous call, of the sets that have one.

    Returns
    -------
    dict
        Keys and order of `samples`.
    """
    found: dict[str, SetDrift] = {}
    for keys in _stacks(samples, options.block_elements, averages):
        stack = [samples[key] for key in keys]
        negatives = [one.negatives for one in stack if one.negatives is not None]
        shared = [one.shared for one in stack if one.shared is not None]
        loss, field = drift_losses(
            torch.stack([one.generated for one in stack]),
            torch.stack([one.positives for one in stack]),
            torch.stack(negatives) if negatives else None,
            options=options,
            shared=torch.stack(shared) if shared else None,
            force_average=torch.stack([averages[key] for key in keys]) if keys[0] in averages else None,
        )
        losses = loss.mean(1).unbind(0)
        found |= {key: SetDrift(losses[number], field.of_set(number)) for number, key in enumerate(keys)}
    return {key: found[key] for key in samples}


def _stacks(
    samples: Mapping[str, SetSamples], most: int, averages: Mapping[str, torch.Tensor]
) -> Iterator[Sequence[str]]:
    """Sets of one size, of which all or none have an average, and no more at once than `most` distances."""
    groups: dict[object, list[str]] = {}
    for key, one in samples.items():
        groups.setdefault((one.size, key in averages), []).append(key)
    for keys in groups.values():
        together = max(1, most // max(1, samples[keys[0]].distances))
        yield from (keys[start : start + together] for start in range(0, len(keys), together))
