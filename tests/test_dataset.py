"""Raw data sets: what is accepted, and errors that name case, file, finding and remedy."""

import json

import pytest

from gdmunet.dataset import (
    Case,
    DatasetDescriptor,
    find_dataset,
    groups_of,
    list_cases,
    list_images,
    load_descriptor,
)
from gdmunet.dataset_names import SPLITS, RawFolders, split_of
from gdmunet.errors import GdmError

DESCRIPTION = {
    "channel_names": {"0": "T1", "1": "T2"},
    "target_name": "CT",
    "file_ending": ".nii.gz",
    "numTraining": 3,
    "mask": True,
}


@pytest.fixture
def folder(tmp_path):
    """Three cases of two channels with target and mask; the files hold nothing, listing reads none."""
    root = tmp_path / "Dataset012_Heads"
    for name in ("a", "b", "c"):
        for path in (f"imagesTr/{name}_0000", f"imagesTr/{name}_0001", f"targetsTr/{name}", f"masksTr/{name}"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / f"{path}.nii.gz").touch()
    (root / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return root


def cases_of(folder, split="Tr"):
    return list_cases(folder, load_descriptor(folder), split)


def describe(folder, **changes):
    (folder / "dataset.json").write_text(json.dumps({**DESCRIPTION, **changes}))


def check_error(caught, *parts):
    for part in ("case: b", "file:", "remedy:", *parts):
        assert part in str(caught.value), str(caught.value)


def test_cases_are_listed_with_their_files_in_channel_order(folder):
    cases = cases_of(folder)
    assert [case.identifier for case in cases] == ["a", "b", "c"]
    assert [path.name for path in cases[1].conditions] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert cases[1].target == folder / "targetsTr/b.nii.gz"
    assert cases[1].mask == folder / "masksTr/b.nii.gz"


def test_test_cases_need_no_target(folder):
    (folder / "imagesTs").mkdir()
    for channel in (0, 1):
        (folder / f"imagesTs/t_{channel:04d}.nii.gz").touch()
    (case,) = cases_of(folder, "Ts")
    assert (case.target, case.mask) == (None, None)


def test_a_missing_channel_is_named(folder):
    (folder / "imagesTr/b_0001.nii.gz").unlink()
    with pytest.raises(GdmError, match="missing channel") as caught:
        cases_of(folder)
    check_error(caught, "b_0001.nii.gz", "T1, T2")


def test_a_surplus_channel_is_named(folder):
    (folder / "imagesTr/b_0002.nii.gz").touch()
    with pytest.raises(GdmError, match="more channels") as caught:
        cases_of(folder)
    check_error(caught, "b_0002.nii.gz", "channel_names")


def test_a_file_without_channel_number_is_named(folder):
    (folder / "imagesTr/b.nii.gz").touch()
    with pytest.raises(GdmError, match="channel number") as caught:
        cases_of(folder)
    check_error(caught, "b_0000.nii.gz")


@pytest.mark.parametrize("kind", ["target", "mask"])
def test_an_image_without_its_partner_is_named(folder, kind):
    (folder / f"{kind}sTr/b.nii.gz").unlink()
    with pytest.raises(GdmError, match=f"image without {kind}") as caught:
        cases_of(folder)
    check_error(caught, "expected: b.nii.gz")


@pytest.mark.parametrize("kind", ["target", "mask"])
def test_a_partner_without_image_is_named(folder, kind):
    for channel in (0, 1):
        (folder / f"imagesTr/b_{channel:04d}.nii.gz").unlink()
    if kind == "mask":
        (folder / "targetsTr/b.nii.gz").unlink()
    with pytest.raises(GdmError, match=f"{kind} without image") as caught:
        cases_of(folder)
    check_error(caught, "expected: b_0000.nii.gz")


def test_no_cases_at_all_is_an_error(folder):
    for path in folder.glob("*Tr/*"):
        path.unlink()
    with pytest.raises(GdmError, match="there are no cases"):
        cases_of(folder)


def test_a_wrong_number_of_cases_is_an_error(folder):
    describe(folder, numTraining=4)
    with pytest.raises(GdmError, match="number of training cases") as caught:
        cases_of(folder)
    assert "3 cases" in str(caught.value)
    assert "numTraining 4" in str(caught.value)


@pytest.mark.parametrize("twin", ["B_0000.nii.gz", "b_0000.nrrd"])
def test_two_files_of_one_identifier_are_an_error(folder, twin):
    if (folder / "imagesTr" / twin).exists():
        pytest.skip("this file system does not tell upper from lower case")
    (folder / "imagesTr" / twin).touch()
    with pytest.raises(GdmError, match="one identifier") as caught:
        cases_of(folder)
    assert twin in str(caught.value)


def test_a_file_of_another_ending_is_an_error(folder):
    (folder / "imagesTr/d_0000.mha").touch()
    with pytest.raises(GdmError, match="different ending") as caught:
        cases_of(folder)
    assert "d_0000.mha" in str(caught.value)


def test_hidden_files_are_not_seen(folder):
    (folder / "imagesTr/.DS_Store").touch()
    assert len(cases_of(folder)) == 3


def test_header_and_data_of_mhd_are_one_volume(tmp_path):
    for name in ("a_0000.mhd", "a_0000.raw", "b_0000.mhd", "b_0000.zraw"):
        (tmp_path / name).touch()
    descriptor = DatasetDescriptor({"0": "CT"}, "CT", ".mhd", 2)
    assert sorted(list_images(tmp_path, descriptor)) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_endin": ".mha"}, r"dataset.json.file_endin: unknown key, did you mean file_ending\?"),
        ({"file_ending": ".dcm"}, r"file ending is unknown[\s\S]*found: file_ending '.dcm'"),
        ({"channel_names": {}}, "channel_names"),
        ({"channel_names": {"1": "T1"}}, "count its channels from 0"),
        ({"channel_names": {"0": 5}}, r"channel_names\['0'\]: wrong value\n  file: .*\n  found: 5\n  expected: a text"),
        ({"numTraining": "3"}, r"numTraining: wrong value[\s\S]*a whole number"),
        ({"mask": "yes"}, r"mask: wrong value[\s\S]*true or false"),
        ({"groups": {"a": 3}}, r"groups\['a'\]"),
        ({"overwrite_image_reader_writer": "Nibabel"}, "overwrite_image_reader_writer"),
    ],
)
def test_a_wrong_key_is_named_with_the_file(folder, changes, message):
    describe(folder, **changes)
    with pytest.raises(GdmError, match=message) as caught:
        load_descriptor(folder)
    assert str(folder / "dataset.json") in str(caught.value)


