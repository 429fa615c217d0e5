"""Classifier two-sample test: can a small network tell patches of predictions from patches of references?

The classifier is trained on some cases and tested on others, so it cannot know the patients of the test. Source of the
test: Lopez-Paz and Oquab, arXiv 1610.06545; its score here is the area under the ROC curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from torch import nn
from torch.nn import functional

from gdmunet.composition import compose_array
from gdmunet.errors import GdmError


@dataclass(frozen=True)
class ClassifierOptions:
    """Size and training of the classifier.

    Attributes
    ----------
    edge
        Edge of a patch in voxels.
    planes
        Planes of a patch; None: as many as its edge has voxels. 1 for predictions by slices, which a patch of several
        planes tells from real ones by what neighbouring slices do not share.
    patches
        Patches of each volume.
    folds
        Parts into which the cases are divided; each is tested by a classifier that was trained on the others.
    steps, batch_size, learning_rate
        Training of each classifier with Adam; a batch holds as many predicted as real patches.
    """

    edge: int = 16
    planes: int | None = None
    patches: int = 96
    folds: int = 3
    steps: int = 120
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that train nothing (GdmError)."""
        counts = {name: getattr(self, name) for name in ("edge", "patches", "folds", "steps", "batch_size")}
        wrong = {name: value for name, value in counts.items() if value < 2}
        if self.planes is not None and self.planes < 1:
            wrong["planes"] = self.planes
        if self.learning_rate <= 0:
            wrong["learning_rate"] = self.learning_rate
        if wrong:
            raise GdmError(
                "a classifier cannot be trained so",
                found=", ".join(f"{name} {value}" for name, value in wrong.items()),
                expected="2 or more of each (1 plane or more), and a learning rate above 0",
                remedy="correct these options",
            )


@dataclass(frozen=True)
class PatchPairs:
    """Patches of one case, generated and real at the same places, (patches, planes, edge, edge) float32 each."""

    generated: torch.Tensor
    real: torch.Tensor


def draw_patches(
    generated: np.ndarray, real: np.ndarray, mask: np.ndarray, background: float, options: ClassifierOptions
) -> PatchPairs:
    """Patches around random voxels of the body; outside the body and the volume lies background in both.

    Parameters
    ----------
    generated, real
        (z, y, x) in units in which the body's values are about 1.
    """
    sides = (options.planes or options.edge, options.edge, options.edge)
    centres = np.argwhere(mask)
    places = centres[np.random.default_rng(options.seed).integers(len(centres), size=options.patches)]

    def cut(volume: np.ndarray) -> torch.Tensor:
        around = [(side // 2, side // 2) for side in sides]
        composed = np.pad(compose_array(volume, mask, background), around, constant_values=background)
        blocks = [composed[tuple(slice(c, c + n) for c, n in zip(place, sides, strict=True))] for place in places]
        return torch.from_numpy(np.stack(blocks).astype(np.float32))

    return PatchPairs(cut(generated), cut(real))


def two_sample_scores(
    cases: Mapping[str, PatchPairs], options: ClassifierOptions | None = None
) -> dict[str, float] | None:
    """Area under the ROC curve of each case, by a classifier that was trained on other cases; None: a single case.

    0.5 means that the test could not tell generated from real; values below 0.5 are chance, or texture that differs
    between cases more than between the two sides.
    """
    options = options or ClassifierOptions()
    names = sorted(cases)
    if len(names) < 2:
        return None
    scores: dict[str, float] = {}
    for fold in range(min(options.folds, len(names))):
        tested = names[fold :: min(options.folds, len(names))]
        classifier = _train([cases[name] for name in names if name not in tested], options, fold)
        scores |= {name: _area(classifier, cases[name]) for name in tested}
    return {name: scores[name] for name in names}


class _Classifier(nn.Module):
    """Two convolutions over a patch and its fine detail, mean over the patch, one number."""

    scale: torch.Tensor

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.layers = nn.Sequential(
            nn.Conv3d(2, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(32, 1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, z, y, x) to logits (N,), positive for generated."""
        maps = self.layers(_with_detail(patches) / self.scale)
        logits: torch.Tensor = self.head(maps.mean((2, 3, 4)))[:, 0]
        return logits


def _with_detail(patches: torch.Tensor) -> torch.Tensor:
    """A patch less its own mean, and less the mean of 3^3 voxels: (N, 2, z, y, x)."""
    volume = patches[:, None]
    sums = functional.pad(volume, (1,) * 6, mode="replicate")
    for axis in (2, 3, 4):
        size = volume.shape[axis]
        sums = sums.narrow(axis, 0, size) + sums.narrow(axis, 1, size) + sums.narrow(axis, 2, size)
    return torch.cat([volume - volume.mean((2, 3, 4), keepdim=True), volume - sums / 27], dim=1)


def _train(cases: Sequence[PatchPairs], options: ClassifierOptions, fold: int) -> _Classifier:
    generated, real = (torch.cat([getattr(case, side) for case in cases]) for side in ("generated", "real"))
    draws = torch.Generator().manual_seed(options.seed * 1000 + fold)
    scale = _with_detail(real).square().mean((0, 2, 3, 4), keepdim=True).sqrt().clamp(min=1e-6)[0]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(options.seed * 1000 + fold)
        classifier = _Classifier(scale)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=options.learning_rate)
    half = options.batch_size // 2
    labels = torch.cat([torch.ones(half), torch.zeros(half)])
    for _ in range(options.steps):
        batch = torch.cat([side[torch.randint(len(side), (half,), generator=draws)] for side in (generated, real)])
        flips = [axis for axis in (1, 2, 3) if torch.rand((), generator=draws) < 0.5]
        loss = functional.binary_cross_entropy_with_logits(classifier(batch.flip(flips) if flips else batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return classifier.eval()


@torch.no_grad()
def _area(classifier: _Classifier, case: PatchPairs) -> float:
    """Share of the pairs (generated, real) that the classifier orders rightly; ties count a half (Mann and Whitney)."""
    generated, real = classifier(case.generated).numpy(), classifier(case.real).numpy()
    ranks = scipy.stats.rankdata(np.concatenate([generated, real]))[: len(generated)]
    return float((ranks.sum() - len(generated) * (len(generated) + 1) / 2) / (len(generated) * len(real)))
