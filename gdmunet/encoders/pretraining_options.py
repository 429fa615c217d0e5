"""The numbers of a pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gdmunet.encoders.fine import FINE_CHANNELS
from gdmunet.errors import GdmError


@dataclass(frozen=True)
class PretrainingOptions:
    """Numbers of a pretraining.

    Attributes
    ----------
    crop
        Voxels along each side of a view, a multiple of 16.
    shift
        Largest shift between two views in voxels; windows have ``crop + shift`` voxels along each side.
    batch_size
        Windows per iteration.
    mask_share
        Share of the cells that the autoencoder does not see.
    masked_windows
        Windows per iteration that the autoencoder looks at.
    blurred_windows
        Windows per iteration whose blurred form is a decoy in the contrastive term.
    contrast_weight, temperature, places
        Weight and temperature of the contrastive term; places compared per level and iteration.
    fine
        Filters of the level at stride 1; 0: no such level.
    part
        Part to train: the whole encoder, or its level at stride 1 alone. That level shares no weight with the others:
        trained apart it becomes what it becomes beside them.
    """

    dimensions: int = 3
    iterations: int = 20_000
    crop: int = 48
    shift: int = 24
    batch_size: int = 4
    mask_share: float = 0.6
    masked_windows: int = 2
    blurred_windows: int = 2
    contrast_weight: float = 1.0
    temperature: float = 0.1
    places: int = 384
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    widths: tuple[int, ...] = (16, 48, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    fine: int = FINE_CHANNELS
    part: Literal["whole", "fine"] = "whole"

    def __post_init__(self) -> None:
        if self.crop < 16 or self.crop % 16:
            raise GdmError(
                "the crop does not fit the encoder",
                found=self.crop,
                expected="a multiple of 16",
                remedy="give another --crop",
            )
        counts = (self.iterations, self.batch_size, self.masked_windows, self.places)
        if min(counts) < 1 or self.shift < 0 or self.blurred_windows < 0 or not 0 < self.mask_share < 1:
            raise GdmError(
                "an encoder cannot be pretrained with these numbers",
                found=f"{self.iterations} iterations, {self.batch_size} windows of which {self.masked_windows} masked "
                f"and {self.blurred_windows} blurred, {self.places} places, shift {self.shift}, "
                f"mask share {self.mask_share:g}",
                expected="1 or more of each (0 or more for blurred windows and shift), a mask share between 0 and 1",
                remedy="correct these numbers",
            )
        if self.fine < 0 or (self.part == "fine" and not self.fine):
            raise GdmError(
                "the level at stride 1 cannot have that many filters",
                found=self.fine,
                expected="0 or more, and 1 or more if it alone is trained",
                remedy="give another number of filters",
            )

    @property
    def window(self) -> int:
        """Voxels along each side of the windows that the source gives."""
        return self.crop + self.shift