@pytest.mark.parametrize("key", ["channel_names", "target_name", "file_ending", "numTraining"])
def test_a_missing_key_is_named(folder, key):
    left = {name: value for name, value in DESCRIPTION.items() if name != key}
    (folder / "dataset.json").write_text(json.dumps(left))
    with pytest.raises(GdmError, match=f"{key}: missing key"):
        load_descriptor(folder)


@pytest.mark.parametrize("wanted", [12, "12", "012", "Heads", "Dataset012_Heads"])
def test_a_data_set_is_found_by_number_and_name(folder, wanted):
    assert find_dataset(folder.parent, wanted) == folder


def test_an_unknown_data_set_lists_the_known_ones(folder):
    with pytest.raises(GdmError, match="data set 13 is unknown") as caught:
        find_dataset(folder.parent, 13)
    assert "Dataset012_Heads" in str(caught.value)


def test_two_folders_of_one_number_are_an_error(folder):
    (folder.parent / "Dataset012_Other").mkdir()
    with pytest.raises(GdmError, match="several folders") as caught:
        find_dataset(folder.parent, 12)
    assert "Dataset012_Other" in str(caught.value)


def test_a_plain_group_is_the_patient_and_a_case_without_group_is_its_own():
    descriptor = DatasetDescriptor(
        {"0": "CT"}, "CT", ".mha", 3, groups={"a": "p1", "b": {"patient": "p2", "region": "AB"}}
    )
    assert groups_of(descriptor, "a") == {"patient": "p1"}
    assert groups_of(descriptor, "b") == {"patient": "p2", "region": "AB"}
    assert Case("c", (), groups=groups_of(descriptor, "c")).patient == "c"


@pytest.mark.parametrize("split", SPLITS)
def test_images_and_targets_of_a_split_name_each_other(tmp_path, split):
    folders = RawFolders(tmp_path / "Dataset012_Heads", split)
    assert split_of(folders.targets) == split_of(folders.images) == folders
    assert folders.image("a", ".mha", 1) == folders.images / "a_0001.mha"


def test_a_folder_of_another_name_belongs_to_no_split(tmp_path):
    assert split_of(tmp_path / "targets") is None
    assert split_of(tmp_path / "masksTr") is None
