"""The audit on encoders whose answers are known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from gdmunet.encoders.audit import audit_encoder
from gdmunet.encoders.audit_report import audit_table, verdict
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel, NormalizationSpec

UNITS = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), 0.0, 500.0), -1024.0, "CT")
NOISE = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)


class Cells(FrozenEncoder):
    """Every cell of 4 voxels a side by its voxels themselves; `change` spoils them."""

    def __init__(self, dimensions=3, change=lambda cells, _volume: cells, stride=4):
        channels = stride**dimensions
        super().__init__([EncoderLevel("cells", channels, (stride,) * dimensions)], UNITS, dimensions=dimensions,
                         divisor=stride)  # fmt: skip
        self.change, self.stride = change, stride

    def scale(self, raw):
        return raw / 500

    def features(self, volume):
        cells = volume
        for axis in range(2, volume.ndim):
            cells = cells.unfold(axis, self.stride, self.stride)
        cells = cells.flatten(2 + self.dimensions)[:, 0].movedim(-1, 1)
        return [self.change(cells, volume)]


def audit(encoder, volume=NOISE, **options):
    return audit_encoder(encoder, {"noise": volume}, window=16, windows=2, **options).levels[0]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_voxels_themselves_find_their_place_where_the_shift_is_whole(dimensions):
    # Stride 2: a quarter of a cell is less than a voxel, so every shift is a whole number of cells.
    level = audit(Cells(dimensions, stride=2), noise=0.01)
    assert level.retrieval == 1.0
    assert 0 < level.chance < 0.05
    assert level.chance == pytest.approx(1 / level.positions)


def test_features_without_content_find_places_by_chance():
    spoiled = Cells(change=lambda cells, _volume: torch.randn(cells.shape) + 0 * cells)
    level = audit(spoiled)
    assert level.retrieval < 0.2
    assert level.verdict.startswith("unfit")


def test_voxels_punish_blur_and_noise_of_equal_error_equally():
    assert audit(Cells()).blur_over_noise == pytest.approx(1, abs=0.1)


def test_a_detector_of_detail_punishes_blur_more_and_a_smoother_less():
    smooth = np.cumsum(NOISE, 0) / 6
    contrast = Cells(change=lambda cells, _volume: cells.std(1, keepdim=True).expand_as(cells))
    mean = Cells(change=lambda cells, _volume: cells.mean(1, keepdim=True).expand_as(cells))
    assert audit(contrast, NOISE).blur_over_noise > 1.2
    assert audit(mean, smooth).blur_over_noise != pytest.approx(1, abs=0.02)


def test_a_level_at_stride_1_is_judged_by_its_windows_as_the_drift_reads_it():
    class Voxels(FrozenEncoder):
        def __init__(self):
            super().__init__([EncoderLevel("voxels", 4, (1, 1, 1))], UNITS, divisor=4)

        def scale(self, raw):
            return raw / 500

        def features(self, volume):
            edges = [volume - volume.roll(1, axis) for axis in (-1, -2, -3)]
            return [torch.cat([volume / 5, *edges], 1)]

    smooth = 20 * gaussian_filter(NOISE, 2)
    level = audit_encoder(Voxels(), {"smooth": smooth}, window=32, windows=2, noise=0.01).levels[0]
    assert level.retrieval > 20 * level.chance
    assert (level.stride, level.channels, level.dead) == ((1, 1, 1), 4, 0)


def test_dead_channels_are_counted():
    half = Cells(change=lambda cells, _volume: cells * (torch.arange(64) % 4 != 0).view(1, -1, 1, 1, 1))
    assert audit(half).dead == pytest.approx(0.25)


def test_normalised_features_have_steep_gradients_on_flat_patches():
    norm = Cells(change=lambda cells, _volume: functional.instance_norm(cells, eps=1e-10) * 1.0 + cells.mean() * 1e-3)
    steep = Cells(change=lambda cells, _volume: (cells - cells.mean()) / (cells.std() + 1e-9) + 1.0)
    assert audit(steep).gradient_flat > audit(Cells()).gradient_flat
    assert np.isfinite(audit(norm).gradient_image)


def test_a_gradient_that_is_not_a_number_makes_a_level_unfit():
    root = Cells(change=lambda cells, _volume: (cells - cells.mean()).square().sum().sqrt() + cells)
    level = audit(root)
    assert not np.isfinite(level.gradient_flat)
    assert "not finite" in level.verdict


def test_the_same_seed_gives_the_same_audit():
    assert audit(Cells(), seed=3) == audit(Cells(), seed=3)


def test_small_and_flat_volumes_are_audited_as_well():
    level = audit(Cells(), NOISE[:6, :20])
    assert np.isfinite(level.blur_over_noise)


def test_no_volumes_is_an_error():
    with pytest.raises(GdmError, match="no volumes"):
        audit_encoder(Cells(), {})


def test_verdicts_follow_the_numbers():
    assert verdict(0.9, 1.2, 0.0, 1.0, 1.0) == "good"
    assert "confused" in verdict(0.5, 1.2, 0.0, 1.0, 1.0)
    assert "blur" in verdict(0.9, 0.8, 0.0, 1.0, 1.0)
    assert "dead" in verdict(0.9, 1.2, 0.5, 1.0, 1.0)
    assert verdict(0.1, 1.2, 0.0, 1.0, 1.0).startswith("unfit")
    assert "flat" in verdict(0.9, 1.2, 0.0, 1e6, 1.0)
    assert "finite" in verdict(0.9, 1.2, 0.0, float("nan"), 1.0)


def test_the_table_has_a_line_a_level_and_the_twin_beside():
    found = audit_encoder(Cells(), {"noise": NOISE}, window=16, windows=1)
    table = audit_table(found, found).splitlines()
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1
    assert len(audit_table(found).splitlines()) == 3
