"""The two ways in which generated tokens are drawn to real ones: kernels between samples, and transport of moments."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gdmunet.training import distributed
from gdmunet.training.drift.bank import FeatureBank, rank_capacity
from gdmunet.training.drift.loss import DriftField
from gdmunet.training.drift.moving_transport import MovingTransport
from gdmunet.training.drift.sets import SetSamples, drift_of_sets
from gdmunet.training.drift.tokens import TokenSet, by_location, level_of
from gdmunet.training.trainers.gdm_settings import DriftSettings
from gdmunet.training.trainers.step import Preview, Step
from gdmunet.training.trainers.tokens import TokenCounts, Tokens


class Force(ABC):
    """The drift's losses, and what they remember of earlier steps.

    Attributes
    ----------
    sees_generated
        Whether `see` wants generated tokens beside real ones.
    """

    sees_generated = False

    @abstractmethod
    def preview(self, batch: int) -> Preview | None:
        """Patches to see before the present step, where a process has `batch` of them in a step."""

    @abstractmethod
    def see(self, tokens: Tokens) -> None:
        """Take in the tokens of patches that `preview` asked for."""

    @abstractmethod
    def held(self) -> dict[str, int]:
        """Number of tokens of earlier patches that this process adds to a step, by set."""

    @abstractmethod
    def losses(self, tokens: Tokens, sizes: Mapping[str, TokenCounts], step: Step) -> dict[str, torch.Tensor]:
        """Loss () of every set in `sizes` that can drift; measurements go to the step's notes."""

    def reach(self) -> torch.Tensor | None:
        """Distance () that was left in the last step, in spreads of the real tokens; None: the force knows none."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Its part of the resume state."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; keys of others are left alone."""


class KernelForce(Force):
    """Samples attract and repel each other (all fields of `DriftOptions`), with a bank of real tokens.

    Parameters
    ----------
    settings
        Settings of the drift.
    sets
        Token sets that drift.
    device
        Device of the tokens.
    """

    def __init__(self, settings: DriftSettings, sets: Sequence[TokenSet], device: torch.device) -> None:
        self.settings, self.device = settings, device
        # By index every process has places, and so problems, of its own.
        self.options = settings.drift_options(distributed.world_size() > 1 and settings.pairing != "index")
        self.bank: FeatureBank | None = None
        if settings.bank_patches:
            self.bank = FeatureBank(sets, rank_capacity(settings.bank_patches), device)
        self._averages: dict[str, torch.Tensor] = {}
        self._averaged: dict[str, int] = {}

    def preview(self, batch: int) -> Preview | None:
        """Real patches of the training cases, which fill the feature bank."""
        del batch
        if self.bank is None or self.bank.full or any(self.bank.sizes.values()):
            return None
        return Preview(rank_capacity(self.settings.bank_patches), "filling the feature bank")

    def see(self, tokens: Tokens) -> None:
        """Put the tokens of real patches into the bank."""
        if self.bank is not None and not self.bank.add(tokens.real, tokens.patches):
            self.bank.refuse(tokens.real, tokens.patches)

    def held(self) -> dict[str, int]:
        """Banked tokens."""
        sizes = {} if self.bank is None else self.bank.sizes
        return {key: min(self.settings.bank_tokens, size) for key, size in sizes.items()}

    def losses(self, tokens: Tokens, sizes: Mapping[str, TokenCounts], step: Step) -> dict[str, torch.Tensor]:
        """The drift losses; then the real tokens join the bank."""
        held = self.held()
        banked = {} if self.bank is None else self.bank.sample({key: held[key] for key in tokens.real}, step.draws)
        samples = {key: self._samples(tokens, key, banked.get(key), size) for key, size in sizes.items()}
        drifts = drift_of_sets(samples, self.options, self._averages)
        for key, drift in drifts.items():
            self._remember(key, drift.field)
            self._note(level_of(key), drift.field, step)
        if self.bank is not None:
            finite = self.bank.add(tokens.real, tokens.patches)
            step.require(finite, functools.partial(self.bank.refuse, tokens.real, tokens.patches))
        return {key: drift.loss for key, drift in drifts.items()}

    def state(self) -> dict[str, Any]:
        """The bank, and the averages of the force."""
        # Several ranks hold a share each, and one of them writes: they fill their banks anew when they continue.
        alone = distributed.world_size() == 1
        bank = self.bank.state() if self.bank is not None and alone and any(self.bank.sizes.values()) else None
        frozen = {"force_steps": dict(self._averaged)} if self.options.normalisation == "frozen" else {}
        return {"bank": bank, "force_averages": self._averages} | frozen

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        # One of several ranks holds a share of its own, and fills it anew.
        if self.bank is not None and state["bank"] is not None and distributed.world_size() == 1:
            self.bank.load_state(state["bank"])
        self._averages = {key: value.to(self.device) for key, value in state["force_averages"].items()}
        if self.options.normalisation == "frozen":
            self._averaged = dict(state["force_steps"])

    def _samples(self, tokens: Tokens, key: str, banked: torch.Tensor | None, size: TokenCounts) -> SetSamples:
        generated, real = tokens.generated[key], tokens.real[key]
        if self.settings.pairing == "index":
            return SetSamples(by_location(generated, tokens.patches), by_location(real, tokens.patches), None)
        sizes = (*size.tokens, *size.others)
        if banked is None:
            return SetSamples(generated[None], real[None], None, sizes)
        if self.settings.bank_side == "both":
            return SetSamples(generated[None], real[None], None, sizes, shared=banked[None])
        return SetSamples(generated[None], torch.cat([real, banked])[None], None, sizes)

    def _remember(self, key: str, field: DriftField) -> None:
        """The divisor of later steps: a moving average, or the mean of the first steps."""
        if self.options.normalisation == "ema":
            self._averages[key] = field.force_average
        if self.options.normalisation == "frozen" and self._averaged.get(key, 0) < self.settings.force_steps:
            steps = self._averaged[key] = self._averaged.get(key, 0) + 1
            present = field.force_average
            self._averages[key] = torch.lerp(self._averages.get(key, present), present, 1.0 / steps)

    def _note(self, level: str, field: DriftField, step: Step) -> None:
        step.note(f"scale_{level}", field.scale)
        numbers = zip(self.options.temperatures, field.raw_force, field.effective_sample_size, strict=True)
        for temperature, force, size in numbers:
            step.note(f"force_{level}_{temperature:g}", force)
            step.note(f"ess_{level}_{temperature:g}", size)


