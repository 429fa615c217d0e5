"""Results from before hashes travelled with them stay usable; what cannot be compared is said."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gdmunet.checkpoint import load_metadata
from gdmunet.cli import find_best_configuration, plan_and_preprocess, predict, train
from gdmunet.imageio import read_volume
from gdmunet.provenance import UNKNOWN

DATASET, PLANS, CONFIGURATION = "Dataset502_DemoPhantoms", "gdmPlans_tiny", "3d_fullres"
QUIET = ["-device", "cpu", "--no_pbar"]
RUN = ["502", CONFIGURATION, "0", "-p", PLANS, "-tr", "FidelityTrainer", "--epochs", "2", "-np", "0", *QUIET]
RUN += ["--set", "iterations_per_epoch=3", "validation_patches=2"]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "without_hashes" / "files.zip") as files:
        files.extractall(tmp_path)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"GDM_{name.upper()}", str(tmp_path / name))
    return tmp_path


def fold_of(archive: Path) -> Path:
    return next((archive / "results" / DATASET).iterdir()) / "fold_0"


def test_the_model_predicts_as_it_did(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = archive / "raw" / DATASET
    shutil.copytree(archive / "predicted", archive / "again")
    (archive / "again" / "head_003.nii.gz").unlink()
    words = ["-i", str(raw / "imagesTs"), "--mask", str(raw / "masksTs"), "-o", str(archive / "again"), "-f", "0"]
    assert predict.main([*words, "-chk", "final", "-m", str(fold_of(archive).parent), *QUIET]) == 0
    said = capsys.readouterr().out
    assert "note: fold 0 came from an earlier version of gdmunet" in said
    stored, again = (read_volume(archive / name / "head_003.nii.gz").array for name in ("predicted", "again"))
    np.testing.assert_allclose(again, stored, atol=1)  # whole HU: another processor may round the other way


@pytest.mark.parametrize("flag", ["--c", "--val", "--val_best"])
def test_the_fold_goes_on(archive: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_metadata(fold_of(archive) / "checkpoint_final.safetensors").provenance == UNKNOWN
    assert train.main([*RUN, flag]) == 0
    assert "its trainer could not be compared" in capsys.readouterr().out
    folder = "validation_best" if flag == "--val_best" else "validation"
    assert json.loads((fold_of(archive) / folder / "summary.json").read_text())["mean"]["mae"] > 0


@pytest.mark.usefixtures("archive")
def test_the_validation_is_read() -> None:
    assert find_best_configuration.main(["502", "--no_pbar"]) == 0


def test_other_plans_are_still_noticed(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-d", "502", "-pl", "tiny", "-tr", "FidelityTrainer", "-c", CONFIGURATION, "-np", "1", *QUIET]
    assert plan_and_preprocess.main([*words, "-overwrite_target_spacing", "13", "13", "13"]) == 0
    before = (fold_of(archive).parent / "plans.json").read_bytes()
    other = [*RUN[:2], "1", *RUN[3:]]
    for run in ([*RUN, "--c"], [*RUN, "--val"], other):
        assert train.main(run) == 1
        error = capsys.readouterr().err
        assert "was trained with other plans than the present plans gdmPlans_tiny have" in error
        assert "voxel size" in error
    assert (fold_of(archive).parent / "plans.json").read_bytes() == before
