"""The values between the loop and a trainer's hooks: the present step, predictions and loss terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, TypeAlias

import torch
from torch import nn

from gdmunet.seeds import step_seed
from gdmunet.training.draws import Draws

Objective = Literal["fidelity", "statistics", "features", "apart"]


@dataclass(frozen=True)
class Term:
    """One loss of a batch.

    Attributes
    ----------
    value
        Scalar () in network units.
    reported
        Whether the journal records it: a zero that stands for a missing measurement is not reported.
    objective
        The side that the term takes where gradients are coordinated; None: fidelity's, or among terms of an encoder
        the features'. A term ``apart`` is not coordinated: its trainer sends its gradient by itself.
    reach
        () distance that is left to the term, in spreads of what it moves towards; None: the term knows none.
    """

    value: torch.Tensor
    reported: bool = True
    objective: Objective | None = None
    reach: torch.Tensor | None = None


Terms: TypeAlias = Mapping[str, Term | torch.Tensor]


def as_terms(terms: Terms, objective: Objective | None = None) -> dict[str, Term]:
    """The terms with plain tensors as reported ones; those that name no objective of their own take `objective`."""
    whole = {name: value if isinstance(value, Term) else Term(value) for name, value in terms.items()}
    if objective is None:
        return whole
    return {name: replace(term, objective=term.objective or objective) for name, term in whole.items()}


@dataclass(frozen=True)
class Generated:
    """Result of `generate` for a batch.

    Attributes
    ----------
    prediction
        (B, 1, ...) in network units.
    context
        Tensors that the losses need besides, such as the times of a path; they find them in ``batch.context``.
    """

    prediction: torch.Tensor
    context: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """Real patches that a trainer asks to see before its next step.

    Attributes
    ----------
    patches
        Number of patches for each process.
    purpose
        Purpose of the patches, in words: the title of a progress bar.
    """

    patches: int
    purpose: str


@dataclass(frozen=True, eq=False)
class Step:
    """The optimiser step that the hooks work in, as the loop hands it over.

    Attributes
    ----------
    iteration
        0-based number of the step.
    network
        The generator, as the hooks call it (compiled, or shared by several processes).
    scaler
        Loss scale of float16; it does nothing elsewhere.
    draws
        Sources of the step's random numbers: a function of seed, iteration and rank, so that resuming repeats them.
    autocast
        Function that opens mixed precision.
    say
        Function that adds a line to the training's log.
    notes
        Numbers that the hooks reported, by name.
    requirements
        Conditions that must hold, each with the function to call if it does not.
    """

    iteration: int
    network: nn.Module
    scaler: torch.amp.GradScaler
    draws: Draws
    autocast: Callable[[], AbstractContextManager[Any]]
    say: Callable[[str], None]
    notes: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    requirements: list[tuple[torch.Tensor, Callable[[], NoReturn]]] = field(default_factory=list)

    def loss_scale(self, device: torch.device) -> torch.Tensor:
        """Factor () of the losses before their backward pass: float16's present loss scale, 1 elsewhere.

        The scaler makes its scale when it first scales a tensor: reading it instead would leave it unmade.
        """
        scale: torch.Tensor = self.scaler.scale(torch.ones((), device=device))
        return scale

    def note(self, name: str, value: torch.Tensor) -> None:
        """Report a scalar of this step: the journal holds its mean over the epoch."""
        self.notes.setdefault(name, []).append(value.detach().float().reshape(()))

    def require(self, holds: torch.Tensor, refuse: Callable[[], NoReturn]) -> None:
        """Call `refuse`, which raises, if `holds` () is false: when the step reports, which is before the optimiser."""
        self.requirements.append((holds.detach().float().reshape(()), refuse))

    def report(self) -> dict[str, float]:
        """The mean of every note; one transfer from the device for all of them, and for what was required.

        Raises
        ------
        GdmError
            Something that was required does not hold.
        """
        values = [value for notes in self.notes.values() for value in notes]
        known = iter(_on_host([*values, *(holds for holds, _ in self.requirements)]))
        means = [torch.stack([next(known) for _ in notes]).mean() for notes in self.notes.values()]
        for _, refuse in self.requirements:
            if not next(known):
                refuse()
        return dict(zip(self.notes, torch.stack(means).tolist(), strict=True))


def _on_host(values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Scalars in the host's memory; those of each device in one transfer."""
    known: dict[int, torch.Tensor] = {}
    for device in {value.device for value in values}:
        places = [place for place, value in enumerate(values) if value.device == device]
        known |= dict(zip(places, torch.stack([values[place] for place in places]).cpu(), strict=True))
    return [known[place] for place in range(len(values))]


def step_draws(seed: int, iteration: int, rank: int, device: torch.device) -> Draws:
    """The random numbers of one step on one process."""
    return Draws.seeded(step_seed(seed, iteration, rank), device)
