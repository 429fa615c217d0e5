"""Folder against folder as distributions, which ``gdm_evaluate --judge`` adds to the paired scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import AUTO, EncoderOptions, choose_encoder
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.distances import (
    body_features,
    mean_distances,
    pooled_distances,
)
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import HU_AIR, is_hounsfield
from gdmunet.imageio import read_mask, read_volume
from gdmunet.plans import STANDARD_HU, NormalizationSpec
from gdmunet.progress import Progress


@dataclass(frozen=True)
class JudgedFiles:
    """The files of one case; mask None: the whole volume counts."""

    identifier: str
    reference: Path
    prediction: Path
    mask: Path | None = None


@dataclass(frozen=True)
class JudgeOptions:
    """The encoder that judges: a name as for planning (not ``auto``: it belongs beside the figures) and its weights."""

    encoder: str
    cache: Path
    file: Path | None = None
    allow_download: bool = False

    def __post_init__(self) -> None:
        if self.encoder == AUTO:
            raise GdmError("a judge needs a name", found=AUTO, expected="an encoder of gdm_download_encoder --list")


def judge_files(
    files: Sequence[JudgedFiles], judge: JudgeOptions, modality: str, *, show_progress: bool = True
) -> Judgement:
    """Distances over the bodies of all cases together.

    Parameters
    ----------
    files
        The cases; without a mask the whole volume counts.
    modality
        Word of the target. HU are compared as they are; other values are scaled by mean and standard deviation of all
        references inside their bodies.

    Raises
    ------
    GdmError
        An encoder whose weights are not at hand.
    """
    scale, air = (STANDARD_HU, HU_AIR) if is_hounsfield(modality) else (_common_scale(files), 0.0)
    units = VolumeUnits(scale, air, modality)
    options = EncoderOptions(judge.cache, judge.file, allow_download=judge.allow_download)
    choice = choose_encoder(judge.encoder, units, 3, options)
    if choice.spec is None or choice.encoder is None:
        raise GdmError(f"the encoder {judge.encoder} does not judge volumes", found=choice.because)
    with Progress(f"judging with {judge.encoder}", len(files), show_progress) as progress:
        levels = pooled_distances(_features(files, choice.encoder, progress))
    return Judgement(choice.spec.spec, choice.spec.sha256, *mean_distances(levels), levels)


def _features(
    files: Sequence[JudgedFiles], encoder: FrozenEncoder, progress: Progress
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    spec = encoder.units.target
    for one in files:
        real, mask = _canonical(one.reference, one)
        predicted, _ = _canonical(one.prediction, one)
        pair = [body_features(encoder, (np.clip(v, *spec.clip) - spec.offset) / spec.scale, mask)
                for v in (predicted, real)]  # fmt: skip
        yield pair[0], pair[1]
        progress.step()


def _canonical(file: Path, files: JudgedFiles) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its body in canonical axes."""
    volume = read_volume(file, files.identifier)
    axes = canonical_axes(volume.geometry)
    body = np.ones(volume.array.shape, dtype=bool)
    if files.mask is not None:
        body = read_mask(files.mask, files.identifier).array > 0
    return axes.apply(volume.array.astype(np.float32)), axes.apply(body)


def _common_scale(files: Sequence[JudgedFiles]) -> NormalizationSpec:
    """Mean and standard deviation of all references inside their bodies."""
    count = total = squares = 0.0
    for one in files:
        volume, mask = _canonical(one.reference, one)
        values = volume[mask].astype(np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / count
    deviation = max(float(np.sqrt(max(squares / count - mean**2, 0.0))), 1e-6)
    return NormalizationSpec("affine", (-float("inf"), float("inf")), mean, deviation)
