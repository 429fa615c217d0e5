"""The options of a drift loss, their defaults, and the uses of each field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gdmunet.errors import GdmError

FieldName = Literal["official", "sinkhorn", "sharp", "logkde", "score", "mmd"]
Kernel = Literal["laplace", "gaussian"]
ForceNormalisation = Literal["batch", "ema", "floored", "frozen"]


@dataclass(frozen=True)
class Field:
    """A row of the table of fields in documentation/explanation/drift.md.

    Attributes
    ----------
    formula
        The field in words or symbols, with its source.
    purpose
        Use of the option.
    """

    formula: str
    purpose: str


FIELDS: dict[FieldName, Field] = {
    "official": Field("step 4 above (2602.04770)", "the default; comparison with the paper"),
    "sinkhorn": Field(
        "balances rows and columns `sinkhorn_iterations` times; 1 is `official` (2603.12366)",
        "outliers that attract everything: `GDMTrainerSinkhorn`",
    ),
    "sharp": Field(
        "E+[k (y-x)] / E+[k#] - E-[k (y-x)] / E-[k#], k# = tau (r + tau) k for Laplace: a gradient field (2604.06333)",
        "large pooled sets, since nothing depends on their size: `GDMTrainerSharpField`",
    ),
    "logkde": Field(
        "the scalar log E-[k#] - log E+[k#]; its gradient is exactly minus the sharp field, not normalised",
        "a value that says whether training converges: `GDMTrainerLogKDE`",
    ),
    "score": Field(
        "grad log E+[k] - grad log E-[k] (2605.10727)",
        "reference for `sharp`, which it equals except for a cusp at small distances; no named trainer",
    ),
    "mmd": Field(
        "E+[k (y-x)] - E-[k (y-x)]: the gradient of a squared MMD",
        "reference whose optimum is known; far samples get no force at small temperatures; no named trainer",
    ),
}


@dataclass(frozen=True)
class DriftOptions:
    """Options of `drift_loss`; the trainers' settings take their defaults from here.

    Attributes
    ----------
    temperatures
        Widths of the kernel in units of the mean distance; the forces add up.
    field
        A key of `FIELDS`. ``official``: affinities balanced over targets and queries; ``sinkhorn``: the same with
        `sinkhorn_iterations`; ``sharp``, ``score``, ``mmd``: differences of mean shifts (see `mean_shift`);
        ``logkde``: the scalar whose gradient is minus the ``sharp`` field. Its value falls to 0 as the distributions
        meet, and it is never normalised; the value of all others is nearly constant and says nothing.
    kernel
        Laplace exp(-r / tau) or Gaussian exp(-r^2 / (2 tau^2)).
    affinity_floor
        Least product of the two softmaxes (``official``, ``sinkhorn``); 0: none. The authors' is 1e-6, which swamps
        the affinities of large sets.
    normalisation
        Divisor of the force of each temperature: ``batch``, its root mean square; ``ema``, a running average of that,
        of which `force_decay` is the share kept; ``floored``, its root mean square but at least `force_floor`: a
        force below it, mostly noise, stays small; ``frozen``, the average that is handed in, for ever the same one:
        the force fades as the distributions meet.
    mask_self
        Whether a generated sample does not repel itself.
    mask_twins
        The first G positives are the real samples at the places of the generated ones, and none attracts its own twin:
        without a self that repels, a twin that attracts would unbalance equal sets, and the samples would spread.
    sinkhorn_iterations
        Rounds of balancing of the field ``sinkhorn``.
    block_elements
        Largest number of distances held at once in a buffer, of which there are about three. Numbers do not depend on
        it.
    across_ranks
        The sets are spread over all training processes, each of which calls `drift_loss` with its own part: the mean
        of the losses and gradients over processes is that of one process with everything.

    Raises
    ------
    GdmError
        Unknown names, numbers out of range, or ``logkde`` with a normalisation of its own.
    """

    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    field: FieldName = "official"
    kernel: Kernel = "laplace"
    affinity_floor: float = 0.0
    normalisation: ForceNormalisation = "batch"
    force_decay: float = 0.99
    force_floor: float = 0.1
    mask_self: bool = True
    mask_twins: bool = False
    sinkhorn_iterations: int = 3
    block_elements: int = 2**24
    across_ranks: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("field", get_args(FieldName)),
            ("kernel", get_args(Kernel)),
            ("normalisation", get_args(ForceNormalisation)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise GdmError(
                    f"unknown {name} of the drift loss",
                    found=value,
                    expected=", ".join(choices),
                    remedy="choose one of these",
                )
        if self.field == "logkde" and self.normalisation != "batch":
            raise GdmError(
                "the field logkde cannot be normalised: its value would mean nothing",
                found=f"normalisation {self.normalisation}",
                remedy="take the field sharp, which has the same direction",
            )
        possible = (
            self.sinkhorn_iterations >= 1
            and 0 <= self.affinity_floor < 1
            and 0 <= self.force_decay <= 1
            and self.force_floor >= 0
            and self.block_elements >= 1
        )
        if not self.temperatures or min(self.temperatures) <= 0 or not possible:
            raise GdmError(
                "the drift loss cannot take these numbers",
                found=f"temperatures {tuple(self.temperatures)}, sinkhorn_iterations {self.sinkhorn_iterations}, "
                f"affinity_floor {self.affinity_floor}, force_decay {self.force_decay}, "
                f"force_floor {self.force_floor}, block_elements {self.block_elements}",
                expected="temperatures above 0 (at least one), at least one iteration, an affinity floor from 0 to "
                "below 1, a decay from 0 to 1, a force floor of 0 or more, at least one block element",
                remedy="correct these options",
            )

    @property
    def balancing_rounds(self) -> int:
        """Rounds in which rows and columns of the affinities are balanced."""
        return self.sinkhorn_iterations if self.field == "sinkhorn" else 1

    @property
    def log2_least_affinity(self) -> float:
        """log2 of the least affinity, which is the root of the least product of the two softmaxes."""
        return math.log2(self.affinity_floor) / 2 if self.affinity_floor > 0 else -math.inf
