"""Training from staged cases and from an object store: the same batches and losses as from the folder."""

import dataclasses
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from object_store import s3, s3_server, upload  # noqa: F401 (fixtures)
from test_train import SHORT, folders, request  # noqa: F401 (a fixture)
from toy import DATASET

from gdmunet import file_sources
from gdmunet.checkpoint import load_weights
from gdmunet.cli import plan_experiment
from gdmunet.cli import train as train_command
from gdmunet.errors import GdmError
from gdmunet.file_sources import RemoteSource
from gdmunet.paths import find_folders
from gdmunet.plan_folder import find_plans
from gdmunet.training.loop.loop import Loop
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.patches.stream import BatchStream, PatchLoader
from gdmunet.workflows.staging import fetch_plans, mirrored
from gdmunet.workflows.train import train

BUCKET = "memory://bucket/prepared"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield BUCKET
    files.store.clear()


def remote(folders, url, monkeypatch, cache):  # noqa: F811
    """The folders of a machine that has no prepared case of its own."""
    monkeypatch.setenv("GDM_COPIES", str(cache))
    return find_folders(folders.raw, url, folders.results)


def batches(data, workers):
    stream = BatchStream(PatchLoader(data.source(data.training, 0.8, seed=3), None, 2, workers), workers)
    try:
        return [next(stream) for _ in range(6)]
    finally:
        stream.close()


def test_background_readers_give_the_batches_of_the_folder_from_s3(folders, s3, monkeypatch, tmp_path):  # noqa: F811
    upload(folders.preprocessed, s3)
    there = remote(folders, s3, monkeypatch, tmp_path / "copies")
    assert there.preprocessed_url == s3
    fetch_plans(request(), there)
    plans = find_plans(there.preprocessed / DATASET, "gdmPlans")
    local = FoldData.of(plans, "3d_fullres", "0", folders.preprocessed)
    data = mirrored(FoldData.of(plans, "3d_fullres", "0", there.preprocessed), request(), there)
    assert not list(there.preprocessed.rglob("*.b2nd"))
    for one, other in zip(batches(data, 2), batches(local, 0), strict=True):
        assert one.identifiers == other.identifiers
        for name in ("condition", "target", "mask"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("how", ["staged", "url", "url staged"])
def test_a_training_gives_the_weights_of_one_from_the_folder(folders, memory, monkeypatch, tmp_path, how):  # noqa: F811
    expected = load_weights(train(request(), folders) / "fold_0" / "checkpoint_final.safetensors").state_dict
    place, fast = folders, tmp_path / "fast"
    if "url" in how:
        upload(folders.preprocessed, memory)
        place = remote(folders, memory, monkeypatch, tmp_path / "copies")
        shutil.rmtree(folders.preprocessed)
    changes = {"stage": fast} if "staged" in how else {}
    model = train(request(overwrite=True, **changes), place)
    weights = load_weights(model / "fold_0" / "checkpoint_final.safetensors").state_dict
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert bool(list(fast.rglob("*.b2nd"))) == ("staged" in how)
    if "staged" in how:  # a machine whose disk has been cleared copies again, and goes on
        shutil.rmtree(fast)
        more = SHORT | {"epochs": "1"}
        train(request(overwrite=True, settings=more, stage=fast), place)
        assert len(list(fast.rglob("*.json"))) == 4


def test_a_stopped_training_goes_on_from_cases_that_another_machine_stages(folders, tmp_path, monkeypatch):  # noqa: F811
    """With --c a machine that has no copy yet makes one; the weights are those of a training that was not stopped."""
    asked = request(settings=SHORT | {"epochs": "2"})
    final = train(asked, folders) / "fold_0" / "checkpoint_final.safetensors"
    expected = load_weights(final).state_dict
    finish = Loop._finish_epoch

    def stop(loop):
        finish(loop)
        raise KeyboardInterrupt

    stopped = dataclasses.replace(asked, overwrite=True, stage=tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_finish_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped, folders)
    assert torch.load(final.with_name("resume.pt"))["iteration"] == 3
    train(dataclasses.replace(asked, continue_training="latest", stage=tmp_path / "two"), folders)
    assert list((tmp_path / "two").rglob("*.b2nd"))
    weights = load_weights(final).state_dict
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_the_command_ends_well_with_staged_cases(folders, tmp_path):  # noqa: F811
    kinds = ("raw", "preprocessed", "results")
    places = [word for kind in kinds for word in (f"--{kind}", str(getattr(folders, kind)))]
    words = ["901", "3d_fullres", "0", "-tr", "FidelityTrainer", "-device", "cpu", "-np", "0", "--no_pbar", *places]
    settings = [f"{name}={value}" for name, value in SHORT.items()]
    assert train_command.main([*words, "--overwrite", "--set", *settings, "--stage", str(tmp_path / "fast")]) == 0


def test_a_server_that_goes_away_is_asked_again_and_then_named(memory, monkeypatch, tmp_path):
    waited, source = [], RemoteSource(memory)
    monkeypatch.setattr(file_sources.time, "sleep", waited.append)
    answers = iter([ConnectionError("refused"), TimeoutError("slow")])
    opened = file_sources._open

    def flaky(place):
        for error in answers:
            raise error
        return opened(place)

    monkeypatch.setattr(file_sources, "_open", flaky)
    fsspec.filesystem("memory").pipe("/bucket/prepared/a.json", b"{}")
    assert source.read("a.json") == b"{}"
    assert waited == [0.5, 2.0]
    monkeypatch.setattr(file_sources, "_open", lambda _: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(GdmError, match="does not answer") as caught:
        source.copy("a.json", tmp_path / "a.json")
    assert str(caught.value.file) == f"{memory}/a.json"
    assert "--c" in caught.value.remedy


def test_what_is_not_there_is_not_asked_again(memory, monkeypatch):
    monkeypatch.setattr(file_sources.time, "sleep", pytest.fail)
    with pytest.raises(GdmError, match="does not give this file"):
        RemoteSource(memory).read("nothing.json")


def test_an_unknown_data_set_lists_those_that_are_there(folders, memory, monkeypatch, tmp_path):  # noqa: F811
    upload(folders.preprocessed, memory)
    there = remote(folders, memory, monkeypatch, tmp_path)
    with pytest.raises(GdmError, match="data set 77 is unknown behind this address") as caught:
        train(dataclasses.replace(request(), dataset="77"), there)
    assert caught.value.found == DATASET


def test_an_address_without_a_client_says_what_to_install():
    with pytest.raises(GdmError, match="cannot be opened") as caught:
        RemoteSource("nosuchprotocol://bucket").folders()
    assert "gdmunet[cloud]" in caught.value.remedy


def test_other_commands_and_folders_refuse_a_url(capsys):
    assert plan_experiment.main(["-d", "901", "--preprocessed", BUCKET]) == 1
    assert "from a folder, not from a URL" in capsys.readouterr().err
    with pytest.raises(GdmError, match="not behind a URL"):
        find_folders(raw="s3://bucket/raw")
    assert find_folders(preprocessed="plain").preprocessed == Path("plain")
