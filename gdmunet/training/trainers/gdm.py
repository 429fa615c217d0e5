"""Generative drifting: fidelity ties the output to this patient, the drift pulls features onto real ones."""

from __future__ import annotations

import functools
from typing import Any

import torch

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.quantities import counted
from gdmunet.training import distributed
from gdmunet.training.coordination.weightings import WeightingName
from gdmunet.training.draws import Draws
from gdmunet.training.drift.bank import FeatureBank, bank_bytes, rank_capacity
from gdmunet.training.drift.loss import DriftField
from gdmunet.training.drift.sets import SetDrift, SetSamples, drift_of_sets
from gdmunet.training.drift.token_plan import TokenPlan, plan_tokens
from gdmunet.training.drift.tokens import by_location, extract_tokens, level_of, token_sets
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.encoder import EncoderTrainer
from gdmunet.training.trainers.gdm_settings import DriftSettings
from gdmunet.training.trainers.step import Preview, Term, Terms

Tokens = dict[str, torch.Tensor]


class DriftTrainer(DriftSettings, EncoderTrainer):
    """Fidelity and, once the encoder has joined, the drift over its multi-level features; plain sum of both.

    Source: generative drifting, arXiv 2602.04770, pooled over the places of a batch because a condition has one output
    (documentation/explanation/drift.md).
    """

    def prepare(self) -> None:
        """The encoder, the levels that drift, and the bank of their real tokens."""
        super().prepare()
        # By index every process has places, and so problems, of its own.
        self._drift_options = self.drift_options(distributed.world_size() > 1 and self.pairing != "index")
        self._check_pairing()
        self.levels = chosen_levels(self.encoder.levels, self.drift_levels, self.drift_stride)
        self._sets = token_sets(self.levels, self.configuration.patch_size, self.families, self.tokens_per_patch)
        self._possible_sets = self._sets_that_can_drift()
        self.bank: FeatureBank | None = None
        if self.bank_patches:
            self.bank = FeatureBank(self._sets, rank_capacity(self.bank_patches), self.device)
        self._force_averages: dict[str, torch.Tensor] = {}
        self._said_few: set[str] = set()

    def preview(self) -> Preview | None:
        """Before the first drift step: real patches of the training cases, which fill the feature bank."""
        if not self.features_joined or self.bank is None or self.bank.full or any(self.bank.sizes.values()):
            return None
        return Preview(rank_capacity(self.bank_patches), "filling the feature bank")

    @torch.no_grad()
    def see(self, batch: Batch, draws: Draws) -> None:
        """Put the tokens of real patches into the bank."""
        if self.bank is not None:
            real = extract_tokens(self.feature_maps(batch, batch.target), self._plan(batch, draws))
            if not self.bank.add(real, len(batch.mask)):
                self.bank.refuse(real, len(batch.mask))

    def feature_terms(self, batch: Batch, prediction: torch.Tensor) -> Terms:
        """One drift term per level: the mean over its token sets, times `drift_weight`; zero, unreported, without."""
        plan = self._plan(batch, self.step.draws)
        with torch.no_grad():
            real = extract_tokens(self.feature_maps(batch, batch.target), plan)
        generated = extract_tokens(self.feature_maps(batch, prediction), plan)
        drifts = self._drift(generated, real, self._banked(real), len(batch.mask))
        terms: dict[str, Term | torch.Tensor] = {}
        for level in self.levels:
            losses = [drift.loss.mean() for key, drift in drifts.items() if level_of(key) == level.name]
            # A batch with hardly any body has no tokens. The coordination counts on a gradient of every level, yet
            # the journal does not hear of the zero: it is not a measurement.
            mean = torch.stack(losses).mean() if losses else 0.0 * prediction.sum()
            terms[f"drift_{level.name}"] = Term(self.drift_weight * mean, reported=bool(losses))
        if self.bank is not None:
            finite = self.bank.add(real, len(batch.mask))
            self.step.require(finite, functools.partial(self.bank.refuse, real, len(batch.mask)))
        return terms

    def description(self) -> str:
        """The encoder's description, and the token sets that the batch size keeps from drifting."""
        waiting = [one.key for one in self._sets if one.key not in self._possible_sets]
        if not waiting:
            return super().description()
        return (
            f"{super().description()}; a batch of {self.configuration.batch_size} has fewer than "
            f"minimum_tokens={self.minimum_tokens} tokens of {', '.join(waiting)}, which do not drift"
        )

    def extra_state(self) -> dict[str, Any]:
        """The encoder's state, the bank, and the drift's averages."""
        # Several ranks hold a share each, and one of them writes: they fill their banks anew when they continue.
        alone = distributed.world_size() == 1
        bank = self.bank.state() if self.bank is not None and alone and any(self.bank.sizes.values()) else None
        return super().extra_state() | {"bank": bank, "force_averages": self._force_averages}

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        super().load_extra_state(extra)
        # One of several ranks holds a share of its own, and fills it anew.
        if self.bank is not None and extra["bank"] is not None and distributed.world_size() == 1:
            self.bank.load_state(extra["bank"])
        self._force_averages = {key: value.to(self.device) for key, value in extra["force_averages"].items()}

    @classmethod
    def bank_bytes(cls, encoder: FrozenEncoder, patch_size: tuple[int, ...]) -> int:
        """Bytes of the feature bank."""
        levels = chosen_levels(encoder.levels, cls.drift_levels, cls.drift_stride)
        return bank_bytes(levels, patch_size, cls.families, cls.tokens_per_patch, cls.bank_patches)

    # ---- its parts --------------------------------------------------------------------------------------------

    def _sets_that_can_drift(self) -> frozenset[str]:
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

    def _check_pairing(self) -> None:
        share = self.configuration.batch_size // distributed.world_size()
        if self.pairing == "index" and (self.bank_patches or share < 2):
            raise GdmError(
                "pairing by index compares the patches of a batch place by place",
                found=f"bank_patches={self.bank_patches}, {share} patches per batch and process",
                expected="bank_patches=0, since banked tokens have no place, and 2 patches or more",
                remedy="set bank_patches=0 and plan a larger batch, or take pairing=pooled",
            )

    def _plan(self, batch: Batch, draws: Draws) -> TokenPlan:
        aligned = self.pairing == "index"
        return plan_tokens(batch.mask, self.levels, self.families, self.tokens_per_patch, draws, aligned=aligned)

    def _drift(self, generated: Tokens, real: Tokens, banked: Tokens, patches: int) -> dict[str, SetDrift]:
        """The drift of the sets that are large enough, and its measurements for the journal."""
        sizes = self._sizes(generated, banked)
        samples = {}
        for key in self._large_enough(sizes):
            if self.pairing == "index":
                samples[key] = SetSamples(by_location(generated[key], patches), by_location(real[key], patches), None)
            else:
                positives = torch.cat([real[key], banked[key]])[None]
                negatives = banked[key][None] if self.bank_side == "both" else None
                samples[key] = SetSamples(generated[key][None], positives, negatives, sizes[key])
        drifts = drift_of_sets(samples, self._drift_options, self._force_averages)
        for key, drift in drifts.items():
            if self.drift_normalisation == "ema":
                self._force_averages[key] = drift.field.force_average
            self._note(level_of(key), drift.field)
        return drifts

    def _note(self, level: str, field: DriftField) -> None:
        self.step.note(f"scale_{level}", field.scale)
        for temperature, force, size in zip(
            self.temperatures, field.raw_force, field.effective_sample_size, strict=True
        ):
            self.step.note(f"force_{level}_{temperature:g}", force)
            self.step.note(f"ess_{level}_{temperature:g}", size)

    def _banked(self, real: Tokens) -> Tokens:
        """Real tokens of earlier patches."""
        if self.bank is None:
            return {key: tokens[:0] for key, tokens in real.items()}
        sizes = self.bank.sizes
        return self.bank.sample({key: min(self.bank_tokens, sizes[key]) for key in real}, self.step.draws)

    def _sizes(self, generated: Tokens, banked: Tokens) -> dict[str, tuple[int, ...]]:
        """Of every set the number of generated tokens on each process, then that of banked ones."""
        counts = [len(tokens) for tokens in (*generated.values(), *(banked[key] for key in generated))]
        ranks = distributed.gather_counts(counts, self.device)
        keys = len(generated)
        return {
            key: (*(rank[number] for rank in ranks), *(rank[keys + number] for rank in ranks))
            for number, key in enumerate(generated)
        }

    def _large_enough(self, sizes: dict[str, tuple[int, ...]]) -> list[str]:
        """Few tokens give a field of noise, which its normalisation enlarges to unit size: such sets are left out.

        All ranks decide alike, since a drift problem spans them; one without any token of a set cannot take part.
        """
        tokens = {key: size[: len(size) // 2] for key, size in sizes.items()}
        few = {key: sum(ranks) for key, ranks in tokens.items() if sum(ranks) < self.minimum_tokens or 0 in ranks}
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


class GDMTrainer(DriftTrainer):
    """Fidelity and drift, their gradients coordinated in the output space: the method, and what gdm_train runs."""

    weighting: WeightingName = "adaptive"


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
