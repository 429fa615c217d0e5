import itertools

import numpy as np
import pytest
from skimage.metrics import normalized_mutual_information, structural_similarity

from gdmunet import metrics
from gdmunet.errors import GdmError
from gdmunet.metrics import HU_2023, HU_2025, ValueRange

SHAPE = (20, 24, 28)


def make_pair(shape: tuple[int, int, int] = SHAPE, seed: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wavy target, a noisy prediction with one voxel of 6000, a box as mask. RandomState's stream never changes."""
    random = np.random.RandomState(seed)
    grid = np.indices(shape).sum(axis=0)
    target = np.round(600 * np.sin(grid / 4.0) + random.normal(0, 300, shape))
    prediction = np.round(target + random.normal(40, 150, shape))
    prediction[tuple(size // 2 for size in shape)] = 6000.0
    mask = np.zeros(shape, bool)
    mask[tuple(slice(size // 5, size - size // 6) for size in shape)] = True
    return target, prediction, mask


# Printed by ImageMetrics().score_patient of the public evaluator SynthRAD2025/evaluation (image_metrics.py, commit
# 17cac47) for make_pair(shape) in float64; arrays given to it as (x, y, z); without a mask it got a mask of ones.
OFFICIAL = [
    ((20, 24, 28), True, 124.52403846153847, 28.29016050496277, 0.9969208239575807),
    ((20, 24, 28), False, 123.23616071428572, 28.50446189697682, 0.94916277466975),
    ((9, 32, 26), True, 125.88355342136855, 28.057304388630207, 0.9971119968577911),
    ((9, 32, 26), False, 123.41680021367522, 28.47018604433076, 0.9683713716968823),
]


@pytest.mark.parametrize(("shape", "masked", "mae", "psnr", "ms_ssim"), OFFICIAL)
def test_scores_equal_the_challenges_evaluator(shape, masked, mae, psnr, ms_ssim):
    target, prediction, mask = make_pair(shape)
    mask = mask if masked else None
    assert metrics.mae(target, prediction, mask) == pytest.approx(mae, rel=1e-14)
    assert metrics.psnr(target, prediction, HU_2025, mask) == pytest.approx(psnr, rel=1e-14)
    assert metrics.ms_ssim(target, prediction, HU_2025, mask) == pytest.approx(ms_ssim, rel=1e-13)


def slow_ms_ssim(target, prediction, mask, low, high):
    """The definition, window by window: every statistic from the 343 values themselves."""
    pads = [((97 - n) // 2, 97 - n - (97 - n) // 2) if n < 97 else (0, 0) for n in target.shape]
    x, y = (np.where(mask, np.clip(image, low, high), low) - low for image in (target, prediction))
    x, y, inside = (np.pad(image, pads, mode="edge") for image in (x, y, mask))
    c1, c2, c3 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2, (0.03 * (high - low)) ** 2 / 2
    product = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        scores = []
        for z, row, column in np.argwhere(inside[3:-3, 3:-3, 3:-3]):
            window = slice(z, z + 7), slice(row, row + 7), slice(column, column + 7)
            a, b = x[window].ravel(), y[window].ravel()
            (va, cab), (_, vb) = np.cov(a, b, ddof=1)
            luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
            contrast = (2 * np.sqrt(va * vb) + c2) / (va + vb + c2)
            structure = (cab + c3) / (np.sqrt(va * vb) + c3)
            scores.append(np.prod([max(part, 0.0) ** weight for part in (luminance, contrast, structure)]))
        product *= min(max(np.mean(scores), 0.0), 1.0)
        before = [np.pad(image, 1) for image in (x, y)]
        # Index i of the padded image is voxel i - 1: output voxel i is the mean over i - 1 and i on every axis.
        x, y = (
            sum(
                image[tuple(slice(offset, offset + n) for offset, n in zip(corner, inside.shape, strict=True))]
                for corner in itertools.product((0, 1), repeat=3)
            )[::2, ::2, ::2]
            / 8
            for image in before
        )
        inside = inside[::2, ::2, ::2]
    return product


def test_ms_ssim_equals_a_slow_loop_over_windows():
    target, prediction, _ = make_pair()
    mask = np.zeros(SHAPE, bool)
    mask[6:13, 8:15, 10:18] = True
    expected = slow_ms_ssim(target, prediction, mask, -1024.0, 3071.0)
    assert metrics.ms_ssim(target, prediction, HU_2025, mask) == pytest.approx(expected, rel=1e-12)


def test_ms_ssim_of_an_unrelated_image_equals_the_slow_loop_where_structure_is_floored():
    target, _, _ = make_pair()
    mask = np.zeros(SHAPE, bool)
    mask[7:12, 9:14, 11:16] = True
    inverted = -target
    expected = slow_ms_ssim(target, inverted, mask, -1024.0, 3071.0)
    assert metrics.ms_ssim(target, inverted, HU_2025, mask) == pytest.approx(expected, rel=1e-12)
    assert expected < 0.9


def test_a_perfect_prediction_has_no_error():
    target, _, mask = make_pair()
    assert metrics.mae(target, target, mask) == 0
    assert metrics.rmse(target, target, mask) == 0
    assert metrics.psnr(target, target, HU_2025, mask) == float("inf")
    assert metrics.ms_ssim(target, target, HU_2025, mask) == pytest.approx(1, abs=1e-12)
    assert metrics.ssim(target, target, HU_2025, mask) == pytest.approx(1, abs=1e-12)
    assert metrics.nmi(target, target, HU_2025, mask) == pytest.approx(2)


def test_a_known_offset_is_the_error():
    target, _, mask = make_pair()
    target = np.clip(target, -900, 900)
    shifted = target - 25
    assert metrics.mae(target, shifted, mask) == 25
    assert metrics.rmse(target, shifted, mask) == 25
    assert metrics.bias(target, shifted, mask) == -25
    assert metrics.psnr(target, shifted, HU_2025, mask) == pytest.approx(20 * np.log10(4095 / 25))
    assert metrics.psnr(target, shifted, HU_2023, mask) == pytest.approx(20 * np.log10(4024 / 25))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -5000.0, 5000.0])
def test_nothing_outside_the_mask_matters(garbage):
    target, prediction, mask = make_pair()
    spoiled_target, spoiled = (np.where(mask, image, garbage) for image in (target, prediction))
    clean = metrics.score_pair(target, prediction, HU_2025, mask)
    assert metrics.score_pair(spoiled_target, spoiled, HU_2025, mask) == clean


def test_mae_is_not_clipped_and_psnr_is():
    target, _, mask = make_pair()
    target = np.clip(target, -900, 900)
    bright, brighter = np.full(SHAPE, 3071.0), np.full(SHAPE, 6000.0)
    assert metrics.mae(target, brighter, mask) == pytest.approx(metrics.mae(target, bright, mask) + 2929)
    assert metrics.bias(target, brighter, mask) == pytest.approx(metrics.mae(target, brighter, mask))
    assert metrics.psnr(target, brighter, HU_2025, mask) == metrics.psnr(target, bright, HU_2025, mask)
    assert metrics.ms_ssim(target, brighter, HU_2025, mask) == metrics.ms_ssim(target, bright, HU_2025, mask)


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_the_order_of_axes_does_not_matter(order):
    pair = make_pair()
    turned = [array.transpose(order) for array in pair]
    before = metrics.score_pair(pair[0], pair[1], HU_2025, pair[2]).values
    after = metrics.score_pair(turned[0], turned[1], HU_2025, turned[2]).values
    assert after == pytest.approx(before, rel=1e-11)


def test_symmetric_scores_do_not_care_which_image_is_the_target():
    target, prediction, mask = make_pair()
    for score in (metrics.psnr, metrics.ms_ssim, metrics.ssim, metrics.nmi):
        forward, back = score(target, prediction, HU_2025, mask), score(prediction, target, HU_2025, mask)
        assert forward == pytest.approx(back, rel=1e-12)
    assert metrics.bias(target, prediction, mask) == -metrics.bias(prediction, target, mask)


def test_more_noise_scores_worse_everywhere():
    target, _, mask = make_pair()
    noise = np.random.RandomState(0).normal(0, 1, SHAPE)
    little, much = (metrics.score_pair(target, target + s * noise, HU_2025, mask).values for s in (50, 400))
    for name in ("mae", "rmse", "mae_air", "mae_soft", "mae_bone"):
        assert little[name] < much[name]
    for name in ("psnr", "ms_ssim", "ssim", "nmi"):
        assert little[name] > much[name]


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_the_type_of_the_arrays_does_not_matter(kind):
    target, prediction, mask = make_pair()  # whole numbers, so the conversion is exact
    same = metrics.score_pair(target.astype(kind), prediction.astype(kind), HU_2025, mask.astype(np.uint8) * 3)
    assert same == metrics.score_pair(target, prediction, HU_2025, mask)


def test_inputs_stay_as_they_were():
    pair = make_pair()
    copies = [array.copy() for array in pair]
    metrics.score_pair(pair[0], pair[1], HU_2025, pair[2])
    for array, copy in zip(pair, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_ranges_are_the_challenges():
    assert HU_2025.width == 4095
    assert HU_2023.width == 4024
    assert metrics.evaluation_range("2023") is HU_2023
    with pytest.raises(GdmError, match=r"unknown evaluation range(.|\n)*2024"):
        metrics.evaluation_range("2024")
    with pytest.raises(GdmError, match="low end below"):
        ValueRange(3.0, 3.0, 0.0)


def test_scores_of_other_units_scale_with_the_range():
    target, prediction, mask = make_pair()
    unit = ValueRange(0.0, 1.0, 0.0)
    scaled = [(array + 1024) / 4095 for array in (target, prediction)]
    for score in (metrics.psnr, metrics.ms_ssim, metrics.ssim, metrics.nmi):
        assert score(*scaled, unit, mask) == pytest.approx(score(target, prediction, HU_2025, mask), rel=1e-9)


def test_ssim_equals_scikit_images():
    target, prediction, mask = make_pair()
    images = [np.where(mask, np.clip(image, -1024, 3071), -1024) + 1024 for image in (target, prediction)]
    _, every = structural_similarity(*images, data_range=4095, full=True)
    core = (slice(3, -3),) * 3
    assert metrics.ssim(target, prediction, HU_2025, mask) == pytest.approx(every[core][mask[core]].mean(), rel=1e-12)


def test_nmi_equals_scikit_images():
    target, prediction, mask = make_pair()
    x, y = target[mask].clip(-1024, 3071), prediction[mask].clip(-1024, 3071)
    # Two more voxels at both ends fix scikit-image's bins, which follow the data, to the range.
    x, y = (np.append(values, [-1024.0, 3071.0]) for values in (x, y))
    expected = normalized_mutual_information(x, y, bins=100)
    assert metrics.nmi(x[None, None], y[None, None], HU_2025) == pytest.approx(expected, rel=1e-12)


def test_tissue_classes_are_those_of_the_target():
    target = np.array([-500.0, -200.0, 0.0, 200.0, 201.0]).reshape(1, 1, 5)
    prediction = target + np.array([10.0, 20.0, 40.0, 60.0, 100.0])
    found = metrics.tissue_mae(target, prediction)
    assert (found.air, found.soft, found.bone) == (10, 40, 100)
    assert metrics.tissue_mae(target[..., :4], prediction[..., :4]).bone is None


def test_what_has_no_number_is_none_with_a_reason():
    target, _, mask = make_pair()
    soft = np.clip(target, -100, 100)
    scores = metrics.score_pair(soft, soft, HU_2025, mask)
    assert [name for name, value in scores.values.items() if value is None] == ["psnr", "mae_air", "mae_bone"]
    assert set(scores.notes) == {"psnr", "mae_air", "mae_bone"}
    assert "identical" in scores.notes["psnr"]
    corner = np.zeros((98, 98, 98), bool)
    corner[0, 0, 0] = True
    image = np.random.RandomState(0).normal(0, 100, corner.shape)
    scores = metrics.score_pair(image, image + 1, HU_2025, corner)
    assert scores.values["ms_ssim"] is None
    assert scores.values["ssim"] is None
    assert scores.values["mae"] == pytest.approx(1)
    assert "border" in scores.notes["ms_ssim"]


def test_other_targets_have_no_tissue_classes():
    target, prediction, mask = make_pair()
    values = metrics.score_pair(target, prediction, HU_2025, mask, hounsfield=False).values
    assert not [name for name in values if name.startswith("mae_")]
    of_images = {name for name, metric in metrics.METRICS.items() if metric.score is not None}
    assert of_images == set(metrics.score_pair(target, prediction, HU_2025, mask).values)


def test_unusable_input_is_an_error():
    target, prediction, mask = make_pair()
    with pytest.raises(GdmError, match="mask has no voxel"):
        metrics.mae(target, prediction, np.zeros(SHAPE, bool))
    with pytest.raises(GdmError, match="prediction differ in shape"):
        metrics.mae(target, prediction[:-1], mask)
    with pytest.raises(GdmError, match="mask differ in shape"):
        metrics.ms_ssim(target, prediction, HU_2025, mask[:-1])
    prediction[10, 10, 10] = np.nan
    with pytest.raises(GdmError, match=r"prediction has values that are not numbers(.|\n)*1 voxel"):
        metrics.score_pair(target, prediction, HU_2025, mask)


def test_seam_score_is_one_without_seams_and_grows_with_a_step():
    ramp = np.indices((12, 12, 12)).sum(axis=0) * 3.0
    borders = [[0, 6, 12], [4, 8], [6]]
    assert metrics.seam_score(ramp, borders) == pytest.approx(1)
    stepped = ramp.copy()
    stepped[6:] += 9.0
    assert metrics.seam_score(stepped, [[6], [], []]) == pytest.approx(4)  # 12 across the border, 3 elsewhere


def test_seam_score_sees_only_the_mask_and_needs_a_seam():
    volume = np.zeros((12, 12, 12))
    volume[6:] = 100.0
    volume += np.indices(volume.shape)[2]
    mask = np.zeros(volume.shape, bool)
    mask[:, :6] = True
    spoiled = np.where(mask, volume, 1e6)
    assert metrics.seam_score(spoiled, [[6], [], []], mask) == metrics.seam_score(volume, [[6], [], []], mask)
    with pytest.raises(GdmError, match="no seam"):
        metrics.seam_score(volume, [[0, 12], [], []])
