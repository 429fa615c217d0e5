from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.range_choice import choose_range
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.metrics import HU_2025, ValueRange, score_pair
from gdmunet.volume_formats.files import find_volumes

SHAPE = (10, 12, 14)
GRID = Geometry(SHAPE, (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
CT = DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 3, groups={"a": "p1", "b": {"patient": "p2", "region": "head"}})
MR = replace(CT, target_name="T2")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three cases with errors of 10, 20 and 30 HU inside the mask and 500 HU outside."""
    reference, prediction, mask = (tmp_path / name for name in ("reference", "prediction", "mask"))
    random = np.random.RandomState(0)
    inside = np.zeros(SHAPE, bool)
    inside[2:8, 2:10, 3:11] = True
    for name, error in (("a", 10), ("b", 20), ("c", 30)):
        target = np.round(random.normal(0, 300, SHAPE)).astype(np.int16)
        write_volume(reference / f"{name}.nii.gz", target, GRID)
        write_volume(prediction / f"{name}.mha", np.where(inside, target + error, target + 500), GRID)
        write_volume(mask / f"{name}.nrrd", inside, GRID)
    return reference, prediction, mask


def evaluate(folders, **options):
    return evaluate_folders(EvaluationFolders(*folders), EvaluationOptions(show_progress=False, **options))


def test_files_of_any_ending_are_matched_and_scored_in_the_mask(folders):
    summary = evaluate(folders)
    assert {name: row["mae"] for name, row in summary.cases.items()} == {"a": 10, "b": 20, "c": 30}
    assert summary.mean["mae"] == 20
    assert summary.mean["bias"] == 20
    assert (summary.count["mae"], summary.failed) == (3, 0)
    assert summary.settings.mask == "given"
    assert summary.settings.value_range == HU_2025


def test_scores_are_those_of_the_metrics(folders):
    from gdmunet.imageio import read_mask, read_volume

    target, prediction = (read_volume(find_volumes(folder)["b"]).array for folder in folders[:2])
    expected = score_pair(target, prediction, HU_2025, read_mask(folders[2] / "b.nrrd").array)
    assert evaluate(folders).cases["b"] == expected.values


def test_without_masks_the_whole_volume_is_scored_and_the_summary_says_so(folders):
    summary = evaluate(folders[:2])
    assert summary.cases["a"]["mae"] > 300
    assert summary.settings.mask == "none"
    assert "whole volume" in summary.settings.describe()


def test_groups_come_from_the_descriptor_or_the_caller(folders):
    by_descriptor = evaluate(folders, descriptor=CT).groups
    assert set(by_descriptor["patient"]) == {"p1", "p2"}
    assert by_descriptor["region"]["head"].mean["mae"] == 20
    given = {"a": {"center": "A"}, "b": {"center": "B"}, "c": {"center": "A"}}
    by_caller = evaluate(folders, descriptor=CT, groups=given).groups
    assert set(by_caller) == {"center"}
    assert by_caller["center"]["A"].mean["mae"] == 20
    assert by_caller["center"]["A"].count["mae"] == 2


def test_two_processes_give_the_same_as_one(folders):
    alone, together = evaluate(folders, processes=1), evaluate(folders, processes=2)
    assert alone == together


def test_only_the_named_cases_are_scored(folders):
    (folders[1] / "c.mha").unlink()
    assert set(evaluate(folders, identifiers=["a", "b"]).cases) == {"a", "b"}
    with pytest.raises(GdmError, match="neither reference nor prediction"):
        evaluate(folders, identifiers=["a", "unknown"])


def test_a_missing_prediction_is_an_error_that_names_the_case(folders):
    (folders[1] / "b.mha").unlink()
    with pytest.raises(GdmError, match=r"1 of 3 cases(.|\n)*case: b(.|\n)*no prediction(.|\n)*--allow-missing"):
        evaluate(folders)
    summary = evaluate(folders, allow_missing=True)
    assert summary.cases["b"] == {"error": "no prediction"}
    assert summary.failed == 1
    assert summary.count["mae"] == 2
    assert summary.mean["mae"] == 20  # of a and c alone


def test_a_surplus_prediction_and_a_missing_mask_are_errors(folders):
    write_volume(folders[1] / "extra.mha", np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), GRID)
    with pytest.raises(GdmError, match=r"case: extra(.|\n)*no reference"):
        evaluate(folders)
    (folders[1] / "extra.mha").unlink()
    (folders[2] / "c.nrrd").unlink()
    with pytest.raises(GdmError, match=r"case: c(.|\n)*no mask"):
        evaluate(folders)
    assert evaluate(folders, allow_missing=True).errors == {"c": "no mask"}


@pytest.mark.parametrize(
    ("change", "found"),
    [({"spacing": (3.0, 1.0, 1.0)}, r"spacing \(3.0, 1.0, 1.0\)"), ({"origin": (0.0, 0.0, 0.0)}, "origin")],
)
@pytest.mark.parametrize("which", [1, 2])
def test_another_grid_is_an_error_that_names_case_and_file(folders, change, found, which):
    file = find_volumes(folders[which])["b"]
    write_volume(file, np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), replace(GRID, **change))
    with pytest.raises(GdmError, match=rf"one grid(.|\n)*case: b(.|\n)*{file.name}(.|\n)*found: {found}(.|\n)*remedy"):
        evaluate(folders)
    assert "one grid" in evaluate(folders, allow_missing=True).errors["b"]


def test_another_shape_is_an_error(folders):
    small = replace(GRID, shape=(10, 12, 13))
    write_volume(folders[1] / "a.mha", np.arange(10 * 12 * 13).reshape(small.shape).astype(np.int16), small)
    with pytest.raises(GdmError, match=r"case: a(.|\n)*shape \(10, 12, 13\)"):
        evaluate(folders)


def test_an_empty_mask_is_an_error_that_names_the_case(folders):
    write_volume(folders[2] / "b.nrrd", np.zeros(SHAPE, bool), GRID)
    with pytest.raises(GdmError, match=r"mask has no voxel(.|\n)*case: b"):
        evaluate(folders)
    assert "mask has no voxel" in evaluate(folders, allow_missing=True).errors["b"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_an_error_that_names_the_case(folders, value):
    spoiled = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.float32)
    spoiled[4, 4, 4] = value
    write_volume(folders[1] / "b.mha", spoiled, GRID)
    with pytest.raises(GdmError, match=r"not numbers(.|\n)*case: b(.|\n)*b.mha"):
        evaluate(folders)
    summary = evaluate(folders, allow_missing=True)
    assert "not numbers" in summary.errors["b"]
    assert summary.mean["mae"] == 20


def test_nothing_scored_at_all_is_an_error_even_if_missing_is_allowed(folders):
    for name in "abc":
        (folders[1] / f"{name}.mha").unlink()
    with pytest.raises(GdmError, match=r"no case could be scored(.|\n)*a(.|\n)*no prediction"):
        evaluate(folders, allow_missing=True)


def test_wrong_folders_are_errors(folders, tmp_path):
    with pytest.raises(GdmError, match=r"folder is missing(.|\n)*nowhere"):
        evaluate_folders(EvaluationFolders(folders[0], tmp_path / "nowhere"))
    with pytest.raises(GdmError, match="one folder"):
        evaluate_folders(EvaluationFolders(folders[0], folders[0]))
    write_volume(folders[1] / "a.nii.gz", np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), GRID)
    with pytest.raises(GdmError, match=r"two files have one identifier(.|\n)*case: a"):
        evaluate(folders)


def test_the_target_decides_the_range():
    assert choose_range().name == "2025"
    assert choose_range(CT) == choose_range()
    assert choose_range(CT, "2023").value_range.width == 4024
    assert choose_range(MR).value_range is None
    assert choose_range(MR, data_range=(5.0, 900.0)).value_range == ValueRange(5.0, 900.0, 5.0)
    assert choose_range(CT, data_range=(-1000.0, 900.0)).hounsfield
    assert not choose_range(data_range=(0.0, 1.0)).hounsfield
    with pytest.raises(GdmError, match=r"for Hounsfield units(.|\n)*T2"):
        choose_range(MR, "2025")
    with pytest.raises(GdmError, match="two ranges"):
        choose_range(None, "2025", (0.0, 1.0))
    with pytest.raises(GdmError, match="two ranges"):
        EvaluationOptions(range_name="2025", data_range=(0.0, 1.0))


def test_other_targets_are_scored_on_their_own_reference_range(folders):
    from gdmunet.imageio import read_mask, read_volume

    summary = evaluate(folders, descriptor=MR)
    assert "mae_bone" not in summary.mean
    assert summary.settings.range == "reference"
    assert summary.settings.value_range is None
    inside = read_volume(folders[0] / "a.nii.gz").array[read_mask(folders[2] / "a.nrrd").array]
    low, high = float(inside.min()), float(inside.max())
    assert summary.settings.case_ranges["a"] == ValueRange(low, high, low)
    clipped = np.clip(inside + 10, low, high)
    expected = 10 * np.log10((high - low) ** 2 / np.square(clipped - inside).mean())
    assert summary.cases["a"]["psnr"] == pytest.approx(expected)
