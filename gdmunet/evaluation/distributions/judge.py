"""Folder against folder as distributions, which ``gdm_evaluate --judge`` adds to the paired scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import AUTO, EncoderOptions, choose_encoder
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.classifier import ClassifierOptions, draw_patches, two_sample_scores
from gdmunet.evaluation.distributions.distances import (
    FeaturePair,
    body_features,
    counted_levels,
    frechet_over_draws,
    mean_distances,
    pooled_distances,
)
from gdmunet.evaluation.distributions.judgement import Judgement, Resampled, Verdict
from gdmunet.evaluation.distributions.resampling import BootstrapSpec
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import HU_AIR, is_hounsfield
from gdmunet.imageio import read_mask, read_volume
from gdmunet.plans import STANDARD_HU, EncoderSpec, NormalizationSpec
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
    """The encoders that judge, and how.

    Attributes
    ----------
    encoders
        Names as for planning, not ``auto``: a name belongs beside each figure. None of them trained a generator.
    cache, allow_download
        Folder of downloaded weights, and whether they may be fetched.
    file
        Weights of the encoder, if there is only one.
    classifier
        Options of the classifier two-sample test.
    resampling
        Options of the intervals over cases.
    """

    encoders: tuple[str, ...]
    cache: Path
    file: Path | None = None
    allow_download: bool = False
    classifier: ClassifierOptions = field(default_factory=ClassifierOptions)
    resampling: BootstrapSpec = field(default_factory=lambda: BootstrapSpec(resamples=200))

    def __post_init__(self) -> None:
        if AUTO in self.encoders or not self.encoders:
            raise GdmError(
                "a judge needs a name",
                found=AUTO,
                expected="an encoder of gdm_download_encoder --list",
                remedy="name an encoder",
            )
        if len(set(self.encoders)) < len(self.encoders):
            raise GdmError(
                "an encoder judges once",
                found=", ".join(self.encoders),
                expected="different encoders",
                remedy="name each encoder once",
            )
        if self.file is not None and len(self.encoders) > 1:
            raise GdmError(
                "a file of weights belongs to one encoder",
                found=f"{len(self.encoders)} encoders: {', '.join(self.encoders)}",
                file=self.file,
                remedy="name one encoder with --judge",
            )


def judge_files(
    files: Sequence[JudgedFiles], judge: JudgeOptions, modality: str, *, show_progress: bool = True
) -> Verdict:
    """Distances over the bodies of all cases together, and the classifier's score of each case.

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
    units = target_units(files, modality)
    judges = choose_judges(judge, units)
    features: dict[str, list[FeaturePair]] = {name: [] for name in judges}
    patches = {}
    with Progress(f"judging with {', '.join(judges)}", len(files), show_progress) as progress:
        for one in files:
            real, mask = read_judged(one.reference, one)
            pair = [scaled(volume, units) for volume in (read_judged(one.prediction, one)[0], real)]
            for name, (_, encoder) in judges.items():
                generated, original = (body_features(encoder, volume, mask) for volume in pair)
                features[name].append((generated, original))
            patches[one.identifier] = draw_patches(pair[0], pair[1], mask, units.network_background, judge.classifier)
            progress.step()
    names = tuple(one.identifier for one in files)
    judgements = tuple(
        _judgement(judges[name][0], dict(zip(names, pairs, strict=True)), judge.resampling)
        for name, pairs in features.items()
    )
    return Verdict(judgements, two_sample_scores(patches, judge.classifier) or {})


def choose_judges(judge: JudgeOptions, units: VolumeUnits) -> dict[str, tuple[EncoderSpec, FrozenEncoder]]:
    """The encoders by the names that the user gave."""
    options = EncoderOptions(judge.cache, judge.file, allow_download=judge.allow_download)
    judges = {}
    for name in judge.encoders:
        choice = choose_encoder(name, units, 3, options)
        if choice.spec is None or choice.encoder is None:
            raise GdmError(
                f"the encoder {name} does not judge volumes",
                found=choice.because,
                remedy="choose an encoder for volumes",
            )
        judges[name] = (choice.spec, choice.encoder)
    return judges


def target_units(files: Sequence[JudgedFiles], modality: str) -> VolumeUnits:
    """Units in which encoders see the volumes."""
    if is_hounsfield(modality):
        return VolumeUnits(STANDARD_HU, HU_AIR, modality)
    return VolumeUnits(_common_scale(files), 0.0, modality)


def scaled(volume: np.ndarray, units: VolumeUnits) -> np.ndarray:
    """A volume in the units of the network."""
    spec = units.target
    return np.asarray((np.clip(volume, *spec.clip) - spec.offset) / spec.scale)


def _judgement(spec: EncoderSpec, cases: Mapping[str, FeaturePair], resampling: BootstrapSpec) -> Judgement:
    pairs = list(cases.values())
    levels = pooled_distances(pairs)
    judgement = Judgement(spec.spec, spec.sha256, *mean_distances(levels), levels)
    if len(pairs) < 2:
        return judgement
    frechet = frechet_over_draws(pairs, counted_levels(levels), resampling.draws(len(pairs)))
    resampled = Resampled(tuple(cases), tuple(frechet.tolist()), resampling)
    return replace(judgement, frechet_interval=resampling.interval(frechet), resampled=resampled)


def read_judged(file: Path, files: JudgedFiles) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its body in canonical axes."""
    volume = read_volume(file, files.identifier, constant=True)  # a prediction that failed is judged
    axes = canonical_axes(volume.geometry)
    body = np.ones(volume.array.shape, dtype=bool)
    if files.mask is not None:
        body = read_mask(files.mask, files.identifier).array > 0
    return axes.apply(volume.array.astype(np.float32)), axes.apply(body)


def _common_scale(files: Sequence[JudgedFiles]) -> NormalizationSpec:
    """Mean and standard deviation of all references inside their bodies."""
    count = total = squares = 0.0
    for one in files:
        volume, mask = read_judged(one.reference, one)
        values = volume[mask].astype(np.float64)
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    mean = total / count
    deviation = max(float(np.sqrt(max(squares / count - mean**2, 0.0))), 1e-6)
    return NormalizationSpec("affine", (-float("inf"), float("inf")), mean, deviation)
