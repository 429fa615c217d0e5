"""Dice and the 95 % Hausdorff distance of label maps, as SynthRAD2025 computes them.

The challenge segments the predicted CT with a segmentation network and compares the label maps structure by structure;
its evaluator (SynthRAD2025/evaluation, segmentation_metrics.py) takes both scores from MONAI.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from gdmunet.errors import GdmError


@dataclass(frozen=True)
class StructureScores:
    """Means over the structures that the reference holds.

    Attributes
    ----------
    dice
        None where the reference holds none of the structures.
    hd95
        Mean distance in mm over the structures that the prediction holds as well; None if there is none.
    structures
        Labels that were scored.
    missing
        Structures of the reference that the prediction lacks: their Dice is 0, and they have no distance.
    """

    dice: float | None
    hd95: float | None
    structures: tuple[int, ...]
    missing: tuple[int, ...]


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Dice coefficient 2 |A and B| / (|A| + |B|) of two bool arrays; NaN where both are empty."""
    both = int(reference.sum()) + int(prediction.sum())
    return 2 * int((reference & prediction).sum()) / both if both else float("nan")


def hd95(reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> float:
    """95 % Hausdorff distance in mm: the larger of the two directed 95 % quantiles of surface distances.

    A surface voxel has one of its six neighbours (beyond the volume there is none) outside the structure.

    Parameters
    ----------
    reference, prediction
        bool (z, y, x).
    spacing
        mm by axis, z y x.

    Returns
    -------
    float
        NaN where one of the two is empty.
    """
    if not reference.any() or not prediction.any():
        return float("nan")
    box = scipy.ndimage.find_objects((reference | prediction).astype(np.int8))[0]
    surfaces = [mask & ~scipy.ndimage.binary_erosion(mask) for mask in (reference[box], prediction[box])]
    directed = [
        np.quantile(scipy.ndimage.distance_transform_edt(~other, sampling=spacing)[surface], 0.95)
        for surface, other in (surfaces, surfaces[::-1])
    ]
    return float(max(directed))


def score_structures(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], structures: Collection[int] | None = None
) -> StructureScores:
    """Compare two label maps, structure by structure.

    Parameters
    ----------
    reference, prediction
        Whole numbers (z, y, x), 0 is background.
    spacing
        mm by axis, z y x.
    structures
        Labels to score; None: all. Structures that the reference lacks are not scored, as in the challenge.
    """
    if reference.shape != prediction.shape:
        raise GdmError(
            "the label maps differ in shape",
            found=prediction.shape,
            expected=reference.shape,
            remedy="give both on one grid",
        )
    wanted = None if structures is None else set(structures)
    present = [int(label) for label in np.unique(reference) if label > 0 and (wanted is None or label in wanted)]
    in_reference, in_prediction = scipy.ndimage.find_objects(reference), scipy.ndimage.find_objects(prediction)
    overlaps: dict[int, float] = {}
    distances: dict[int, float] = {}
    for label in present:
        other = in_prediction[label - 1] if label <= len(in_prediction) else None
        if other is None:
            overlaps[label] = 0.0
            continue
        box = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop))
            for a, b in zip(in_reference[label - 1], other, strict=True)
        )
        pair = reference[box] == label, prediction[box] == label
        overlaps[label], distances[label] = dice(*pair), hd95(*pair, spacing)
    return StructureScores(
        dice=float(np.mean(list(overlaps.values()))) if overlaps else None,
        hd95=float(np.mean(list(distances.values()))) if distances else None,
        structures=tuple(present),
        missing=tuple(label for label in present if label not in distances),
    )
