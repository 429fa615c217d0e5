"""gdm_train by several processes: refusals before anything is touched, one error, shared validation, deaths."""

import json

import pytest
import torch
from short_trainers import without_norm
from test_train import SHORT, folders, request  # noqa: F401

from gdmunet.checkpoint import load_weights
from gdmunet.serialization import save_json
from gdmunet.workflows.train import train

BATCH = 2


@pytest.fixture
def plain(toy, folders):  # noqa: F811
    """Networks whose patches do not know each other: two processes give the numbers of one."""
    plans, _ = without_norm(toy)
    save_json(plans, folders.preprocessed / plans.dataset_name / "gdmPlans.json")
    return folders


def whole(folder):
    """Every file of a folder and its content."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_processes_train_validate_and_journal_as_one(plain, capfd):
    one = train(request(), plain)
    before, rows = whole(one / "fold_0"), journal(one)
    weights = load_weights(one / "fold_0" / "checkpoint_final.safetensors").state_dict
    train(request(num_gpus=2, overwrite=True), plain)
    shared = load_weights(one / "fold_0" / "checkpoint_final.safetensors").state_dict
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-4)
    for row, other in zip(rows, journal(one), strict=True):
        assert set(row) == set(other)
        for key in ("iteration", "loss_fidelity", "gradient_norm", "validation_mae"):
            assert other[key] == pytest.approx(row[key], rel=1e-3), key
    assert set(before) == set(whole(one / "fold_0"))
    assert sorted(path.name for path in one.iterdir()) == ["fold_0", "plans.json"]
    said = capfd.readouterr()
    assert said.out.count("3 iterations to go") == 2
    assert "Traceback" not in said.err


def journal(model):
    return [json.loads(line) for line in (model / "fold_0" / "journal.jsonl").read_text().splitlines()]
