"""Data sets from plain folders."""

import json

import numpy as np
import pytest

from gdmunet.conversion.case_files import SourceFolders
from gdmunet.conversion.folders import NewDatasetOptions, new_dataset
from gdmunet.conversion.held_out import SplitOptions, read_groups
from gdmunet.dataset import list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_case, write_volume

GEOMETRY = Geometry((4, 5, 6), (3.0, 2.0, 1.0), (1.0, 2.0, 3.0))


def write(path, value=0):
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) + value
    write_volume(path, array, GEOMETRY)
    return path


@pytest.fixture
def source(tmp_path):
    for index, name in enumerate(("a", "b", "c")):
        write(tmp_path / "mr" / f"{name}.nii.gz", index)
        write(tmp_path / "ct" / f"{name}.nii.gz", 10 + index)
        write(tmp_path / "body" / f"{name}.nii.gz", 20)
    return SourceFolders((tmp_path / "mr",), tmp_path / "ct", tmp_path / "body")


def build(tmp_path, source, **changes):
    return new_dataset(tmp_path / "raw", 7, "New", source, asked(**changes))


def asked(channels=("MR",), target="CT", transfer="copy", file_ending=None, **split):
    return NewDatasetOptions(channels, target, SplitOptions(**split), transfer, file_ending)


def test_the_new_folder_is_a_data_set_that_reads_back(tmp_path, source):
    folder = build(tmp_path, source, test=["c"])
    descriptor = load_descriptor(folder)
    assert folder.name == "Dataset007_New"
    assert (descriptor.channels, descriptor.target_name, descriptor.numTraining) == (("MR",), "CT", 2)
    assert [case.identifier for case in list_cases(folder, descriptor)] == ["a", "b"]
    held_out = read_case(list_cases(folder, descriptor, "Ts")[0])
    assert held_out.geometry.difference(GEOMETRY) is None
    assert held_out.conditions.min() == 2
    assert held_out.target.min() == 12
    assert held_out.mask.all()


def test_suffixes_let_all_files_lie_in_one_folder(tmp_path):
    for name in ("head_001", "head_002"):
        write(tmp_path / "all" / f"{name}_mr.nii.gz")
        write(tmp_path / "all" / f"{name}_ct.nii.gz")
    source = SourceFolders((tmp_path / "all",), tmp_path / "all", None, ("_mr",), "_ct")
    folder = build(tmp_path, source)
    assert [case.identifier for case in list_cases(folder, load_descriptor(folder))] == ["head_001", "head_002"]


def test_several_channels_come_from_several_folders_or_from_numbered_files(tmp_path, source):
    for name in ("a", "b", "c"):
        write(tmp_path / "t2" / f"{name}.nii.gz", 5)
        write(tmp_path / "numbered" / f"{name}_0000.nii.gz")
        write(tmp_path / "numbered" / f"{name}_0001.nii.gz", 5)
    two_folders = SourceFolders((source.images[0], tmp_path / "t2"), source.targets)
    numbered = SourceFolders((tmp_path / "numbered",), source.targets)
    for number, sources in enumerate((two_folders, numbered), start=1):
        folder = new_dataset(tmp_path / "raw", number, "N", sources, asked(("T1", "T2")))
        cases = list_cases(folder, load_descriptor(folder))
        assert len(cases) == 3
        assert read_case(cases[0]).conditions[1].min() == 5


def test_links_point_to_the_originals(tmp_path, source):
    linked = build(tmp_path, source, transfer="symlink") / "targetsTr" / "a.nii.gz"
    assert linked.is_symlink()
    assert linked.resolve() == (tmp_path / "ct" / "a.nii.gz").resolve()
    hard = new_dataset(tmp_path / "raw", 8, "Hard", source, asked(transfer="hardlink"))
    assert (hard / "targetsTr" / "a.nii.gz").stat().st_ino == (tmp_path / "ct" / "a.nii.gz").stat().st_ino


