"""``[CASE/]FOLDER=SERIES``: which series is meant where a folder holds several."""

import pytest
from dicom_samples import make_series, make_stored

from gdmunet.cli.convert_dicom import main
from gdmunet.conversion.series_choice import SeriesChoice, check_choices, chosen_series
from gdmunet.errors import GdmError
from gdmunet.imageio import read_volume

FOLDERS = ("mr", "mr/t2", "ct")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ct=3", (None, "ct", "3")),
        ("p1/ct=1.2.840.5", ("p1", "ct", "1.2.840.5")),
        ("p1/mr/t2=4", ("p1", "mr/t2", "4")),
        ("mr/t2=4", (None, "mr/t2", "4")),
        ("a=b/mr=4", ("a=b", "mr", "4")),
    ],
)
def test_a_choice_says_its_folder_and_perhaps_its_case(text, found):
    choice = SeriesChoice.of(text, FOLDERS)
    assert (choice.case, choice.folder, choice.series) == found
    assert str(choice) == text


@pytest.mark.parametrize("text", ["3", "ct=", "=3", "pet=3", "p1/pet=3", "p1ct=3", "/ct=3", ""])
def test_other_texts_are_refused(text):
    with pytest.raises(GdmError, match="does not say its folder") as caught:
        SeriesChoice.of(text, FOLDERS)
    assert SeriesChoice.of(caught.value.remedy.rpartition(" ")[2], FOLDERS).folder == "ct"


def test_the_choice_of_a_case_counts_before_that_of_all():
    choices = [SeriesChoice(None, "ct", "3"), SeriesChoice("p1", "ct", "9")]
    found = [chosen_series(choices, case, folder) for case, folder in (("p1", "ct"), ("p2", "ct"), ("p1", "mr"))]
    assert found == ["9", "3", None]


@pytest.mark.parametrize(
    ("texts", "problem"), [(("p9/ct=3",), "a case that is not there"), (("ct=3", "ct=4"), "two series are chosen")]
)
def test_choices_that_no_case_has_or_that_contradict_each_other_are_refused(texts, problem):
    with pytest.raises(GdmError, match=problem):
        check_choices([SeriesChoice.of(text, FOLDERS) for text in texts], ["p1"])


def make_set(folder):
    """Two cases: in the target's folder lie series 2, of three slices, and 3, of four; the condition is series 1."""
    for case in ("p1", "p2"):
        make_series(folder / case / "mr", make_stored()[:4], number=1)
        make_series(folder / case / "ct", make_stored()[:3], number=2)
        make_series(folder / case / "ct" / "bone", make_stored()[:4], number=3)


def test_one_number_chooses_for_all_cases_and_another_for_one(tmp_path, capsys):
    make_set(tmp_path / "set")
    words = ["-i", str(tmp_path / "set"), "-n", "Two", "--channel", "CT", "--raw", str(tmp_path / "raw"), "--no_pbar"]
    words += ["--condition_folder", "mr", "--target_folder", "ct"]
    assert main([*words, "-d", "5"]) == 1
    assert "--series p1/ct=3" in capsys.readouterr().err
    assert main([*words, "-d", "5", "--series", "ct=3"]) == 0
    targets = tmp_path / "raw" / "Dataset005_Two" / "targetsTr"
    assert [read_volume(targets / f"{case}.nii.gz").array.shape[0] for case in ("p1", "p2")] == [4, 4]
    assert "p1/ct: left out series" in capsys.readouterr().out
    assert main([*words, "-d", "6", "--series", "ct=3", "p2/ct=7"]) == 1
    text = capsys.readouterr().err
    assert "there is no DICOM series 7" in text
    assert "case: p2" in text
    assert "--series ct=3 p2/ct=3" in text
