"""SynthRAD archives of the exact layout become data sets."""

import shutil

import pytest
from synthrad_trees import training_2023, training_2025, validation_2025, write_case

from gdmunet.cli import convert_synthrad2025 as command
from gdmunet.conversion.synthrad import SynthradOptions, convert_synthrad
from gdmunet.conversion.synthrad_files import challenge_groups, find_files, parse_name
from gdmunet.dataset import list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case, read_volume


@pytest.fixture
def source(tmp_path):
    return tmp_path / "download"


def convert(tmp_path, *folders, **options):
    return convert_synthrad(folders, tmp_path / "raw", 503, options=SynthradOptions(show_progress=False, **options))


def names_of(folder, split="Tr"):
    return [case.identifier for case in list_cases(folder, load_descriptor(folder), split)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1ABA005", ("2025", 1, "AB", "A")),
        ("2HND123", ("2025", 2, "HN", "D")),
        ("1THB226", ("2025", 1, "TH", "B")),
        ("1BA001", ("2023", 1, "brain", "A")),
        ("1BB001", ("2023", 1, "brain", "B")),
        ("2PC018", ("2023", 2, "pelvis", "C")),
    ],
)
def test_identifiers_say_year_task_region_and_centre(text, expected):
    name = parse_name(text)
    assert (name.year, name.task, name.region, name.centre) == expected


@pytest.mark.parametrize("text", ["3ABA005", "1AB005", "1ABF005", "1ABA05", "overviews", "1ABA005 (1)", "", "AB"])
def test_other_names_are_none(text):
    assert parse_name(text) is None


def test_2025_keeps_files_and_gives_region_and_centre_as_groups(tmp_path, source):
    archive = training_2025(source)
    result = convert(tmp_path, source)
    descriptor = load_descriptor(result.folder)
    assert result.folder.name == "Dataset503_SynthRAD2025Task1"
    assert (descriptor.channels, descriptor.target_name, descriptor.file_ending) == (("MR",), "CT", ".mha")
    assert descriptor.mask
    assert descriptor.numTraining == 4
    assert descriptor.groups["1ABB010"] == {"region": "AB", "centre": "B"}
    assert names_of(result.folder) == ["1ABA005", "1ABB010", "1HNA001", "1THB011"]
    for role, path in (("mr", "imagesTr/1HNA001_0000"), ("ct", "targetsTr/1HNA001"), ("mask", "masksTr/1HNA001")):
        original = archive / "HN" / "1HNA001" / f"{role}.mha"
        assert (result.folder / f"{path}.mha").read_bytes() == original.read_bytes()
    volumes = read_case(list_cases(result.folder, descriptor)[0])
    assert volumes.mask.any()
    assert not volumes.mask.all()
    assert result.ignored == result.duplicates == ()
    assert not result.left_out


def test_task_2_has_the_cone_beam_ct_as_condition(tmp_path, source):
    training_2025(source, task=2)
    descriptor = load_descriptor(convert(tmp_path, source).folder)
    assert descriptor.channels == ("CBCT",)
    assert descriptor.name == "SynthRAD2025Task2"
    assert set(descriptor.groups) == {"2ABA005", "2ABB010", "2HNA001", "2THB011"}


@pytest.mark.parametrize(("task", "channel"), [(1, "MR"), (2, "CBCT")])
def test_2023_is_read_in_its_own_layout(tmp_path, source, task, channel):
    training_2023(source, task)
    result = convert(tmp_path, source)
    descriptor = load_descriptor(result.folder)
    assert result.year == "2023"
    assert descriptor.file_ending == ".nii.gz"
    assert descriptor.channels == (channel,)
    assert descriptor.groups[f"{task}PC018"] == {"region": "pelvis", "centre": "C"}
    assert names_of(result.folder) == [f"{task}BA001", f"{task}BC004", f"{task}PA001", f"{task}PC018"]


def test_the_folder_of_one_region_can_be_given(tmp_path, source):
    archive = training_2025(source)
    assert names_of(convert(tmp_path, archive / "AB").folder) == ["1ABA005", "1ABB010"]