def test_mixed_endings_are_refused_or_converted_on_request(tmp_path, source):
    (tmp_path / "ct" / "b.nii.gz").unlink()
    write(tmp_path / "ct" / "b.mha", 11)
    with pytest.raises(GdmError, match=r"different endings(.|\n)*case: b(.|\n)*b\.mha(.|\n)*--convert"):
        build(tmp_path, source)
    folder = build(tmp_path, source, file_ending=".mhd")
    case = read_case(list_cases(folder, load_descriptor(folder))[1])
    assert case.identifier == "b"
    assert case.target.min() == 11
    assert case.geometry.difference(GEOMETRY) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "ct" / "b.nii.gz").unlink(), r"lacks a file(.|\n)*case: b(.|\n)*mr/b\.nii\.gz(.|\n)*remedy"),
        (lambda p: (p / "mr" / "b.nii.gz").unlink(), r"lacks a file(.|\n)*case: b(.|\n)*ct/b\.nii\.gz(.|\n)*remedy"),
        (lambda p: write(p / "mr" / "A.nii.gz"), r"one identifier(.|\n)*A\.nii\.gz and a\.nii\.gz(.|\n)*rename"),
        (lambda p: write(p / "mr" / "a.mha"), r"one identifier(.|\n)*a\.mha and a\.nii\.gz(.|\n)*rename"),
    ],
)
def test_files_that_do_not_match_are_named_and_nothing_is_left(tmp_path, source, change, message):
    change(tmp_path)
    with pytest.raises(GdmError, match=message):
        build(tmp_path, source)
    assert not list((tmp_path / "raw").glob("*")) if (tmp_path / "raw").exists() else True


def test_a_taken_number_is_never_overwritten(tmp_path, source):
    first = build(tmp_path, source)
    before = (first / "dataset.json").read_bytes()
    with pytest.raises(GdmError, match="there already"):
        build(tmp_path, source)
    assert (first / "dataset.json").read_bytes() == before


def test_a_missing_folder_and_an_empty_one_are_named(tmp_path, source):
    with pytest.raises(GdmError, match="the folder is missing"):
        build(tmp_path, SourceFolders((tmp_path / "nowhere",), source.targets))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GdmError, match="there are no volumes"):
        build(tmp_path, SourceFolders((tmp_path / "empty",), source.targets))


def test_groups_reach_the_data_set_and_patients_stay_whole(tmp_path, source):
    table = tmp_path / "groups.csv"
    table.write_text("case,patient,region\na,p1,head\nb,p1,neck\nc,p2,head\n")
    groups = read_groups(table)
    folder = build(tmp_path, source, groups=groups, test=["c"])
    assert json.loads((folder / "dataset.json").read_text())["groups"]["b"] == {"patient": "p1", "region": "neck"}
    with pytest.raises(GdmError, match=r"both trained on and tested\n  case: b"):
        new_dataset(tmp_path / "raw", 8, "X", source, asked(groups=groups, test=("a",)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,patient\na,p1\n", "header"),
        ("case,patient\na,\n", "line 2"),
        ("case,patient\na,p1\na,p2\n", "line 3"),
        ("case,patient\na,p1,x\n", "line 2"),
    ],
)
def test_a_wrong_table_of_groups_says_the_line(tmp_path, text, message):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(GdmError, match=message):
        read_groups(tmp_path / "groups.csv")


def test_groups_must_name_every_case(tmp_path, source):
    with pytest.raises(GdmError, match=r"same cases\n  case: c"):
        build(tmp_path, source, groups={"a": {"patient": "p"}, "b": {"patient": "q"}})


def test_a_share_holds_out_whole_patients_and_repeats(tmp_path, source):
    names = []
    for number in (1, 2):
        folder = new_dataset(tmp_path / "raw", number, "S", source, asked(test=("0.34",)))
        names.append([case.identifier for case in list_cases(folder, load_descriptor(folder), "Ts")])
    assert len(names[0]) == 1
    assert names[0] == names[1]


def test_an_unknown_test_case_lists_the_known_ones(tmp_path, source):
    with pytest.raises(GdmError, match=r"case: d\n  found: a, b, c"):
        build(tmp_path, source, test=["d"])
