"""Folders of DICOM series become a data set that holds the same values and no name."""

import numpy as np
import pytest

from gdmunet.conversion.dicom_dataset import DicomDatasetOptions, DicomLayout, convert_dicom_dataset
from gdmunet.conversion.held_out import SplitOptions
from gdmunet.dataset import list_cases, load_descriptor
from gdmunet.dicom.series import scan_series
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, read_case, read_volume

GRID = Geometry((4, 6, 5), (2.0, 1.0, 1.5), (3.0, -4.0, 50.0))
LABEL = SeriesLabel("Series")


def make_case(root, case, patient="SECRET-1", target_grid=GRID, same_frame=True):
    """Condition and target of a case; the target is 100 HU a mm along x, whatever its grid."""
    random = np.random.default_rng(len(case))
    condition = Volume(random.integers(-1000, 1000, GRID.shape).astype(np.int16), GRID)
    write_ct_series(root / case / "condition", condition, LABEL, patient_id=patient)
    source = scan_series(root / case / "condition")[0] if same_frame else None
    x = target_grid.origin[0] + np.arange(target_grid.shape[2]) * target_grid.spacing[2]
    target = Volume(np.broadcast_to(100 * x, target_grid.shape).astype(np.int16), target_grid)
    write_ct_series(root / case / "target", target, LABEL, reference=source, patient_id=patient)
    return condition, target


def convert(tmp_path, **options):
    options = DicomDatasetOptions(("CT",), "CT", **options)
    return convert_dicom_dataset(DicomLayout(tmp_path / "in"), tmp_path / "raw", 505, "Dicom", options)


def test_a_data_set_holds_the_same_values_and_grids(tmp_path):
    made = {case: make_case(tmp_path / "in", case, patient=case) for case in ("a", "bb", "ccc")}
    done = convert(tmp_path, split=SplitOptions(("ccc",)))
    assert done.cases == ("a", "bb", "ccc")
    assert done.notes == ()
    descriptor = load_descriptor(done.folder)
    assert descriptor.groups == {}
    for split, names in (("Tr", ["a", "bb"]), ("Ts", ["ccc"])):
        cases = list_cases(done.folder, descriptor, split)
        assert [case.identifier for case in cases] == names
        for case in cases:
            found = read_case(case)
            assert np.array_equal(found.conditions[0], made[case.identifier][0].array)
            assert np.array_equal(found.target, made[case.identifier][1].array)
            assert found.geometry.difference(GRID) is None
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["Dataset505_Dicom"]


def test_cases_of_one_patient_stay_together_without_the_id(tmp_path):
    for case, patient in (("a", "SECRET-1"), ("bb", "SECRET-2"), ("ccc", "SECRET-1")):
        make_case(tmp_path / "in", case, patient)
    folder = convert(tmp_path).folder
    groups = load_descriptor(folder).groups
    assert groups["a"] == groups["ccc"] != groups["bb"]
    assert "SECRET" not in (folder / "dataset.json").read_text()


def test_other_grids_are_refused_or_resampled_in_the_world(tmp_path):
    finer = Geometry((9, 14, 20), (1.0, 0.5, 0.75), (0.0, -5.0, 49.0))
    make_case(tmp_path / "in", "a", target_grid=finer)
    make_case(tmp_path / "in", "bb", patient="2")
    with pytest.raises(GdmError, match=r"different grids[\s\S]*case: a[\s\S]*--resample"):
        convert(tmp_path)
    assert list((tmp_path / "raw").iterdir()) == []
    done = convert(tmp_path, resample=True)
    target = read_volume(done.folder / "targetsTr" / "a.nii.gz")
    assert target.geometry.difference(GRID) is None
    assert np.abs(target.array - 100 * (3.0 + 1.5 * np.arange(5))).max() <= 1
    assert "a/target: resampled onto the grid of condition" in done.notes[0]


def test_other_frames_of_reference_are_never_resampled(tmp_path):
    make_case(tmp_path / "in", "a", target_grid=Geometry((4, 6, 5), (2.0, 1.0, 1.0)), same_frame=False)
    with pytest.raises(GdmError, match="frames of reference"):
        convert(tmp_path, resample=True)


def test_a_case_without_a_folder_is_named(tmp_path):
    make_case(tmp_path / "in", "a")
    (tmp_path / "in" / "b" / "condition").mkdir(parents=True)
    with pytest.raises(GdmError, match="case: b"):
        convert(tmp_path)
