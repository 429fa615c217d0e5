"""Generative drifting: fidelity ties the output to this patient, the drift pulls features onto real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gdmunet.encoders.base import FrozenEncoder
from gdmunet.errors import GdmError
from gdmunet.training import distributed
from gdmunet.training.coordination.weightings import WeightingName
from gdmunet.training.draws import Draws
from gdmunet.training.drift.bank import bank_bytes
from gdmunet.training.drift.tokens import extract_tokens
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.forces import Force, KernelForce, TransportForce
from gdmunet.training.trainers.gdm_settings import DriftSettings
from gdmunet.training.trainers.step import Generated, Preview, Terms
from gdmunet.training.trainers.tokens import Tokens, TokenTrainer


class DriftTrainer(DriftSettings, TokenTrainer):
    """Fidelity and, once the encoder has joined, the drift over its multi-level features; plain sum of both.

    Source: generative drifting, arXiv 2602.04770, pooled over the places of a batch because a condition has one output
    (documentation/explanation/drift.md).
    """

    def prepare(self) -> None:
        """The encoder, the levels that drift, and their force."""
        super().prepare()
        self._check_pairing()
        kind = TransportForce if self.field == "transport" else KernelForce
        self.force: Force = kind(self, self._sets, self.device)

    def preview(self) -> Preview | None:
        """Before the first drift step: patches of the training cases, which fill the memory of the force."""
        return self.force.preview(self._patches_per_step()) if self.features_joined else None

    @torch.no_grad()
    def see(self, batch: Batch, draws: Draws) -> None:
        """Show patches to the force."""
        plan = self._plan(batch, draws)
        generated = {}
        if self.force.sees_generated:
            generated = extract_tokens(self.feature_maps(batch, self._generated_aside(batch)), plan)
        self.force.see(Tokens(generated, self._real_tokens(batch, plan), len(batch.mask)))

    def token_terms(self, tokens: Tokens, prediction: torch.Tensor) -> Terms:
        """One drift term for each level, times `drift_weight`; with `paired_statistics` a term of these besides."""
        sizes = self._sizes(tokens, self.force.held())
        taking_part = {key: sizes[key] for key in self._large_enough(sizes)}
        losses = self.force.losses(tokens, taking_part, self.step)
        drifts = self._terms_by_level("drift", losses, prediction, self.drift_weight)
        terms = {name: replace(term, reach=self.force.reach()) for name, term in drifts.items()}
        if self.paired_statistics:
            terms["paired"] = self._paired_term(tokens, taking_part, prediction, "statistics")
        return terms

    def extra_state(self) -> dict[str, Any]:
        """The encoder's state, and what the force remembers."""
        return super().extra_state() | self.force.state()

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        super().load_extra_state(extra)
        self.force.load_state(extra)

    @classmethod
    def bank_bytes(cls, encoder: FrozenEncoder, patch_size: tuple[int, ...]) -> int:
        """Bytes of the feature bank."""
        if cls.field == "transport":
            return 0
        levels = cls.used_levels(encoder.levels)
        return bank_bytes(levels, patch_size, cls.families, cls.tokens_per_patch, cls.bank_patches)

    # ---- its parts --------------------------------------------------------------------------------------------

    def _patches_per_step(self) -> int:
        return self.configuration.batch_size // distributed.world_size()

    def _aligned_places(self) -> bool:
        return self.pairing == "index"

    def _check_pairing(self) -> None:
        if self.pairing != "index":
            return
        if self.bank_patches or self._patches_per_step() < 2:
            raise GdmError(
                "pairing by index compares the patches of a batch place by place",
                found=f"bank_patches={self.bank_patches}, {self._patches_per_step()} patches per batch and process",
                expected="bank_patches=0, since banked tokens have no place, and 2 patches or more",
                remedy="set bank_patches=0 and plan a larger batch, or take pairing=pooled",
            )
        if self.field == "transport":
            raise GdmError(
                "the field transport knows moments of whole sets, and not of single places",
                found="pairing=index",
                expected="pairing=pooled",
                remedy="set pairing=pooled",
            )

    def _generated_aside(self, batch: Batch) -> torch.Tensor:
        """A prediction as a step makes it, which leaves no trace in statistics of normalisation layers."""
        network = self.step.network
        training = network.training
        network.train()
        kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
        with self.step.autocast():
            made = self.generate(batch)
        for buffer, value in kept:
            buffer.copy_(value)
        network.train(training)
        return (made.prediction if isinstance(made, Generated) else made).float()


class GDMTrainer(DriftTrainer):
    """Fidelity and drift, their gradients coordinated in the output space: the method's first version."""

    weighting: WeightingName = "adaptive"
