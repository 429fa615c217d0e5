"""Models that travel over a hub: a server on loopback that speaks its protocol."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from loopback_hub import COMMIT, hub  # noqa: F401
from prediction_samples import SPACING, make_head, make_model

from gdmunet.errors import GdmError
from gdmunet.inference import Predictor
from gdmunet.paths import Folders
from gdmunet.workflows.hub import ARCHIVE_NAME, HubModel, fetch_model, push_model
from gdmunet.workflows.requests.models import PushModelRequest

ARCHIVE = f"/lab/ct/resolve/main/{ARCHIVE_NAME}"


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results", tmp_path / "encoders")


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "own")


@pytest.fixture(autouse=True)
def _login(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_loopback")


def push(model, hub, **options):  # noqa: F811
    return push_model(PushModelRequest(repository="lab/ct", **options), model, hub.url)


def test_a_pushed_model_is_fetched_and_predicts_the_same(hub, model, folders):  # noqa: F811
    address = push(model, hub, private=True, licence="cc-by-4.0")
    assert address == f"{hub.url}/lab/ct/commit/{COMMIT}"
    assert hub.made == [("lab/ct", True)]
    assert sorted(Path(name).name for name in hub.files if "/main/" in name) == ["README.md", ARCHIVE_NAME]
    fetched = fetch_model(HubModel("lab/ct"), folders, hub.url)
    assert fetched.name == model.name
    head = make_head()
    before, after = (Predictor.from_folder(one).predict(head, spacing=SPACING).array for one in (model, fetched))
    np.testing.assert_array_equal(before, after)
    times = len(hub.requests)
    assert fetch_model(HubModel("lab/ct"), folders, hub.url) == fetched
    assert len(hub.requests) == times  # not a byte twice


def test_the_card_says_what_the_model_is(hub, model):  # noqa: F811
    push(model, hub, licence="cc-by-4.0")
    card = hub.files["/lab/ct/resolve/main/README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc-by-4.0"
    for words in (
        "# ct: CT to CT",
        "gdm_predict -m hf:lab/ct",
        "not a medical device",
        "Dataset999_Test",
        "mm (z, y, x)",
    ):
        assert words in text
    assert hashlib.sha256(hub.files[ARCHIVE]).hexdigest() in text
    assert str(model.parent) not in card


def test_without_a_network_the_copy_is_used(hub, model, folders, monkeypatch):  # noqa: F811
    push(model, hub)
    fetched = fetch_model(HubModel("lab/ct"), folders, hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.close()
    assert fetch_model(HubModel("lab/ct"), folders, hub.url) == fetched
    with pytest.raises(GdmError, match="not in the cache"):
        fetch_model(HubModel("lab/other"), folders, hub.url)
    with pytest.raises(GdmError, match="nothing is pushed"):
        push(model, hub)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", r"the model is gated[\s\S]*ask for access"),
        (401, "RepoNotFound", "no such repository, or it is private"),
        (404, "RevisionNotFound", "has no revision main"),
        (404, "EntryNotFound", "holds no model of gdmunet"),
        (403, "", r"does not allow it \(status 403\)"),
    ],
)
def test_refusals_are_told_in_words(hub, folders, status, code, words):  # noqa: F811
    hub.refusals[ARCHIVE], hub.error_codes[ARCHIVE] = status, code
    with pytest.raises(GdmError, match=words):
        fetch_model(HubModel("lab/ct"), folders, hub.url)


def test_what_is_not_a_model_is_not_unpacked(hub, folders):  # noqa: F811
    hub.files[ARCHIVE] = b"PK no archive"
    with pytest.raises(GdmError, match="damaged"):
        fetch_model(HubModel("lab/ct"), folders, hub.url)
    assert not list(folders.encoders.rglob("plans.json"))


def test_a_push_that_is_refused_leaves_nothing_beside_the_model(hub, model):  # noqa: F811
    hub.refusals["/api/repos/create"] = 403
    before = sorted(model.parent.iterdir())
    with pytest.raises(GdmError, match="status 403"):
        push(model, hub)
    assert sorted(model.parent.iterdir()) == before


def test_names_of_models_on_a_hub():
    assert HubModel.parse("hf:lab/ct") == HubModel("lab/ct")
    assert HubModel.parse("hf:lab/ct@v1.2") == HubModel("lab/ct", "v1.2")
    assert HubModel.parse("results/Dataset501_X") is None
    with pytest.raises(GdmError, match="hf:owner/name"):
        HubModel.parse("hf:ct")
