"""Files that an earlier version wrote stay readable, and give the numbers that they gave."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gdmunet.checkpoint import load_weights
from gdmunet.cli import predict, train
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.loading import load_encoder
from gdmunet.imageio import read_volume
from gdmunet.plan_folder import find_plans
from gdmunet.preprocessing.casestore import CaseStore

DATASET = "Dataset502_DemoPhantoms"
PLANS, CONFIGURATION = "gdmPlans_tiny", "3d_fullres"
SETTINGS = ("iterations_per_epoch=3", "feature_start=0.3", "bank_patches=4")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "version_1" / "files.zip") as files:
        files.extractall(tmp_path)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"GDM_{name.upper()}", str(tmp_path / name))
    return tmp_path


def model_folder(archive: Path) -> Path:
    return next((archive / "results" / DATASET).iterdir())


def test_the_model_predicts_as_it_did(archive: Path) -> None:
    raw, output = archive / "raw" / DATASET, archive / "again"
    places = {"-i": raw / "imagesTs", "--mask": raw / "masksTs", "-o": output, "-m": model_folder(archive)}
    flags = ["-f", "0", "-chk", "final", "-device", "cpu", "--no_pbar"]
    assert predict.main([*(str(part) for pair in places.items() for part in pair), *flags]) == 0
    stored, again = (read_volume(folder / "head_003.nii.gz").array for folder in (archive / "predicted", output))
    assert stored.std() > 100
    np.testing.assert_allclose(again, stored, atol=1)  # whole HU: another processor may round the other way


def test_training_continues_from_the_resume_state(archive: Path) -> None:
    fold = model_folder(archive) / "fold_0"
    final = load_weights(fold / "checkpoint_final.safetensors")
    journal = (fold / "journal.jsonl").read_text().splitlines()
    first = json.loads((fold / "validation" / "summary.json").read_text())
    for file in fold.iterdir():
        if file.is_file():
            file.unlink()
    for file in (archive / "stopped" / "fold_0").iterdir():
        file.rename(fold / file.name)
    before = load_weights(fold / "checkpoint_latest.safetensors")
    arguments = [
        "502",
        CONFIGURATION,
        "0",
        "-tr",
        "GDMTrainer",
        "-p",
        PLANS,
        "--c",
        "--epochs",
        "2",
        "--set",
        *SETTINGS,
    ]
    assert train.main([*arguments, "-device", "cpu", "-np", "0", "--no_pbar"]) == 0
    continued = load_weights(fold / "checkpoint_final.safetensors")
    assert (before.metadata.iteration, continued.metadata.iteration) == (5, 6)
    for name, weight in final.state_dict.items():
        # The step that was left sees patches that are turned by other random numbers than those of version 1.
        allowed = 0.1 if "running" in name else 1e-5
        torch.testing.assert_close(continued.state_dict[name], weight, rtol=1e-4, atol=allowed)
    assert (fold / "journal.jsonl").read_text().splitlines()[0] == journal[0]
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert summary["mean"]["mae"] == pytest.approx(first["mean"]["mae"], rel=1e-2)


def test_plans_name_the_encoder_that_they_were_made_with(archive: Path) -> None:
    plans = find_plans(archive / "preprocessed" / DATASET, PLANS)
    spec = plans.configurations[CONFIGURATION].encoder
    assert spec is not None
    assert (spec.spec, len(spec.levels)) == ("mini-1", 4)
    load_encoder(spec, VolumeUnits.of(plans.configurations[CONFIGURATION], "CT"), archive / "no cache")


def test_prepared_cases_are_read(archive: Path) -> None:
    plans = find_plans(archive / "preprocessed" / DATASET, PLANS)
    store = CaseStore(archive / "preprocessed" / DATASET, PLANS, CONFIGURATION)
    assert store.identifiers() == ["head_000", "head_001", "head_002"]
    assert store.origin("head_000") is not None, "the case would be prepared anew"
    case = store.open("head_000")
    condition, mask = np.asarray(case.condition), np.asarray(case.mask[:]).astype(bool)
    assert case.target is not None
    assert condition.shape == case.target.shape == (1, 13, 16, 11)
    # A z-score of the body, and Hounsfield units by the map of the plans.
    assert abs(float(condition[0][mask].mean())) < 1e-5
    raw = case.properties.target_map.invert(np.asarray(case.target)[0])
    assert -1024 <= raw.min() < -900 < 400 < raw.max() <= 3071
    assert case.properties.target_map.offset == plans.configurations[CONFIGURATION].target_normalization.offset
