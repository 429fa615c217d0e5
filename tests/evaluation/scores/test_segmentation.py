"""Label maps by a program: made once, made anew when a volume changes, and its failures are repeated."""

import os
import stat
import sys

import numpy as np
import pytest

import gdmunet
from gdmunet.cli.evaluate import main
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.segmentation import Segmenter, segment_folder
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_labels, write_volume
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.evaluation import EvaluateRequest

GRID = Geometry((8, 16, 16), (2.0, 1.0, 1.0))
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import SimpleITK as sitk
source, result, log = sys.argv[1:4]
image = sitk.ReadImage(source)
array = sitk.GetArrayFromImage(image)
with open(log, "a") as stream:
    stream.write(Path(source).name + chr(10))
if array.max() > 5000:
    print("first line")
    sys.exit("no organ found in this volume")
labels = sitk.GetImageFromArray(np.where(array > 500, 300, np.where(array > 0, 1, 0)).astype(np.uint16))
labels.CopyInformation(image)
if len(sys.argv) > 4:
    labels = labels[1:]
sitk.WriteImage(labels, result)
"""


@pytest.fixture
def program(tmp_path):
    """A command that takes bone and tissue by thresholds, and the file that counts its runs."""
    (tmp_path / "program.py").write_text(PROGRAM)
    log = tmp_path / "runs.txt"
    log.write_text("")
    command = f'"{sys.executable}" "{tmp_path / "program.py"}" {{in}} {{out}} "{log}"'
    return command, lambda: len(log.read_text().splitlines())


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        ct = rng.normal(-1000, 20, GRID.shape).astype(np.int16)
        ct[2:6, 3:10, 3:10], ct[3:5, 5:8, 5:8] = 40, 900
        write_volume(tmp_path / "ct" / f"{name}.mha", ct, GRID)
        write_volume(tmp_path / "pred" / f"{name}.nii.gz", np.roll(ct, 1, 1), GRID)
    return tmp_path


def evaluate(root, command, **more):
    return gdmunet.evaluate(
        reference=root / "ct", prediction=root / "pred", segment=command, show_progress=False, **more
    )


def test_made_label_maps_score_as_given_ones(volumes, program):
    command, runs = program
    made = evaluate(volumes, command)
    assert runs() == 4
    folder = volumes / "pred" / "segmentation"
    labels = read_labels(folder / "reference" / "a.nii.gz").array
    assert set(np.unique(labels)) == {0, 1, 300}
    given = gdmunet.evaluate(
        reference=volumes / "ct", prediction=volumes / "pred", labels_ref=folder / "reference",
        labels_pred=folder / "prediction", show_progress=False, output=volumes / "given.json",
    )  # fmt: skip
    assert made.mean["dice"] == given.mean["dice"] < 1
    assert made.mean["hd95"] == given.mean["hd95"] > 0


def test_only_what_changed_is_segmented_again(volumes, program):
    command, runs = program
    evaluate(volumes, command)
    evaluate(volumes, command)
    assert runs() == 4
    write_volume(volumes / "pred" / "b.nii.gz", np.zeros(GRID.shape, np.int16), GRID)
    evaluate(volumes, command)
    assert runs() == 5
    (volumes / "pred" / "segmentation" / "reference" / "a.nii.gz").unlink()
    evaluate(volumes, command)
    assert runs() == 6
    evaluate(volumes, command + " ")
    assert runs() == 6
    (volumes / "pred" / "segmentation" / "prediction" / "segmentation.json").write_text("{")
    evaluate(volumes, command)
    assert runs() == 8
    evaluate(volumes, command.replace("program.py", "./program.py"))
    assert runs() == 12


def test_given_maps_of_the_references_are_taken(volumes, program):
    command, runs = program
    evaluate(volumes, command)
    evaluate(
        volumes, command, labels_ref=volumes / "pred" / "segmentation" / "reference", output=volumes / "o" / "s.json"
    )
    assert runs() == 6
    assert not (volumes / "o" / "segmentation" / "reference").exists()


def test_a_failure_repeats_the_last_lines_and_keeps_what_is_done(volumes, program, capsys):
    command, runs = program
    metal = np.zeros(GRID.shape, np.int16)
    metal[3] = 6000
    write_volume(volumes / "pred" / "b.nii.gz", metal, GRID)
    words = ["-ref", str(volumes / "ct"), "-pred", str(volumes / "pred"), "--segment", command, "--no_pbar"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "ended with status 1" in said
    assert "no organ found in this volume" in said
    assert "case: b" in said
    assert (volumes / "pred" / "segmentation" / "prediction" / "a.nii.gz").is_file()
    write_volume(volumes / "pred" / "b.nii.gz", np.zeros(GRID.shape, np.int16), GRID)
    assert main(words) == 0
    assert runs() == 2 + 1 + 2


def test_a_map_on_another_grid_is_refused(volumes, program):
    with pytest.raises(GdmError, match=r"grid[\s\S]*case: a"):
        evaluate(volumes, program[0] + " cropped")


def test_a_program_that_is_missing_or_writes_nothing_says_so(volumes, tmp_path):
    with pytest.raises(GdmError, match=r"cannot be started[\s\S]*segmentation\]"):
        segment_folder(Segmenter.of("no_such_program_here {in} {out}"), {"a": volumes / "ct" / "a.mha"}, tmp_path / "x")
    idle = f'"{sys.executable}" -c pass {{in}} {{out}}'
    with pytest.raises(GdmError, match=r"wrote no label map"):
        segment_folder(Segmenter.of(idle), {"a": volumes / "ct" / "a.mha"}, tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == []


@pytest.mark.skipif(os.name == "nt", reason="a script that the system starts by its first line")
@pytest.mark.parametrize(("name", "fast"), [("totalsegmentator", False), ("totalsegmentator:fast", True)])
def test_totalsegmentator_is_called_for_one_file_of_all_labels(volumes, tmp_path, monkeypatch, name, fast):
    stand_in = tmp_path / "bin" / "TotalSegmentator"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!{sys.executable}\nimport sys, shutil\n"
        f"assert sys.argv[1] == '-i' and sys.argv[3] == '-o' and '--ml' in sys.argv, sys.argv\n"
        f"assert ('--fast' in sys.argv) == {fast}\n"
        "import SimpleITK as sitk\nimage = sitk.ReadImage(sys.argv[2])\n"
        "sitk.WriteImage(sitk.Cast(image > 500, sitk.sitkUInt8), sys.argv[4])\n"
    )
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
    assert evaluate(volumes, name).mean["dice"] < 1


@pytest.mark.parametrize("text", ["segment {in}", "segment {out}", "", "totalsegmentator:slow", 'segment "{in} {out}'])
def test_a_command_without_places_for_its_files_is_refused(text):
    with pytest.raises(GdmError, match="command"):
        Segmenter.of(text)


def test_maps_that_are_given_and_made_contradict_each_other(tmp_path):
    with pytest.raises(RequestError, match="labels_pred"):
        EvaluateRequest(reference=tmp_path, prediction=tmp_path, segment="s {in} {out}", labels_pred=tmp_path)
