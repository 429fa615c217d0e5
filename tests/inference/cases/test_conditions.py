"""Which files are the conditions of which case: plain names, channel numbers, folders of channels, single files."""

import pytest

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.inference.cases.conditions import find_conditions


def descriptor(*channels: str) -> DatasetDescriptor:
    return DatasetDescriptor({str(i): word for i, word in enumerate(channels)}, "CT", ".nii.gz", 4, "Heads")


MR, T1_T2 = descriptor("MR"), descriptor("T1", "T2")


@pytest.fixture
def make(tmp_path):
    """Makes empty files of these names, and gives their folder: only names matter here."""

    def files(*names, folder="in"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in names:
            (tmp_path / folder / name).touch()
        return tmp_path / folder

    return files


def found(inputs, model):
    inputs = inputs if isinstance(inputs, list) else [inputs]
    return {name: [path.name for path in paths] for name, paths in find_conditions(inputs, model).items()}


def test_plain_names_are_cases_of_one_channel(make):
    folder = make("p02.nii.gz", "p01.nii.gz", "p03.mha", "scan_2023.nii.gz")
    assert found(folder, MR) == {
        "p01": ["p01.nii.gz"],
        "p02": ["p02.nii.gz"],
        "p03": ["p03.mha"],
        "scan_2023": ["scan_2023.nii.gz"],
    }


def test_names_with_channel_numbers_stay_as_they_were(make):
    folder = make("p01_0000.nii.gz", "p02_0000.nii.gz")
    assert found(folder, MR) == {"p01": ["p01_0000.nii.gz"], "p02": ["p02_0000.nii.gz"]}


def test_a_mixture_of_both_is_refused(make):
    folder = make("p01_0000.nii.gz", "p02.nii.gz")
    with pytest.raises(GdmError, match="some files carry a channel number and some do not") as caught:
        found(folder, MR)
    assert caught.value.case == "p02"
    assert "CASE.nii.gz or CASE_0000.nii.gz (MR)" in str(caught.value)


def test_a_surplus_channel_is_refused_with_a_remedy_for_a_model(make):
    folder = make("p01_0000.nii.gz", "p01_0001.nii.gz")
    with pytest.raises(GdmError, match="more channels") as caught:
        found(folder, MR)
    assert "dataset.json" not in caught.value.remedy


def test_several_channels_say_what_they_need(make):
    with pytest.raises(GdmError, match="four-digit channel number") as caught:
        found(make("p01.nii.gz"), T1_T2)
    assert caught.value.expected == "CASE_0000.nii.gz (T1), CASE_0001.nii.gz (T2)"
    folder = make("p01_0000.nii.gz", "p01_0001.nii.gz", folder="numbered")
    assert found(folder, T1_T2) == {"p01": ["p01_0000.nii.gz", "p01_0001.nii.gz"]}


def test_each_channel_may_have_a_folder(make):
    t1, t2 = make("p01.nii.gz", "p02.nii.gz", folder="t1"), make("p01.nii.gz", "p02.nii.gz", folder="t2")
    assert [path.parent.name for path in find_conditions([t1, t2], T1_T2)["p02"]] == ["t1", "t2"]
    (t2 / "p02.nii.gz").unlink()
    with pytest.raises(GdmError, match="missing channel") as caught:
        found([t1, t2], T1_T2)
    assert (caught.value.case, caught.value.file) == ("p02", t2)
    with pytest.raises(GdmError, match="number of folders"):
        found([t1, t2], MR)


def test_files_are_cases_or_the_channels_of_one(make):
    folder = make("a.nii.gz", "b.nii.gz")
    files = [folder / "a.nii.gz", folder / "b.nii.gz"]
    assert found(files, MR) == {"a": ["a.nii.gz"], "b": ["b.nii.gz"]}
    assert found(files, T1_T2) == {"a": ["a.nii.gz", "b.nii.gz"]}
    assert found(files[1], MR) == {"b": ["b.nii.gz"]}


def test_what_is_not_a_volume_is_refused(make):
    folder = make("a.nii.gz", "IM0001.dcm")
    for inputs, problem in (
        ([folder / "IM0001.dcm"], "not a volume that is read here"),
        ([folder / "c.nii.gz"], "input is not there"),
        ([folder, folder / "a.nii.gz"], "folders and files are named together"),
        ([make(folder="empty")], "there are no cases"),
    ):
        with pytest.raises(GdmError, match=problem):
            found(inputs, MR)
