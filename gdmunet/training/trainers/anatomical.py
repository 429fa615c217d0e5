"""Features of a frozen segmenter, encoder and decoder, as a paired loss: anatomy by the network that names it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch.nn import functional

from gdmunet.encoders.base import FeatureMap
from gdmunet.encoders.registry import FAMILIES, SEGMENTER
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.training.trainers.perceptual import PerceptualTrainer


class AnatomicalFeatureTrainer(PerceptualTrainer):
    """Fidelity and the L1 distance of a segmenter's features, encoder and decoder, to this patient's target.

    The plans' encoder must have levels of a decoder (``segmenter:MODEL_FOLDER``). Source: the anatomical
    feature-prioritized loss (Longuefosse et al., Phys. Med. Biol. 70(14), 145012, arXiv 2410.10328).
    """

    reads_decoder: ClassVar[bool] = True

    segmenter_part: Literal["both", "encoder", "decoder"] = "both"
    """Levels that are compared: all of them, or those of one half."""
    unit_features: bool = False
    """Bring the features of each place to unit length before they are compared: what is there, not how strongly."""

    @classmethod
    def used_levels(cls, levels: tuple[EncoderLevel, ...]) -> tuple[EncoderLevel, ...]:
        """The levels of the part that is compared.

        Raises
        ------
        GdmError
            The encoder has no decoder.
        """
        if not any(level.in_decoder for level in levels):
            raise GdmError(
                f"{cls.__name__} compares features of a segmenter's decoder, and the encoder has none",
                found=", ".join(level.name for level in levels),
                expected=f"-encoder {FAMILIES[SEGMENTER].usage}",
                remedy="name a model folder of nnU-Net v2 that segments the target's images",
            )
        return tuple(level for level in levels if cls.segmenter_part in ("both", _part(level)))

    def compared(self, maps: tuple[FeatureMap, ...]) -> list[torch.Tensor]:
        """The maps of the part, float32; what a decoder alone needs of the encoder is computed, and left out."""
        kept = {level.name for level in self.used_levels(self.encoder_spec.levels)}
        values = super().compared(tuple(found for found in maps if found.level in kept))
        return [functional.normalize(one, dim=1) for one in values] if self.unit_features else values


def _part(level: EncoderLevel) -> str:
    return "decoder" if level.in_decoder else "encoder"
