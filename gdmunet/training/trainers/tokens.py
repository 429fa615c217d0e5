"""Training by tokens of a frozen encoder: generated and real ones, read at the same places of the same patches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.quantities import counted
from gdmunet.training import distributed
from gdmunet.training.draws import Draws
from gdmunet.training.drift.statistics import paired_losses
from gdmunet.training.drift.token_plan import TokenPlan, plan_tokens
from gdmunet.training.drift.tokens import extract_tokens, is_local, level_of, token_sets
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.gdm_settings import TokenSettings
from gdmunet.training.trainers.step import Objective, Term, Terms


@dataclass(frozen=True)
class Tokens:
    """The tokens of one batch.

    Attributes
    ----------
    generated, real
        (S, C) by set, at the same places.
    patches
        Patches of the batch.
    """

    generated: dict[str, torch.Tensor]
    real: dict[str, torch.Tensor]
    patches: int


class TokenTrainer(TokenSettings, EncoderTrainer):
    """Fidelity and, once the encoder has joined, terms over tokens of its features, coordinated in the output space."""

    @abstractmethod
    def token_terms(self, tokens: Tokens, prediction: torch.Tensor) -> Terms:
        """Named losses over the tokens of a batch, scalars or `Term`; called once the encoder has joined."""

    def prepare(self) -> None:
        """The encoder, the levels that are read, and their token sets."""
        super().prepare()
        self.levels = self.used_levels(self.encoder.levels)
        self._sets = token_sets(self.levels, self.configuration.patch_size, self.families, self.tokens_per_patch)
        self._possible_sets = self._sets_that_can_take_part()
        self._said_few: set[str] = set()

    def feature_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """The terms over tokens at places that are drawn anew."""
        plan = self._plan(batch, self.step.draws)
        real = self._real_tokens(batch, plan)
        generated = extract_tokens(self.feature_maps(batch, prediction), plan)
        return self.token_terms(Tokens(generated, real, len(batch.mask)), prediction)

    def description(self) -> str:
        """The encoder's description, and the token sets that the batch size keeps from taking part."""
        waiting = [one.key for one in self._sets if one.key not in self._possible_sets]
        if not waiting:
            return super().description()
        return (
            f"{super().description()}; a batch of {self.configuration.batch_size} has fewer than "
            f"minimum_tokens={self.minimum_tokens} tokens of {', '.join(waiting)}, which do not drift"
        )

    @classmethod
    def used_levels(cls, levels: tuple[EncoderLevel, ...]) -> tuple[EncoderLevel, ...]:
        """The levels whose tokens are read."""
        return chosen_levels(levels, cls.drift_levels, cls.drift_stride)

    # ---- its parts --------------------------------------------------------------------------------------------

    def _plan(self, batch: Batch, draws: Draws) -> TokenPlan:
        return plan_tokens(
            batch.mask, self.levels, self.families, self.tokens_per_patch, draws, aligned=self._aligned_places()
        )

    def _aligned_places(self) -> bool:
        """Whether all patches are read at the same places."""
        return False

    @torch.no_grad()
    def _real_tokens(self, batch: Batch, plan: TokenPlan) -> dict[str, torch.Tensor]:
        return extract_tokens(self.feature_maps(batch, batch.target), plan)

    def _terms_by_level(
        self,
        name: str,
        losses: Mapping[str, torch.Tensor],
        prediction: torch.Tensor,
        weight: float,
    ) -> dict[str, Term]:
        """One term for each level, ``NAME_LEVEL``: the mean over its sets, times `weight`."""
        terms = {}
        for level in self.levels:
            own = [loss for key, loss in losses.items() if level_of(key) == level.name]
            terms[f"{name}_{level.name}"] = self._term(own, prediction, weight)
        return terms

    def _term(
        self,
        losses: Sequence[torch.Tensor],
        prediction: torch.Tensor,
        weight: float,
        objective: Objective | None = None,
    ) -> Term:
        """The mean of the losses, times `weight`.

        A batch with hardly any body has no tokens. The coordination counts on a gradient of every term, yet the
        journal does not hear of the zero: it is not a measurement.
        """
        mean = torch.stack(list(losses)).mean() if losses else 0.0 * prediction.sum()
        return Term(weight * mean, reported=bool(losses), objective=objective)

    def _paired_term(
        self, tokens: Tokens, sizes: Mapping[str, TokenCounts], prediction: torch.Tensor, objective: Objective
    ) -> Term:
        """Paired statistics: the mean over the sets of local means and deviations."""
        local = {key: size.total for key, size in sizes.items() if is_local(key)}
        generated = {key: tokens.generated[key] for key in local}
        losses = paired_losses(generated, tokens.real, local)
        return self._term(list(losses.values()), prediction, 1.0, objective)

    def _sizes(self, tokens: Tokens, others: Mapping[str, int]) -> dict[str, TokenCounts]:
        """The numbers of every set's tokens on all processes, and of `others` that each process holds besides."""
        keys = list(tokens.generated)
        counts = [len(values) for values in tokens.generated.values()] + [others.get(key, 0) for key in keys]
        ranks = distributed.gather_counts(counts, self.device)
        return {
            key: TokenCounts(tuple(rank[number] for rank in ranks), tuple(rank[len(keys) + number] for rank in ranks))
            for number, key in enumerate(keys)
        }

    def _sets_that_can_take_part(self) -> frozenset[str]:
        """The sets that reach `minimum_tokens` if all patches of a batch are full of body."""
        most = {one.key: one.per_patch * self.configuration.batch_size for one in self._sets}
        possible = frozenset(key for key, count in most.items() if count >= self.minimum_tokens)
        if not possible:
            raise GdmError(
                "no token set can drift: each has fewer tokens per step than minimum_tokens",
                found=f"at most {counted(max(most.values()), 'token')}, families {', '.join(self.families)}",
                expected=f"{self.minimum_tokens} or more",
                remedy="plan with a larger batch, take other families, or lower minimum_tokens",
            )
        return possible

    def _large_enough(self, sizes: Mapping[str, TokenCounts]) -> list[str]:
        """Few tokens give a field of noise, which its normalisation enlarges to unit size: such sets are left out.

        All ranks decide alike, since a drift problem spans them; one without any token of a set cannot take part.
        """
        few = {key: size.total for key, size in sizes.items() if size.total < self.minimum_tokens or 0 in size.tokens}
        # Sets that no batch can fill are not reported again: `description` has named them.
        news = {key: size for key, size in few.items() if key in self._possible_sets and key not in self._said_few}
        if news:
            self.step.say(
                f"left out of this step's drift, with fewer than minimum_tokens={self.minimum_tokens} tokens: "
                + ", ".join(f"{key} ({size})" for key, size in news.items())
                + "; its patches hold little body"
            )
        self._said_few |= news.keys()
        return [key for key in sizes if key not in few]


