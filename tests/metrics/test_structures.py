"""Dice and HD95 of label maps, against brute force and against MONAI, which the challenge uses."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from gdmunet.errors import GdmError
from gdmunet.metrics import dice, hd95, score_structures

SPACING = (3.0, 1.0, 1.5)
SHAPE = (9, 14, 12)


def blob(seed, share=0.4):
    """A ragged structure that touches the border of the volume."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    centre = random.uniform(-0.5, 0.5, 3)
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return distance + random.normal(0, 0.1, SHAPE) < share


def surface_points(mask):
    """Coordinates in mm of the voxels that have a neighbour outside, found voxel by voxel."""
    padded = np.pad(mask, 1)
    points = []
    for index in np.argwhere(padded):
        neighbours = [
            tuple(index + step) for axis in range(3) for step in (np.eye(3, dtype=int)[axis] * s for s in (1, -1))
        ]
        if not all(padded[n] for n in neighbours):
            points.append((index - 1) * SPACING)
    return np.array(points)


def brute_force_hd95(a, b):
    distances = cdist(surface_points(a), surface_points(b))
    return max(np.quantile(distances.min(axis=1), 0.95), np.quantile(distances.min(axis=0), 0.95))


@pytest.mark.parametrize("seed", range(4))
def test_hd95_is_the_larger_directed_quantile_of_surface_distances(seed):
    a, b = blob(seed), blob(seed + 100, 0.25)
    assert hd95(a, b, SPACING) == pytest.approx(brute_force_hd95(a, b), rel=1e-12)
    assert hd95(a, b, SPACING) == hd95(b, a, SPACING)


def test_a_shift_by_one_voxel_is_one_spacing_away():
    a = np.zeros(SHAPE, bool)
    a[3:6, 4:8, 4:8] = True
    for axis, step in enumerate(SPACING):
        assert hd95(a, np.roll(a, 1, axis), SPACING) == step
    assert hd95(a, a, SPACING) == 0


def test_dice_counts_voxels():
    a = np.zeros(SHAPE, bool)
    a[0, 0, :6] = True
    b = np.roll(a, 2, 2)
    assert dice(a, b) == 2 * 4 / 12
    assert dice(a, a) == 1
    assert dice(a, ~a & np.roll(a, 6, 2)) == 0
    assert np.isnan(dice(a & ~a, a & ~a))
    assert np.isnan(hd95(a, a & ~a, SPACING))


@pytest.fixture
def label_maps():
    """Labels 2, 5 and 9 in the reference; the prediction lacks 5 and has 7 besides."""
    reference, prediction = np.zeros((2, *SHAPE), np.int32)
    reference[1:4, 2:6, 2:6], prediction[1:4, 3:7, 2:6] = 2, 2
    reference[6, 6:9, 6:9] = 5
    reference[5:8, 0:4, 8:12], prediction[5:8, 0:4, 7:11] = 9, 9
    prediction[0, 13, 11] = 7
    return reference, prediction


def test_scores_are_means_over_the_structures_of_the_reference(label_maps):
    reference, prediction = label_maps
    scores = score_structures(reference, prediction, SPACING)
    assert (scores.structures, scores.missing) == ((2, 5, 9), (5,))
    expected = [dice(reference == label, prediction == label) for label in (2, 5, 9)]
    assert scores.dice == pytest.approx(np.mean(expected))
    assert expected[1] == 0
    assert scores.hd95 == pytest.approx(
        np.mean([brute_force_hd95(reference == label, prediction == label) for label in (2, 9)])
    )
    assert score_structures(reference, prediction, SPACING, (9, 40)).structures == (9,)


def test_without_a_structure_there_is_no_score(label_maps):
    reference, prediction = label_maps
    none = score_structures(reference, prediction, SPACING, (40,))
    assert (none.dice, none.hd95, none.structures) == (None, None, ())
    lost = score_structures(reference, prediction * 0, SPACING)
    assert (lost.dice, lost.hd95, lost.missing) == (0, None, (2, 5, 9))
    with pytest.raises(GdmError, match="differ in shape"):
        score_structures(reference, prediction[1:], SPACING)


@pytest.mark.slow  # imports MONAI, which is not part of the test extra
@pytest.mark.filterwarnings("ignore")
def test_scores_equal_the_challenges_evaluator(label_maps):
    """Its loop over structures, with the metrics that it takes from MONAI; arrays in its order x y z."""
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rough = [np.where(blob(k), 3, 0) + np.where(blob(k + 7, 0.1), 1, 0) for k in (1, 2)]
    for reference, prediction in (label_maps, rough):
        overlap = monai.DiceMetric(include_background=True, reduction="mean")
        distance = monai.HausdorffDistanceMetric(include_background=True, reduction="mean", percentile=95)
        truth, guess = (torch.from_numpy(np.ascontiguousarray(a.T)) for a in (reference, prediction))
        for label in range(1, 10):
            if (truth == label).any():
                pair = (guess == label)[None, None], (truth == label)[None, None]
                overlap(*pair)
                distance(*pair, spacing=SPACING[::-1])
        scores = score_structures(reference, prediction, SPACING)
        assert scores.dice == pytest.approx(overlap.aggregate().item(), rel=1e-6)
        assert scores.hd95 == pytest.approx(distance.aggregate().item(), rel=1e-6)
