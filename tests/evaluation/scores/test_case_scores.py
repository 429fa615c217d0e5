"""Scores inside body and field of view, and of label maps."""

from dataclasses import replace

import numpy as np
import pytest

from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.summary import load_summary, save_summary
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume

SHAPE = (10, 12, 14)
GRID = Geometry(SHAPE, (2.0, 1.0, 1.5), (5.0, 6.0, 7.0))


@pytest.fixture
def root(tmp_path):
    """Two cases: errors of 10 HU in the upper half and 30 HU in the lower; the field of view is the upper half."""
    random = np.random.default_rng(3)
    body, fov, error = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool), np.full(SHAPE, 30)
    body[1:9, 2:10, 2:12], fov[5:], error[5:] = True, True, 10
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:7, 3:7], labels[6:8, 3:7, 8:11] = 5, 51
    for name in ("a", "b"):
        ct = np.round(random.normal(0, 200, SHAPE)).astype(np.int16)
        write_volume(tmp_path / "ref" / f"{name}.mha", ct, GRID)
        write_volume(tmp_path / "pred" / f"{name}.mha", (ct + error).astype(np.int16), GRID)
        write_volume(tmp_path / "mask" / f"{name}.mha", body, GRID)
        write_volume(tmp_path / "fov" / f"{name}.mha", fov, GRID)
        write_volume(tmp_path / "lref" / f"{name}.mha", labels, GRID)
        moved = np.where(np.roll(labels, 1, 1) == 5, 5, np.where(labels == 51, 51 if name == "a" else 0, 0))
        write_volume(tmp_path / "lpred" / f"{name}.mha", moved.astype(np.uint8), GRID)
    return tmp_path


def evaluate(root, mask="mask", fov_folder=None, label_folders=(None, None), **options):
    folders = EvaluationFolders(root / "ref", root / "pred", root / mask if mask else None, fov_folder, *label_folders)
    return evaluate_folders(folders, EvaluationOptions(show_progress=False, **options))


def test_scores_are_taken_inside_body_and_field_of_view(root, tmp_path):
    both = evaluate(root, fov_folder=root / "fov")
    body = evaluate(root)
    assert {row["mae"] for row in both.cases.values()} == {10.0}
    assert body.mean["mae"] == pytest.approx(20)  # four planes of either half
    assert "masks of" in both.settings.describe()
    assert "fields of view of" in both.settings.describe()
    save_summary(both, tmp_path / "summary.json")
    assert load_summary(tmp_path / "summary.json") == both


def test_a_field_of_view_alone_is_enough(root):
    summary = evaluate(root, mask=None, fov_folder=root / "fov")
    assert summary.mean["mae"] == 10
    assert summary.settings.mask == "none"
    assert "whole volume" not in summary.settings.describe()


def test_a_field_of_view_beside_the_body_is_an_error_that_names_the_case(root):
    outside = np.zeros(SHAPE, bool)
    outside[0] = True
    write_volume(root / "fov" / "b.mha", outside, GRID)
    with pytest.raises(GdmError, match=r"no voxel in common(.|\n)*case: b(.|\n)*fov"):
        evaluate(root, fov_folder=root / "fov")
    (root / "fov" / "b.mha").unlink()
    with pytest.raises(GdmError, match=r"case: b(.|\n)*no field of view"):
        evaluate(root, fov_folder=root / "fov")


def test_label_maps_add_dice_and_distance(root):
    summary = evaluate(root, label_folders=(root / "lref", root / "lpred"))
    # A block of 3x4x4 moved by one of 4 rows: 3/4 overlap; its surface lies one row (1 mm) further.
    assert summary.cases["a"]["dice"] == pytest.approx((0.75 + 1) / 2)
    assert summary.cases["a"]["hd95"] == pytest.approx((1.0 + 0) / 2)
    assert summary.cases["b"]["dice"] == pytest.approx(0.75 / 2)
    assert summary.cases["b"]["hd95"] == pytest.approx(1.0)
    assert "structures 51" in summary.notes["b"]["hd95"]
    assert summary.settings.label_folders == (str(root / "lref"), str(root / "lpred"))
    assert evaluate(root).settings.label_folders is None
    assert "dice" not in evaluate(root).mean


def test_only_the_structures_of_a_case_count(root):
    summary = evaluate(root, label_folders=(root / "lref", root / "lpred"), structures={"a": (5,), "b": (90,)})
    assert summary.cases["a"]["dice"] == pytest.approx(0.75)
    assert summary.cases["b"]["dice"] is None
    assert "none of the structures" in summary.notes["b"]["dice"]
    assert summary.count["dice"] == 1


def test_unusable_label_maps_are_errors(root):
    with pytest.raises(GdmError, match=r"one side alone(.|\n)*--labels_pred"):
        evaluate(root, label_folders=(root / "lref", None))
    with pytest.raises(GdmError, match=r"not labels(.|\n)*case: a(.|\n)*whole numbers"):
        evaluate(root, label_folders=(root / "lref", root / "pred"))
    other = replace(GRID, spacing=(3.0, 1.0, 1.5))
    write_volume(root / "lpred" / "a.mha", np.ones(SHAPE, np.uint8), other)
    with pytest.raises(GdmError, match=r"one grid(.|\n)*case: a(.|\n)*lpred"):
        evaluate(root, label_folders=(root / "lref", root / "lpred"))
    (root / "lpred" / "a.mha").unlink()
    with pytest.raises(GdmError, match=r"case: a(.|\n)*no label map of the prediction"):
        evaluate(root, label_folders=(root / "lref", root / "lpred"))


def test_a_summary_written_before_fields_of_view_is_read(root, tmp_path):
    import json

    file = tmp_path / "summary.json"
    save_summary(evaluate(root), file)
    content = json.loads(file.read_text())
    del content["settings"]["fov_folder"], content["settings"]["label_folders"]
    file.write_text(json.dumps(content))
    assert load_summary(file) == evaluate(root)