def test_only_the_named_regions_are_taken(tmp_path, source):
    training_2025(source)
    assert names_of(convert(tmp_path, source, regions=["HN", "TH"]).folder) == ["1HNA001", "1THB011"]
    with pytest.raises(GdmError, match=r"no case of a region(.|\n)*AB, HN, TH(.|\n)*brain(.|\n)*remedy"):
        convert(tmp_path, source, regions=["brain"])


def test_validation_without_ct_is_held_out(tmp_path, source):
    training_2025(source)
    validation_2025(source)
    result = convert(tmp_path, source)
    assert result.held_out == ("1ABA002", "1HNC007")
    assert names_of(result.folder, "Ts") == ["1ABA002", "1HNC007"]
    assert load_descriptor(result.folder).numTraining == 4
    assert load_descriptor(result.folder).groups["1HNC007"] == {"region": "HN", "centre": "C"}
    assert not (result.folder / "targetsTs").exists()
    assert (result.folder / "masksTs" / "1ABA002.mha").is_file()


def test_an_archive_without_any_ct_is_held_out_whatever_its_name(tmp_path, source):
    training_2025(source)
    validation_2025(source).parent.rename(source / "second")
    assert convert(tmp_path, source).held_out == ("1ABA002", "1HNC007")


def test_validation_alone_is_a_data_set_to_predict(tmp_path, source):
    validation_2025(source)
    result = convert(tmp_path, source)
    assert result.training == ()
    assert load_descriptor(result.folder).numTraining == 0
    assert names_of(result.folder, "Ts") == ["1ABA002", "1HNC007"]


def test_the_deformed_ct_is_the_target_where_it_is_given(tmp_path, source):
    """The archive of the validation's outputs holds CTs alone; the inputs lie in another."""
    training_2025(source)
    validation_2025(source)
    for name in ("1ABA002", "1HNC007"):
        write_case(source / "synthRAD2025_Task1_Val_Output" / "Task1" / name[1:3] / name, ("ct", "ct_def"))
    result = convert(tmp_path, source)
    assert result.deformed == result.held_out == ("1ABA002", "1HNC007")
    output = source / "synthRAD2025_Task1_Val_Output" / "Task1" / "AB" / "1ABA002"
    assert (result.folder / "targetsTs" / "1ABA002.mha").read_bytes() == (output / "ct_def.mha").read_bytes()
    assert load_descriptor(result.folder).info["deformed_ct"] == ["1ABA002", "1HNC007"]
    shutil.rmtree(result.folder)
    rigid = convert(tmp_path, source, target="rigid")
    assert (rigid.folder / "targetsTs" / "1ABA002.mha").read_bytes() == (output / "ct.mha").read_bytes()
    assert rigid.deformed == ()


def test_missing_files_are_all_listed_and_refused(tmp_path, source):
    archive = training_2025(source)
    (archive / "AB" / "1ABA005" / "ct.mha").unlink()
    (archive / "HN" / "1HNA001" / "mask.mha").unlink()
    (archive / "HN" / "1HNA001" / "mr.mha").unlink()
    with pytest.raises(GdmError) as caught:
        convert(tmp_path, source)
    for part in ("2 of 4 cases lack files", "1ABA005: no ct", "1HNA001: no mr, no mask", "--skip_incomplete"):
        assert part in str(caught.value)
    assert not (tmp_path / "raw").exists()
    result = convert(tmp_path, source, skip_incomplete=True)
    assert result.left_out == {"1ABA005": ("ct",), "1HNA001": ("mr", "mask")}
    assert names_of(result.folder) == ["1ABB010", "1THB011"]
    assert load_descriptor(result.folder).info["left_out"]["1ABA005"] == ["ct"]
    assert "1HNA001: no mr, no mask" in result.report()


