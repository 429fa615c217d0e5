"""Images whose outside is background: voxels beyond the body mask do not belong to the patient and do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

# Origin of a body mask.
MaskSource = Literal["given", "derived"]


def compose(image: torch.Tensor, mask: torch.Tensor, background: float) -> torch.Tensor:
    """`image` (B, 1, ...) inside `mask` (B, 1, ...; 0 to 1), `background` outside; keeps the gradient."""
    return image.new_full((), background).lerp(image, mask)


def compose_array(array: np.ndarray, mask: np.ndarray, background: float) -> np.ndarray:
    """`array` (z, y, x) inside the boolean `mask`, `background` outside; a new array."""
    return np.where(mask, array, background)
