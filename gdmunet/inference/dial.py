"""The dial of trained networks: which of them have one, where it stands, and networks with the dial in that place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class NoDialError(GdmError):
    """A place of the dial was asked for, and one or all networks have none.

    Attributes
    ----------
    having
        Numbers of the networks that have a dial.
    folds
        Their folds, if they come from a model folder.
    """

    having: tuple[int, ...] = ()
    folds: tuple[str, ...] = ()


@contextmanager
def naming_folds(folds: Sequence[str]) -> Iterator[None]:
    """Inside, a `NoDialError` says which of these folds, one for each network, have a dial."""
    try:
        yield
    except NoDialError as error:
        error.folds = tuple(folds[number] for number in error.having)
        raise


@dataclass(frozen=True)
class BothEnds:
    """A network with a dial, which gives its prediction at realism 0 and the change that realism 1 adds."""

    network: nn.Module

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> (B, 2, ...)."""
        faithful, change = self.network(batch, None)
        return torch.cat([faithful.float(), change.float()], dim=1)


def both_ends(networks: Sequence[Network]) -> list[Network]:
    """The networks, each of which gives both ends of its dial (GdmError: one has none)."""
    dialled(networks, 0.0)
    return [BothEnds(network) for network in networks if isinstance(network, nn.Module)]


def check_realism(realism: float | None) -> None:
    """Refuse a place that the dial does not have (GdmError)."""
    if realism is not None and not 0 <= realism <= 1:
        raise GdmError(
            "the dial for realism has no such place",
            found=realism,
            expected="0, the most faithful prediction, to 1, the most plausible one",
            remedy="give a number from 0 to 1",
        )


def dialled(networks: Sequence[Network], realism: float | None) -> tuple[list[Network], float | None]:
    """The networks with their dials at `realism`, and where the dials stand; None: there is no dial.

    Parameters
    ----------
    realism
        Place from 0 to 1; None: 0 of networks with a dial.

    Raises
    ------
    NoDialError
        A place for networks of which one or all have no dial, or networks with and without one.
    """
    check_realism(realism)
    having = tuple(number for number, network in enumerate(networks) if _has_dial(network))
    if not having and realism is None:
        return list(networks), None
    if len(having) < len(networks):
        error = NoDialError(
            "not all networks have a dial" if having else "the model has no dial for realism",
            found=f"{len(networks) - len(having)} of {len(networks)} networks without one",
            expected="networks that were trained by GDMTrainerDial",
            remedy="predict the folds with a dial by themselves (-f)" if having else "predict without --realism",
        )
        error.having = having
        raise error
    place = 0.0 if realism is None else float(realism)
    if place == 0.0:
        return list(networks), place  # the network as it is, so that not a bit differs
    return [DialledNetwork(network, place) for network in networks if isinstance(network, nn.Module)], place


def _has_dial(network: Network) -> bool:
    return getattr(network, "dial", None) is not None
