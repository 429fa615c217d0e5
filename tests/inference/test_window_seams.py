import numpy as np
import pytest
import torch
from prediction_samples import SPACING, body_of, make_configuration, make_descriptor

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import CaseVolumes
from gdmunet.inference import Predictor
from gdmunet.inference.seams import offset_difference, prediction_seam_score, window_borders
from gdmunet.inference.windows import plan_windows


def patchy(batch: torch.Tensor) -> torch.Tensor:
    """Each window has a mean of its own: the worst network for seams."""
    return batch[:, :1] - batch[:, :1].mean(dim=(2, 3, 4), keepdim=True)


def prepared_with(network, head, **options):
    predictor = Predictor([network], make_configuration(), make_descriptor(), **options)
    volumes = CaseVolumes("case", head[None], None, body_of(head), Geometry(head.shape, SPACING))
    return predictor, predictor.prepare(volumes)


def smooth_head() -> np.ndarray:
    z = np.linspace(-1, 1, 24)
    return (500 * np.add.outer(np.add.outer(z, z**2), -z)).astype(np.float32)


def test_borders_are_where_windows_start_and_end():
    assert window_borders(plan_windows((10, 8, 4), (4, 8, 4), 0.5)) == ((2, 4, 6, 8), (), ())
    assert window_borders(plan_windows((10, 8, 9), (1, 4, 4), 1.0))[0] == ()


def test_windows_that_do_not_overlap_show_and_overlap_hides_them():
    scores = {}
    for step_size in (1.0, 0.25):
        predictor, prepared = prepared_with(patchy, smooth_head(), step_size=step_size)
        scores[step_size] = prediction_seam_score(predictor, prepared, predictor.predict_network_units(prepared).array)
    assert scores[1.0] > 2
    assert scores[0.25] < 1.2


def test_the_identity_has_no_seam_and_no_offset_difference():
    predictor, prepared = prepared_with(lambda b: b[:, :1], smooth_head())
    score = prediction_seam_score(predictor, prepared, predictor.predict_network_units(prepared).array)
    assert score == pytest.approx(1, abs=0.15)
    assert offset_difference(predictor, prepared) < 0.01


def test_the_offset_difference_is_in_the_targets_unit(head):
    """Against the same number from two predictions, brought to HU by hand."""
    predictor, prepared = prepared_with(patchy, head)
    offset = (2, 2, 2)
    two = [predictor.predict_network_units(prepared, offset=o).array for o in ((0, 0, 0), offset)]
    expected = 400 * np.abs(two[0] - two[1])[prepared.mask].mean()
    assert offset_difference(predictor, prepared) == pytest.approx(expected, rel=1e-4)
    assert expected > 1
    with pytest.raises(GdmError, match="changes nothing"):
        offset_difference(predictor, prepared, (0, 0, 0))
