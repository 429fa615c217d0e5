"""The dial of trained networks: which of them have one, where it stands, and networks with the dial in that place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gdmunet.errors import GdmError
from gdmunet.inference.window_options import Network


@dataclass(frozen=True)
class DialledNetwork:
    """A network with a dial, which stands at `realism`."""

    network: nn.Module
    realism: float

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> (B, 1, ...)."""
        prediction: torch.Tensor = self.network(batch, self.realism)
        return prediction


def check_realism(realism: float | None) -> None:
    """Refuse a place that the dial does not have (GdmError)."""
    if realism is not None and not 0 <= realism <= 1:
        raise GdmError(
            "the dial for realism has no such place",
            found=realism,
            expected="0, the most faithful prediction, to 1, the most plausible one",
        )


def dialled(networks: Sequence[Network], realism: float | None) -> tuple[list[Network], float | None]:
    """The networks with their dials at `realism`, and where the dials stand; None: there is no dial.

    Parameters
    ----------
    realism
        Place from 0 to 1; None: 0 of networks with a dial.

    Raises
    ------
    GdmError
        A place for networks of which one or all have no dial, or networks with and without one.
    """
    check_realism(realism)
    without = sum(not _has_dial(network) for network in networks)
    if without == len(networks) and realism is None:
        return list(networks), None
    if without:
        raise GdmError(
            "the model has no dial for realism" if without == len(networks) else "not all networks have a dial",
            found=f"{without} of {len(networks)} networks without one",
            expected="networks that were trained by GDMTrainerDial",
            remedy="omit --realism: it is for models with a dial (GDMTrainerDial)"
            if without == len(networks)
            else "predict the folds with a dial by themselves (-f)",
        )
    place = 0.0 if realism is None else float(realism)
    if place == 0.0:
        return list(networks), place  # the network as it is, so that not a bit differs
    return [DialledNetwork(network, place) for network in networks if isinstance(network, nn.Module)], place


def _has_dial(network: Network) -> bool:
    return getattr(network, "dial", None) is not None
