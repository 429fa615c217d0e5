"""Benchmarks that go on with earlier runs: arms branch off fidelity, and no run of other defaults is taken."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gdmunet.drift_spec import DriftSpec
from gdmunet.results import ModelFolder
from gdmunet.serialization import save_json
from gdmunet.training.trainers.registry import find_trainer
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.train import train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def arms(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import claim_arms

    yield claim_arms
    del sys.modules["claim_arms"]


def test_an_arm_branches_off_the_shared_training(toy, tmp_path, arms):
    (tmp_path / "gdm_preprocessed").symlink_to(tmp_path / "preprocessed")
    plans = tmp_path / "preprocessed" / toy[0].dataset_name / "gdmPlans.json"
    place = arms.Place(tmp_path, plans, "2d", "0", seed=1, iterations=20)
    for name in (arms.FIDELITY, "transport, by distance"):
        arms.train_arm(place, name)
    folder = place.folder(arms.ARMS["transport, by distance"])
    assert folder.checkpoint("final").is_file()
    epochs = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    trained = [line["iteration"] for line in epochs if "iteration" in line]
    assert min(trained) > round(0.6 * 20) - 1
    assert max(trained) == 20
    earlier = json.loads(folder.settings.read_text()) | {"calibrated_weight": 0.125}
    folder.settings.write_text(json.dumps(earlier))
    with pytest.raises(SystemExit, match=r"other defaults.*calibrated_weight"):
        arms.train_arm(place, "transport, by distance")


def test_a_finished_run_is_taken_as_long_as_its_defaults_are_those_of_now(toy, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import protocol

    plans, folders = toy
    sized = replace(
        plans.configuration("2d"), drift=DriftSpec(tokens_per_patch=24, bank_patches=8, bank_tokens=16, battery=2)
    )
    plans = replace(plans, configurations={"2d": sized})
    file = folders.preprocessed / plans.dataset_name / "gdmPlans.json"
    save_json(plans, file)
    own = {"iterations": "2", "iterations_per_epoch": "2"}
    request = TrainRequest(
        dataset=plans.dataset_name, configuration="2d", fold="all", trainer="GDMTrainer", settings=own, device="cpu",
        processes=0, show_progress=False,
    )  # fmt: skip
    fold = ModelFolder(train(request, folders)).fold("all")
    kind = find_trainer("GDMTrainer").derive(own)
    protocol.check_run(fold, kind, file, "2d")
    fold.settings.write_text(json.dumps(json.loads(fold.settings.read_text()) | {"learning_rate": 0.5}))
    with pytest.raises(SystemExit, match=r"other defaults.*learning_rate"):
        protocol.check_run(fold, kind, file, "2d")
