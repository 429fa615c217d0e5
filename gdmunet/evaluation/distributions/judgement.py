"""Result of a comparison of two sets of volumes as distributions: plain values that summary.json holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdmunet.evaluation.distributions.resampling import BootstrapSpec


@dataclass(frozen=True)
class DistributionDistance:
    """Distances between two sets of features of one level.

    Attributes
    ----------
    frechet
        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), over the trace of the real features' covariance: 0 for equal
        Gaussians; independent of the features' unit.
    mmd
        Squared maximum mean discrepancy, unbiased, with a mixture of Gaussian kernels around the median distance.
    places
        Features of the smaller set.
    channels
        Numbers of each feature.
    """

    frechet: float
    mmd: float
    places: int
    channels: int

    @property
    def sampled(self) -> bool:
        """Whether a covariance can be estimated: ten places for each channel.

        With fewer, the distance of two sets of the same places measures how far the pairs are, not the distributions.
        """
        return self.places >= 10 * self.channels


@dataclass(frozen=True)
class Resampled:
    """The Frechet distance of each resample of the cases: two sets of predictions are compared resample by resample.

    Attributes
    ----------
    cases
        The cases in the order of the draws.
    frechet
        The distance by resample.
    resampling
        Options of the draws.
    """

    cases: tuple[str, ...]
    frechet: tuple[float, ...]
    resampling: BootstrapSpec


@dataclass(frozen=True)
class Judgement:
    """Distances between all predictions and all references, in the features of one encoder.

    Attributes
    ----------
    encoder, sha256
        The encoder that judges; figures of different encoders cannot be compared. It must not be the
        encoder that a generator was trained with.
    frechet, mmd
        Means over the levels with ten places or more for each channel; over all where no level has them.
    levels
        Level to its distances.
    frechet_interval
        95 % bootstrap interval of the Frechet distance over cases; None for a single case.
    resampled
        The resamples behind the interval; None for a single case, and in files of before.
    """

    encoder: str
    sha256: str
    frechet: float
    mmd: float
    levels: dict[str, DistributionDistance] = field(default_factory=dict)
    frechet_interval: tuple[float, float] | None = None
    resampled: Resampled | None = None

    @property
    def title(self) -> str:
        """The encoder in a form for people: name and start of its hash."""
        return f"{self.encoder} ({self.sha256[:12]})"

    @property
    def values(self) -> dict[str, float]:
        """Name of the metric (a key of `gdmunet.metrics.METRICS`) to its value."""
        return {"frechet": self.frechet, "mmd": self.mmd}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Name of the metric to its interval, for those that have one."""
        return {} if self.frechet_interval is None else {"frechet": self.frechet_interval}


@dataclass(frozen=True)
class Verdict:
    """All that a judge says of a folder of predictions.

    Attributes
    ----------
    judgements
        Distances, one entry for each encoder.
    classifier
        Identifier to the area under the ROC curve of the classifier two-sample test; empty for a single case.
    """

    judgements: tuple[Judgement, ...]
    classifier: dict[str, float] = field(default_factory=dict)

    def scores_of(self, case: str) -> dict[str, float]:
        """The case's own scores by the name of the metric."""
        return {"c2st": self.classifier[case]} if case in self.classifier else {}