@dataclass(frozen=True)
class TokenCounts:
    """Numbers of one set's tokens on every process, and of the further ones that each holds."""

    tokens: tuple[int, ...]
    others: tuple[int, ...]

    @property
    def total(self) -> int:
        """Tokens of the batch over all processes."""
        return sum(self.tokens)

    @property
    def share(self) -> float:
        """This process's tokens over the mean of all processes: a mean over its own counts for as much."""
        return self.tokens[distributed.rank()] * len(self.tokens) / max(1, self.total)


def chosen_levels(
    levels: tuple[EncoderLevel, ...], names: tuple[str, ...] | None, stride: int
) -> tuple[EncoderLevel, ...]:
    """The levels of those names; without names those of at most that stride, or the finest.

    Deep levels have a hundred channels and few places per patch: a token has one or two neighbours, and the field,
    brought to unit size, is noise that takes strength from the fine levels (benchmarks/drift_direction.py).

    Raises
    ------
    GdmError
        A name that the encoder does not have, or none at all.
    """
    if names is None:
        finest = min(max(level.stride) for level in levels)
        return tuple(level for level in levels if max(level.stride) <= max(stride, finest))
    known = {level.name: level for level in levels}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise GdmError(
            "the encoder has no such level" if unknown else "no level of the encoder is chosen",
            found=", ".join(unknown),
            expected=", ".join(known),
            remedy="correct drift_levels",
        )
    return tuple(known[name] for name in names)
