"""Results of an audit, its verdicts, and its text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

# Limits of a verdict.
GOOD_RETRIEVAL, WEAK_RETRIEVAL = 0.7, 0.35
MOST_DEAD, STEEPEST_FLAT = 0.1, 100.0


@dataclass(frozen=True)
class LevelAudit:
    """One level of an encoder.

    Attributes
    ----------
    retrieval, chance, positions
        Share of shifted, noisy cells whose nearest cell (cosine) is their own; the share by chance; number of
        cells to choose from.
    blur_over_noise
        Feature distance that a blur makes over the one that noise of the same error makes.
    dead
        Share of channels that hardly vary.
    gradient_flat, gradient_image
        Largest input gradient on constant patches, and on real ones, of the mean squared feature.
    verdict
        ``good``, ``weak`` or ``unfit``, and why.
    """

    name: str
    stride: tuple[int, ...]
    channels: int
    retrieval: float
    chance: float
    positions: float
    blur_over_noise: float
    dead: float
    gradient_flat: float
    gradient_image: float
    verdict: str


@dataclass(frozen=True)
class EncoderAudit:
    """An encoder's audit over all volumes, finest level first."""

    encoder: str
    volumes: tuple[str, ...]
    levels: tuple[LevelAudit, ...]


def audit_table(audit: EncoderAudit, other: EncoderAudit | None = None) -> str:
    """The audit as a Markdown table; `other` adds a column with its retrieval."""
    extra = "" if other is None else f" {other.encoder} |"
    lines = [
        f"| level | channels | place found |{extra} guessing | blur / noise | dead channels | flat / image gradient "
        "| verdict |",
        f"|---|---|---|{'---|' if other else ''}---|---|---|---|---|",
    ]
    for index, level in enumerate(audit.levels):
        beside = "" if other is None else f" {other.levels[index].retrieval:.0%} |"
        lines.append(
            f"| {level.name} | {level.channels} | {level.retrieval:.0%} |{beside} {level.chance:.1%} of "
            f"{level.positions:.0f} | {level.blur_over_noise:.2f} | {level.dead:.0%} | {level.gradient_flat:.1e} / "
            f"{level.gradient_image:.1e} | {level.verdict} |"
        )
    return "\n".join(lines)


def plain_numbers(audit: EncoderAudit) -> dict[str, Any]:
    """The audit as JSON values; what is not finite, or was not measured, is None."""
    levels = [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(level).items()
        }
        for level in audit.levels
    ]
    return {"encoder": audit.encoder, "volumes": list(audit.volumes), "levels": levels}


def verdict(retrieval: float, ratio: float, dead: float, flat: float, image: float) -> str:
    """``good``, ``weak`` or ``unfit`` in words, from the numbers of a `LevelAudit`."""
    if not (math.isfinite(flat) and math.isfinite(image)):
        return "unfit: input gradients are not finite"
    if flat > STEEPEST_FLAT * image:
        return f"unfit: gradients on flat patches are {flat / image:.0f} times those on images"
    if math.isnan(retrieval):
        return "not measured: crops hold one cell, or nothing but flat ones"
    if not retrieval >= WEAK_RETRIEVAL:
        return "unfit: places look alike"
    weak = []
    if retrieval < GOOD_RETRIEVAL:
        weak.append("places are confused")
    if ratio <= 1:
        weak.append("noise is punished more than blur")
    if dead > MOST_DEAD:
        weak.append("dead channels")
    return "weak: " + ", ".join(weak) if weak else "good"
