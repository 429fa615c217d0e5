"""The classifier two-sample test: near 0.5 for one distribution, near 1 for blur; only other cases train it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gdmunet.evaluation.distributions.classifier import ClassifierOptions, draw_patches, two_sample_scores

OPTIONS = ClassifierOptions(patches=48, steps=60)
MASK = np.ones((24, 24, 24), bool)


def texture(seed):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=MASK.shape), 0.6).astype(np.float32)


def scores(change, options=OPTIONS):
    cases = {
        f"case_{seed}": draw_patches(change(texture(seed)), texture(seed), MASK, 0.0, options) for seed in range(4)
    }
    return two_sample_scores(cases, options)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_equal_volumes_cannot_be_told_apart():
    assert scores(lambda volume: volume) == {f"case_{seed}": 0.5 for seed in range(4)}


def test_other_texture_of_the_same_kind_is_near_a_half():
    other = scores(lambda volume: texture(abs(int(1e6 * volume[0, 0, 0]))))
    assert np.mean(list(other.values())) == pytest.approx(0.5, abs=0.1)


def test_a_shift_is_not_seen():
    """Patches of a shifted volume are patches of the same texture: geometry is the paired scores' matter."""
    cases = {}
    for seed in range(4):
        whole = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(36, 36, 36)), 0.6).astype(np.float32)
        shifted, real = whole[5:29, 7:31, 3:27], whole[6:30, 6:30, 6:30]
        cases[f"case_{seed}"] = draw_patches(shifted, real, MASK, 0.0, OPTIONS)
    assert np.mean(list(two_sample_scores(cases, OPTIONS).values())) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "change",
    [
        lambda volume: ndimage.gaussian_filter(volume, 0.8),
        lambda volume: volume + 0.8 * (volume - ndimage.gaussian_filter(volume, 1.0)),
        lambda volume: volume + np.random.default_rng(9).normal(0, 0.3, volume.shape).astype(np.float32),
    ],
    ids=["blurred", "sharpened", "noisy"],
)
def test_changed_texture_is_told_apart_in_cases_that_did_not_train(change):
    assert min(scores(change).values()) > 0.85


def test_patches_of_one_plane_do_not_see_whether_slices_belong_together():
    def torn(volume):
        """Every slice is of another volume of the same texture."""
        first = abs(int(1e6 * volume[0, 0, 0]))
        return np.stack([texture(first + number)[number] for number in range(len(volume))])

    assert min(scores(torn).values()) > 0.8
    in_slices = ClassifierOptions(patches=96, steps=60, edge=16, planes=1)
    assert np.mean(list(scores(torn, in_slices).values())) == pytest.approx(0.5, abs=0.1)
    assert min(scores(lambda volume: ndimage.gaussian_filter(volume, 0.8), in_slices).values()) > 0.85


def test_the_same_patches_give_the_same_scores_and_global_random_numbers_are_kept():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = scores(lambda volume: ndimage.gaussian_filter(volume, 0.4))
    assert torch.equal(torch.rand(2), expected)
    assert scores(lambda volume: ndimage.gaussian_filter(volume, 0.4)) == first


def test_a_single_case_has_no_score():
    patches = draw_patches(texture(0), texture(1), MASK, 0.0, OPTIONS)
    assert two_sample_scores({"only": patches}, OPTIONS) is None


def test_patches_lie_around_body_voxels_and_show_background_outside():
    mask = np.zeros((10, 12, 14), bool)
    mask[4, 5, 6] = True
    volume = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    patches = draw_patches(volume, 2 * volume, mask, -7.0, ClassifierOptions(edge=4, patches=3)).generated
    assert patches.shape == (3, 4, 4, 4)
    assert (patches[:, 2, 2, 2] == float(volume[4, 5, 6])).all()
    assert (patches == -7.0).sum() == 3 * 63


def test_a_classifier_never_saw_the_case_that_it_tests(monkeypatch):
    """A case whose generated side is marked by a value of its own is not known by that value."""
    from gdmunet.evaluation.distributions import classifier

    trained = []
    train = classifier._train
    monkeypatch.setattr(classifier, "_train", lambda cases, *rest: trained.append(cases) or train(cases, *rest))
    cases = {f"case_{s}": draw_patches(texture(s), texture(s), MASK, 0.0, OPTIONS) for s in range(5)}
    tested = []
    area = classifier._area
    monkeypatch.setattr(classifier, "_area", lambda net, case: tested.append((len(trained), case)) or area(net, case))
    two_sample_scores(cases, ClassifierOptions(patches=48, steps=2))
    assert len(tested) == 5
    for fold, case in tested:
        assert all(case is not seen for seen in trained[fold - 1])
