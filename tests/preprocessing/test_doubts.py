"""The plausibility step from raw files to plans: errors and warnings with case and file, --accept, ranges, outliers."""

import json
from pathlib import Path

import numpy as np
import pytest

from gdmunet.dataset import load_descriptor
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_volume, write_volume
from gdmunet.preprocessing.doubts import find_outliers, ranges_of, warning_rows
from gdmunet.preprocessing.fingerprint import extract_fingerprint, verify_dataset

CHANGES = {
    "offset": lambda a: a.astype(np.int32) + 1024,
    "0..1": lambda a: ((a + 1024) / 4095).astype(np.float32),
    "1/mm": lambda a: ((a / 1000 + 1) * 0.0192).astype(np.float32),
}


def change(file: Path, function) -> None:
    volume = read_volume(file)
    write_volume(file, function(volume.array), volume.geometry)


def measure(folder: Path, **options):
    return extract_fingerprint(folder, folder.parent.parent / "preprocessed", show_progress=False, **options)


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("place", ["imagesTr/case_1_0000", "targetsTr/case_1"])
def test_one_case_that_is_not_in_hu_is_named_alone_with_its_file(raw_dataset, kind, place):
    folder = raw_dataset()
    change(folder / f"{place}.nii.gz", CHANGES[kind])
    with pytest.raises(GdmError) as raised:
        measure(folder)
    assert (raised.value.case, raised.value.file) == ("case_1", f"{place}.nii.gz")
    assert "--accept hounsfield" in raised.value.remedy


def test_all_wrong_cases_are_told_at_once_also_when_the_fingerprint_is_there(raw_dataset):
    folder = raw_dataset()
    for index in range(3):
        change(folder / f"targetsTr/case_{index}.nii.gz", CHANGES["offset"])
    for _ in range(2):
        with pytest.raises(GdmError, match="3 problems"):
            measure(folder)


def test_who_insists_gets_a_fingerprint_and_a_line(raw_dataset, capsys):
    folder = raw_dataset()
    change(folder / "targetsTr/case_1.nii.gz", CHANGES["offset"])
    fingerprint = measure(folder, accepted=("hounsfield",))
    assert "accepted hounsfield: 1 finding (case_1)" in capsys.readouterr().out
    spec = ranges_of(fingerprint, load_descriptor(folder), ("hounsfield",))
    assert spec.accepted == ("hounsfield",)
    (row,) = warning_rows(fingerprint.findings, ("hounsfield",))
    assert row.choice == "accepted hounsfield"


def test_an_unknown_name_is_refused(raw_dataset):
    with pytest.raises(GdmError, match="no such check"):
        measure(raw_dataset(), accepted=("hu",))


def test_verification_sees_the_test_cases_too(raw_dataset):
    folder = raw_dataset(tests=1)
    change(folder / "targetsTs/case_0.nii.gz", CHANGES["offset"])
    with pytest.raises(GdmError) as raised:
        verify_dataset(folder, load_descriptor(folder), 1, show_progress=False)
    assert raised.value.file == "targetsTs/case_0.nii.gz"


def test_an_inverted_mask_is_an_error(raw_dataset):
    folder = raw_dataset()
    change(folder / "masksTr/case_2.nii.gz", lambda mask: (mask == 0).astype(np.uint8))
    with pytest.raises(GdmError) as raised:
        measure(folder)
    assert (raised.value.case, raised.value.file) == ("case_2", "masksTr/case_2.nii.gz")


def test_a_right_data_set_has_no_doubts(raw_dataset, capsys):
    folder = raw_dataset(cases=5)
    fingerprint = measure(folder)
    assert fingerprint.findings == find_outliers(fingerprint, load_descriptor(folder)) == []
    assert "WARNING" not in capsys.readouterr().out


def test_a_case_apart_is_an_outlier_in_what_makes_it_so(raw_dataset):
    folder = raw_dataset(cases=5)
    files = ("imagesTr/case_3_0000", "targetsTr/case_3", "masksTr/case_3")
    for name in files:
        volume = read_volume(folder / f"{name}.nii.gz")
        write_volume(folder / f"{name}.nii.gz", volume.array, Geometry(volume.geometry.shape, (12.0, 4.0, 4.0)))
    found = find_outliers(measure(folder), load_descriptor(folder))
    assert {finding.case for finding in found} == {"case_3"}
    assert any(finding.problem.startswith("voxel size along z") for finding in found)
    assert "WARNING outliers" in {row.choice for row in warning_rows(found, ())}


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ({"case_0": "a", "case_1": "b", "case_9": "c"}, "1 line without a case: case_9"),
        ({"case_0": "a", "case_1": "b"}, "1 case without a line: case_2"),
    ],
)
def test_groups_and_cases_that_do_not_name_the_same_are_said(raw_dataset, capsys, groups, text):
    folder = raw_dataset()
    file = folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"groups": groups}))
    measure(folder)
    assert text in capsys.readouterr().out


def test_a_group_that_differs_from_its_case_in_spelling_alone_is_an_error(raw_dataset):
    folder = raw_dataset()
    file = folder / "dataset.json"
    groups = {"case_0": "a", "Case_1": "b", "case_2": "c"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"groups": groups}))
    with pytest.raises(GdmError, match="case, space or Unicode form"):
        measure(folder)
