"""Work that cannot fit is refused with its figures."""

import errno
from pathlib import Path

import pytest
from prediction_samples import SPACING, make_head, make_model

from gdmunet import host_memory
from gdmunet.cli import extract_fingerprint, plan_and_preprocess, predict
from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.host_memory import available_memory, check_memory, planned_memory
from gdmunet.imageio import write_volume
from gdmunet.serialization import save_json

GRID = Geometry((20, 22, 24), SPACING)
ERRORS = {
    "Python": MemoryError(),
    "oneDNN": RuntimeError("could not create a primitive"),
    "threads": RuntimeError("can't start new thread"),
    "the system": OSError(errno.ENOMEM, "Cannot allocate memory"),
}


def test_what_is_free_is_a_number_of_bytes():
    assert 0 < available_memory() < 2**60


def test_work_that_does_not_fit_says_its_voxels_and_bytes(monkeypatch):
    monkeypatch.setattr(host_memory, "available_memory", lambda: 10**9)
    check_memory(10**9, (10, 10, 10), "resampling", "choose a coarser spacing")
    with pytest.raises(GdmError, match="not enough memory for resampling") as caught:
        check_memory(193 * 2**30, (4096, 4096, 4096), "resampling", "choose a coarser spacing")
    assert caught.value.found == "207 GB for 4096 x 4096 x 4096 voxels"
    assert caught.value.expected == "at most 1 GB, which are free"


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(host_memory, "_CONTAINERS", ((limit, used),))
    limit.write_text("5000000\n")
    used.write_text("4000000\n")
    assert available_memory() == 10**6
    limit.write_text("max\n")
    assert available_memory() > 10**6


@pytest.mark.parametrize("kind", ERRORS)
def test_memory_that_runs_out_is_told_with_the_planned_figure(kind):
    with pytest.raises(GdmError) as caught, planned_memory(lambda: 3 * 10**9, "preparing the case", "a"):
        raise ERRORS[kind]
    error = caught.value
    assert (error.problem, error.case) == ("memory ran out while preparing the case", "a")
    assert "3 GB as planned" in error.expected
    assert type(ERRORS[kind]).__name__ in error.found


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="shapes"), planned_memory(1, "preparing"):
        raise RuntimeError("shapes differ")


def failing(kind: str):
    def fail(*_, **__):
        raise ERRORS[kind]

    return fail


def says_planned(text: str, work: str) -> None:
    assert text.startswith(f"error: memory ran out while {work}"), text
    assert "as planned" in text
    assert "case: a" in text
    assert "Traceback" not in text


PREDICTION = {
    "reading the volume": ("gdmunet.volume_formats.payload", "_fill"),
    "preparing the case": ("gdmunet.preprocessing.preprocessor", "crop_case"),
    "resampling the case": ("gdmunet.preprocessing.preprocessor", "resample"),
    "predicting the case": ("gdmunet.inference.sliding_window", "Blend"),
    "bringing the prediction onto the grid": ("gdmunet.inference.predictor", "restore_prediction"),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("work", PREDICTION)
def test_a_prediction_without_memory_is_one_message(tmp_path, capsys, monkeypatch, work, kind):
    if work.startswith("reading") and kind == "the system":
        pytest.skip("a file that the system does not read is damaged, as far as anybody can tell")
    write_volume(tmp_path / "in/a.nii.gz", make_head(), GRID)
    model = make_model(tmp_path / "results", folds=("0",))
    module, name = PREDICTION[work]
    monkeypatch.setattr(f"{module}.{name}", failing(kind))
    line = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0", "-device", "cpu"]
    assert predict.main([*line, "--no_pbar", "-npp", "0", "-nps", "0"]) == 1
    says_planned(capsys.readouterr().err, work)


def test_a_pass_that_no_memory_holds_says_its_planned_figure(tmp_path, capsys, monkeypatch):
    write_volume(tmp_path / "in/a.nii.gz", make_head(), GRID)
    model = make_model(tmp_path / "results", folds=("0",))
    monkeypatch.setattr("gdmunet.inference.window_runner.WindowRunner._predict", failing("oneDNN"))
    line = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0", "-device", "cpu"]
    assert predict.main([*line, "--no_pbar"]) == 1
    error = capsys.readouterr().err
    assert "does not hold one window of 8 x 8 x 8" in error
    assert "as predicted" in error


def raw_folder(tmp_path: Path) -> list[str]:
    raw = tmp_path / "raw/Dataset031_Memory"
    write_volume(raw / "imagesTr/a_0000.nii.gz", make_head(), GRID)
    write_volume(raw / "targetsTr/a.nii.gz", make_head() * 0.9 - 100, GRID)
    save_json(DatasetDescriptor({"0": "CT"}, "CT", ".nii.gz", 1), raw / DESCRIPTOR_FILE)
    words = ["-d", "31", "-np", "1", "--no_pbar", "--raw", str(tmp_path / "raw")]
    return [*words, "--preprocessed", str(tmp_path / "preprocessed")]


@pytest.mark.parametrize("kind", ERRORS)
def test_a_fingerprint_without_memory_is_one_message(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setattr("gdmunet.preprocessing.case_fingerprint.crop_case", failing(kind))
    assert extract_fingerprint.main(raw_folder(tmp_path)) == 1
    says_planned(capsys.readouterr().err, "measuring the case")


@pytest.mark.parametrize("kind", ["Python", "oneDNN"])
def test_planning_and_preprocessing_without_memory_is_one_message(tmp_path, capsys, monkeypatch, kind):
    words = [*raw_folder(tmp_path), "-pl", "tiny", "-tr", "FidelityTrainer", "-c", "3d_fullres"]
    monkeypatch.setattr("gdmunet.preprocessing.preprocessor.resample", failing(kind))
    assert plan_and_preprocess.main(words) == 1
    says_planned(capsys.readouterr().err, "resampling the case")