class TransportForce(Force):
    """Every token goes where the best map between running Gaussians takes it; there is no bank.

    Parameters
    ----------
    settings, sets, device
        The same as those of `KernelForce`.
    """

    sees_generated = True

    def __init__(self, settings: DriftSettings, sets: Sequence[TokenSet], device: torch.device) -> None:
        self.moving = MovingTransport(sets, settings.moment_options(), device)
        self._none_held = {one.key: 0 for one in sets}
        self._renewed: Step | None = None
        self._left: torch.Tensor | None = None

    def preview(self, batch: int) -> Preview | None:
        """Patches of the training cases, through the generator as it is: they fill the moments."""
        if not self.moving.empty:
            return None
        return Preview(batch * self.moving.options.batches, "measuring the moments of generated and real features")

    def see(self, tokens: Tokens) -> None:
        """Put both sides' tokens into the moments."""
        keys, mine = list(tokens.generated), [len(values) for values in tokens.generated.values()]
        ranks = distributed.gather_counts(mine, self.moving.device)
        totals = {key: sum(counts) for key, counts in zip(keys, zip(*ranks, strict=True), strict=True)}
        self.moving.moments.add(tokens.generated, tokens.real, totals)

    def held(self) -> dict[str, int]:
        """No tokens: moments stand for those of earlier patches."""
        return self._none_held

    def losses(self, tokens: Tokens, sizes: Mapping[str, TokenCounts], step: Step) -> dict[str, torch.Tensor]:
        """The distances that are left, by the moments before this step; then its tokens join the moments."""
        if self._renewed is not step:  # once per step, however many batches it has
            self.moving.renew()
            self._renewed = step
        generated, real = ({key: side[key] for key in sizes} for side in (tokens.generated, tokens.real))
        found = self.moving.losses(generated)
        self.moving.moments.add(generated, real, {key: size.total for key, size in sizes.items()})
        self._left = self._note(list(found), step)
        return {key: loss * sizes[key].share for key, loss in found.items()}

    def reach(self) -> torch.Tensor | None:
        """Root of the mean squared Frechet distance, over the real tokens' total variance, of the sets of the step."""
        return None if self._left is None else self._left.sqrt()

    def state(self) -> dict[str, Any]:
        """Moments and maps; the same on every process."""
        return {"transport": self.moving.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.moving.load_state(state["transport"])

    def _note(self, keys: Sequence[str], step: Step) -> torch.Tensor | None:
        """Report the squared distance of every set; their mean."""
        distances = self.moving.distances()
        for key in keys:
            step.note(f"frechet_{key.replace('/', '_')}", distances[key])
        if not keys:
            return None
        mean = torch.stack([distances[key] for key in keys]).mean()
        step.note("frechet", mean)
        return mean
