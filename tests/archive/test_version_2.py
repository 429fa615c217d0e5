"""Files of version 2, with a dial for realism and the encoder's level at stride 1, stay readable."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gdmunet.checkpoint import load_weights
from gdmunet.cli import predict, train
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.loading import load_encoder
from gdmunet.evaluation.scores.dial_curve import DialCurve
from gdmunet.imageio import read_volume
from gdmunet.plan_folder import find_plans
from gdmunet.serialization import load_json

DATASET = "Dataset502_DemoPhantoms"
PLANS, CONFIGURATION = "gdmPlans_tiny", "3d_fullres"
SETTINGS = ("iterations_per_epoch=3", "feature_start=0.5", "moment_batches=4")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "version_2" / "files.zip") as files:
        files.extractall(tmp_path)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"GDM_{name.upper()}", str(tmp_path / name))
    return tmp_path


def model_folder(archive: Path) -> Path:
    return next((archive / "results" / DATASET).iterdir())


def test_the_model_predicts_as_it_did_at_realism_1(archive: Path) -> None:
    raw, output = archive / "raw" / DATASET, archive / "again"
    places = {"-i": raw / "imagesTs", "--mask": raw / "masksTs", "-o": output, "-m": model_folder(archive)}
    flags = ["-f", "0", "-chk", "final", "-device", "cpu", "--realism", "1", "--no_pbar"]
    assert predict.main([*(str(part) for pair in places.items() for part in pair), *flags]) == 0
    stored, again = (read_volume(folder / "head_003.nii.gz").array for folder in (archive / "predicted", output))
    assert stored.std() > 100
    np.testing.assert_allclose(again, stored, atol=1)  # whole HU: another processor may round the other way


def test_the_curve_over_the_dial_and_the_default_are_read(archive: Path) -> None:
    fold = model_folder(archive) / "fold_0"
    curve = load_json(DialCurve, fold / "validation" / "dial.json")
    assert (curve.frechet, len(curve.mae)) == (None, 5)
    stored = load_weights(fold / "checkpoint_final.safetensors")
    assert (stored.metadata.realism, stored.network.dial_channels) == (curve.chosen, 16)


def test_training_continues_from_the_resume_state(archive: Path) -> None:
    fold = model_folder(archive) / "fold_0"
    final = load_weights(fold / "checkpoint_final.safetensors")
    for file in fold.iterdir():
        if file.is_file():
            file.unlink()
    for file in (archive / "stopped" / "fold_0").iterdir():
        file.rename(fold / file.name)
    before = load_weights(fold / "checkpoint_latest.safetensors")
    arguments = ["502", CONFIGURATION, "0", "-p", PLANS, "-tr", "GDMTrainerDial", "--c", "--epochs", "2"]
    assert train.main([*arguments, "--set", *SETTINGS, "-device", "cpu", "-np", "0", "--no_pbar"]) == 0
    continued = load_weights(fold / "checkpoint_final.safetensors")
    assert (before.metadata.iteration, continued.metadata.iteration) == (4, 6)
    for name, weight in final.state_dict.items():
        torch.testing.assert_close(continued.state_dict[name], weight, rtol=1e-4, atol=1e-5)
    # What the two steps changed is far more than what is allowed.
    moved = [float((before.state_dict[name] - weight).abs().max()) for name, weight in final.state_dict.items()]
    assert max(moved) > 1e-4


def test_plans_name_the_encoder_that_they_were_made_with(archive: Path) -> None:
    plans = find_plans(archive / "preprocessed" / DATASET, PLANS)
    spec = plans.configurations[CONFIGURATION].encoder
    assert spec is not None
    assert (spec.spec, len(spec.levels)) == ("mini", 5)
    load_encoder(spec, VolumeUnits.of(plans.configurations[CONFIGURATION], "CT"), archive / "no cache")
