"""The constant weight of ``calibrated``: measured over the first steps of a drift, then frozen."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gdmunet.errors import GdmError


class Calibration:
    """Mean ratios |g1| / |gi| of the gradients' lengths over the first calls; later calls change nothing.

    A weight that follows the gradients, as ``adaptive`` has it, gives a force the same length whatever is left to do.
    Under a constant one a force that fades has less and less say.

    Parameters
    ----------
    steps
        Number of calls that the mean is taken over.
    """

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise GdmError(
                "a weight cannot be calibrated",
                found=f"calibration_steps {steps}",
                expected="1 or more",
                remedy="set calibration_steps to 1 or more",
            )
        self.steps = steps
        self._sums: torch.Tensor | None = None
        self._counts: torch.Tensor | None = None

    def ratios(self, gramian: torch.Tensor, reach: torch.Tensor | None = None) -> torch.Tensor:
        """(m,) mean ratios so far, the present gradients' with inner products (m, m) included; 1 for the first.

        A gradient that is zero or not finite is not measured; its ratio is 0 until it has been.

        Parameters
        ----------
        gramian
            (m, m) inner products of the present gradients.
        reach
            (m,) factors of the present ratios; None: 1.

        Raises
        ------
        GdmError
            The number of gradients has changed.
        """
        norms = gramian.diagonal().clamp_min(0).sqrt()
        if self._sums is None or self._counts is None:
            self._sums, self._counts = torch.zeros_like(norms), torch.zeros_like(norms)
        if len(self._sums) != len(norms):
            raise GdmError(
                "the number of gradients has changed while their weights are calibrated",
                found=len(norms),
                expected=len(self._sums),
                remedy="give the same terms in every step",
            )
        self._sums, self._counts = self._sums.to(norms.device), self._counts.to(norms.device)
        ratios = norms[0] / norms if reach is None else reach.to(norms) * norms[0] / norms
        measured = ratios.isfinite() & (norms[0] > 0) & (self._counts < self.steps)
        self._sums += torch.where(measured, ratios, 0.0)
        self._counts += measured
        return self._sums / self._counts.clamp_min(1)

    def state(self) -> dict[str, torch.Tensor]:
        """The state for continuing: tensors on the CPU."""
        if self._sums is None or self._counts is None:
            return {}
        return {"ratio_sums": self._sums.clone().cpu(), "ratio_counts": self._counts.clone().cpu()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue where `state` stood; keys of others are left alone."""
        self._sums, self._counts = (
            state[name].clone() if name in state else None for name in ("ratio_sums", "ratio_counts")
        )