def test_held_out_cases_have_a_ct_all_or_none(tmp_path, source):
    training_2025(source)
    archive = validation_2025(source)
    write_case(archive / "AB" / "1ABA002", ("ct",))
    with pytest.raises(GdmError, match=r"1 of 6 cases(.|\n)*1HNC007: no ct"):
        convert(tmp_path, source)


def test_copies_overviews_and_foreign_volumes_are_ignored_and_counted(tmp_path, source):
    archive = training_2025(source)
    shutil.copytree(archive / "AB" / "1ABA005", source / "again" / "1ABA005")
    shutil.copytree(archive / "AB" / "1ABA005", archive / "AB" / "1ABA005 (1)")
    write_case(archive / "AB" / "overviews", ("ct",))
    (archive / "AB" / "1ABA005" / "._mr.mha").write_bytes(b"left by another system")
    (source / "loop").symlink_to(source, target_is_directory=True)
    result = convert(tmp_path, source)
    assert names_of(result.folder) == ["1ABA005", "1ABB010", "1HNA001", "1THB011"]
    assert len(result.duplicates) == 3
    assert len(result.ignored) == 4
    assert "3 copies of files" in result.report()
    assert "4 volumes that belong to no case" in result.report()


def test_two_releases_of_one_case_that_differ_are_refused(tmp_path, source):
    archive = training_2025(source)
    other = source / "v1" / "Task1" / "AB" / "1ABA005"
    other.mkdir(parents=True)
    shutil.copy(archive / "AB" / "1ABB010" / "ct.mha", other / "ct.mha")
    with pytest.raises(GdmError, match=r"files of one name that differ(.|\n)*case: 1ABA005(.|\n)*ct.mha"):
        convert(tmp_path, source)


def test_both_tasks_and_both_years_must_be_chosen_from(tmp_path, source):
    training_2025(source)
    training_2025(source, task=2)
    training_2023(source / "old")
    with pytest.raises(GdmError, match=r"more than one year(.|\n)*--year 2023 or --year 2025"):
        convert(tmp_path, source)
    with pytest.raises(GdmError, match=r"more than one task(.|\n)*--task 1 or --task 2"):
        convert(tmp_path, source, year="2025")
    assert names_of(convert(tmp_path, source, year="2025", task=2).folder)[0] == "2ABA005"
    old = convert_synthrad([source], tmp_path / "raw", 504, options=SynthradOptions(year="2023", show_progress=False))
    assert names_of(old.folder)[0] == "1BA001"
    with pytest.raises(GdmError, match="no case of a region, year and task"):
        convert(tmp_path, source, year="2023", task=2)


def test_nothing_to_convert_is_an_error(tmp_path, source):
    source.mkdir()
    with pytest.raises(GdmError, match=r"no SynthRAD cases(.|\n)*1ABA005(.|\n)*remedy"):
        convert(tmp_path, source)
    with pytest.raises(GdmError, match="folder is missing"):
        find_files([tmp_path / "nowhere"])


def test_groups_of_identifiers_leave_others_out():
    assert challenge_groups(["1THB011", "head_003"]) == {"1THB011": {"region": "TH", "centre": "B"}}


def test_the_command_links_and_says_what_comes_next(tmp_path, source, capsys):
    archive = training_2025(source)
    validation_2025(source)
    words = ["-i", str(archive.parent), str(source / "synthRAD2025_Task1_Val_Input"), "-d", "503", "--link"]
    assert command.main([*words, "--raw", str(tmp_path / "raw"), "--no_pbar"]) == 0
    printed = capsys.readouterr().out
    assert "4 training cases, 2 validation and test cases" in printed
    assert "gdm_plan_and_preprocess -d 503" in printed
    linked = tmp_path / "raw" / "Dataset503_SynthRAD2025Task1" / "targetsTr" / "1ABA005.mha"
    assert linked.is_symlink()
    assert linked.resolve() == (archive / "AB" / "1ABA005" / "ct.mha").resolve()
    assert read_volume(linked).array.any()
    assert command.main([*words, "--raw", str(tmp_path / "raw"), "--no_pbar"]) == 1
    assert "data set 503 is there already" in capsys.readouterr().err
