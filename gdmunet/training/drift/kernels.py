"""Distances between generated samples and all others, block by block, and the kernels on them.

Everything is float32. Logarithms are to base 2: exp2 is the cheapest exponential on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gdmunet.training.drift.options import Kernel

SQUARED_FLOOR = 1e-8
SELF_DISTANCE = 100.0
"""Added to a sample's distance from itself, in units of the mean distance: its affinity vanishes."""
CACHED_ELEMENTS = 2**18
"""Size of a block on a CPU: its temporaries stay in the processor's cache."""
LOG2_E = 1.4426950408889634


class Distances:
    """Euclidean distances (B, G, C) of G queries from C targets, taken in blocks of queries.

    All distances are kept where they fit into the budget; else every pass computes them anew, so that memory stays at a
    few blocks and time grows by one matrix product per pass. Either way a block's temporaries are written into the same
    scratch memory again and again: fresh memory costs a CPU more than the arithmetic.

    Parameters
    ----------
    queries
        (B, G, D).
    targets
        (B, C, D).
    first_self
        Target `first_self + i` is query i itself.
    budget
        Largest number of distances to keep.
    first_twin
        Target `first_twin + i` is the real sample at the place of query i; None: there are no twins, or they count.
    """

    def __init__(
        self, queries: torch.Tensor, targets: torch.Tensor, first_self: int, budget: int, first_twin: int | None = None
    ) -> None:
        problems, self.count, _ = queries.shape
        width = targets.shape[1]
        self.queries, self.targets, self.first_self, self.first_twin = queries, targets, first_self, first_twin
        self.query_squares = queries.square().sum(-1, keepdim=True)
        self.target_squares = targets.square().sum(-1)[:, None, :]
        size = min(budget, CACHED_ELEMENTS) if queries.device.type == "cpu" else budget
        self.rows = min(self.count, max(1, size // (problems * width)))
        self.unit: torch.Tensor | None = None
        self.self_distance = 0.0
        self._kept = None if problems * self.count * width > budget else queries.new_empty(problems, self.count, width)
        self._filled = False
        self._least: tuple[torch.Tensor, torch.Tensor] | None = None
        self._scratch = [queries.new_empty(problems, self.rows, width) for _ in range(2 + (self._kept is None))]

    def scratch(self, number: int, rows: slice) -> torch.Tensor:
        """Memory (B, rows, C) for temporaries of a block, number 0 or 1; another call for that number reuses it."""
        return self._scratch[number][:, : rows.stop - rows.start]

    def total(self, weights: torch.Tensor | None, sets: int) -> torch.Tensor:
        """(sets,) sums of all distances of each set's problems, times the targets' weights (B or 1, C); None: 1."""
        parts = []
        for _, block in self.blocks():
            if weights is None:
                parts.append(block.unflatten(0, (sets, -1)).sum((1, 2, 3)))
            else:
                parts.append((block.sum(1) * weights).view(sets, -1).sum(1))
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def least(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Least distance of every query (B, G, 1) and of every target (B, 1, C), in units; measured once."""
        assert self.unit is not None
        if self._least is None:
            of_rows, of_columns = [], None
            for _, block in self.blocks():
                of_rows.append(block.amin(-1, keepdim=True))
                nearest = block.amin(-2, keepdim=True)
                of_columns = nearest if of_columns is None else torch.minimum(of_columns, nearest)
            assert of_columns is not None
            self._least = joined(of_rows), of_columns
        return self._least

    def normalise(self, unit: torch.Tensor, mask_self: bool) -> None:
        """From here on distances are in units of `unit` (B,), those from a sample to itself larger by 100 if masked.

        Those to its twin are larger by as much, where there are twins.
        """
        self.unit, self.self_distance = unit, SELF_DISTANCE if mask_self else 0.0
        if self._kept is not None and self._filled:
            self._to_units(self._kept, unit, 0)

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Rows and their distances (B, rows, C); the receiver must not change them."""
        for start in range(0, self.count, self.rows):
            rows = slice(start, min(start + self.rows, self.count))
            block = self.scratch(2, rows) if self._kept is None else self._kept[:, rows]
            if not self._filled:
                self._measure(block, rows)
                if self.unit is not None:
                    self._to_units(block, self.unit, start)
            yield rows, block
        self._filled = self._kept is not None

    def _measure(self, block: torch.Tensor, rows: slice) -> None:
        torch.baddbmm(self.target_squares, self.queries[:, rows], self.targets.mT, alpha=-2.0, out=block)
        block.add_(self.query_squares[:, rows]).clamp_(min=SQUARED_FLOOR).sqrt_()
        self.selves(block, rows.start).fill_(SQUARED_FLOOR**0.5)  # zero up to round-off

    def _to_units(self, block: torch.Tensor, unit: torch.Tensor, start: int) -> None:
        block.mul_(1.0 / unit[:, None, None])  # cheaper than dividing
        if self.self_distance:
            self.selves(block, start).add_(self.self_distance)
        if self.first_twin is not None:
            block.diagonal(self.first_twin + start, 1, 2).add_(SELF_DISTANCE)

    def selves(self, block: torch.Tensor, start: int) -> torch.Tensor:
        """View (B, rows) of the places of a block starting at query `start` where queries meet themselves."""
        return block.diagonal(self.first_self + start, 1, 2)


def log2_kernel(
    distances: torch.Tensor,
    temperature: float,
    kernel: Kernel,
    out: torch.Tensor,
    plus: torch.Tensor | None = None,
    *,
    sign: float = 1.0,
) -> torch.Tensor:
    """log2 of exp(-r / tau) (Laplace) or exp(-r^2 / (2 tau^2)) (Gaussian), written into `out`; times `sign` (1 or -1).

    `plus` is added in the same pass: a CPU's time goes into passes over memory, a GPU's into starting them.
    """
    if kernel == "laplace":
        factor = -sign * LOG2_E / temperature
        if plus is None:
            return torch.mul(distances, factor, out=out)
        return torch.add(plus, distances, alpha=factor, out=out)
    torch.mul(distances, distances, out=out).mul_(-sign * LOG2_E / (2.0 * temperature**2))
    return out if plus is None else out.add_(plus)


def joined(blocks: list[torch.Tensor]) -> torch.Tensor:
    """Blocks of queries one after the other; a single one is not copied."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def log2_sum_exp2(values: torch.Tensor, dim: int, out: torch.Tensor) -> torch.Tensor:
    """log2 of the sum of 2^values along `dim`, which stays with length 1; `out` (may be `values`) is overwritten."""
    top = values.amax(dim, keepdim=True)
    return torch.sub(values, top, out=out).exp2_().sum(dim, keepdim=True).log2_().add_(top)
