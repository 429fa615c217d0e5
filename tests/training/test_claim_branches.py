"""The arms of benchmarks/claim.py go on where fidelity stood when the encoder joins."""

import json
import sys
from pathlib import Path

import pytest

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
