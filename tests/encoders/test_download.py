"""Downloads from a stand-in hub on the loopback: whole and checked, or not there."""

import dataclasses
import hashlib
import json
import os
import socket
import threading
import time

import huggingface_hub
import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from loopback_hub import COMMIT

from gdmunet.encoders.download import DownloadOptions, HubFile, download, read_record
from gdmunet.errors import GdmError
from gdmunet.owners import temporary_beside

CONTENT = bytes(range(256)) * 12_000  # 3 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOURCE = HubFile("owner/model", "weights/model.ckpt", "abc123", 3)
PATH = SOURCE.url(hub="")


def fetch(hub, folder, source=SOURCE, **options):
    return download(source, folder, DownloadOptions(hub.url, show_progress=False, **options))


def test_a_file_arrives_whole_and_is_recorded(hub, tmp_path):
    hub.files[PATH] = CONTENT
    file = fetch(hub, tmp_path / "cache")
    assert file.read_bytes() == CONTENT
    assert file.name == "model.ckpt"
    record = read_record(file)
    assert (record.sha256, record.size, record.stated_by_hub) == (SHA256, len(CONTENT), True)
    assert record.revision == COMMIT  # the commit that the hub said it is
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.ckpt", "model.ckpt.json"]


def test_a_second_call_asks_nothing(hub, tmp_path):
    hub.files[PATH] = CONTENT
    fetch(hub, tmp_path)
    asked = len(hub.requests)
    fetch(hub, tmp_path)
    assert len(hub.requests) == asked


def test_weights_in_the_layout_of_earlier_versions_are_taken_as_they_are(hub, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(CONTENT)
    record = {"url": "https://hub/owner/model", "revision": "c0ffee", "sha256": SHA256, "size": len(CONTENT)}
    (tmp_path / "model.ckpt.json").write_text(json.dumps({**record, "stated_by_hub": True}))
    assert fetch(hub, tmp_path) == tmp_path / "model.ckpt"
    assert hub.requests == []


def test_a_cached_file_that_changed_is_refused(hub, tmp_path):
    hub.files[PATH] = CONTENT
    file = fetch(hub, tmp_path)
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(GdmError, match="not the expected ones"):
        fetch(hub, tmp_path)


def test_a_file_deleted_by_hand_must_come_back_the_same(hub, tmp_path):
    hub.files[PATH] = CONTENT
    fetch(hub, tmp_path).unlink()
    hub.files[PATH] = CONTENT[::-1]
    with pytest.raises(GdmError, match="not the expected ones"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "model.ckpt").exists()


def test_other_content_than_pinned_is_refused_without_transfer(hub, tmp_path):
    hub.files[PATH] = CONTENT[::-1]
    with pytest.raises(GdmError, match="not the expected ones"):
        fetch(hub, tmp_path, dataclasses.replace(SOURCE, sha256=SHA256))
    assert hub.requests == []
    assert not list(tmp_path.iterdir())


def test_pinned_content_is_checked_where_the_hub_states_nothing(hub, tmp_path):
    hub.states_hash = False
    hub.files[PATH] = CONTENT[::-1]
    with pytest.raises(GdmError, match="not the expected ones"):
        fetch(hub, tmp_path, dataclasses.replace(SOURCE, sha256=SHA256))
    assert not list(tmp_path.iterdir())


def test_where_the_hub_states_nothing_what_arrived_is_recorded(hub, tmp_path):
    hub.states_hash = False
    hub.files[PATH] = CONTENT
    record = read_record(fetch(hub, tmp_path))
    assert (record.sha256, record.stated_by_hub) == (SHA256, False)


@pytest.mark.parametrize("supports_range", [True, False])
def test_a_connection_that_breaks_is_taken_up_again_or_leaves_nothing(hub, tmp_path, supports_range):
    hub.files[PATH], hub.cut_after, hub.supports_range = CONTENT, 1_500_000, supports_range
    failure = None
    try:
        fetch(hub, tmp_path)
    except GdmError as error:  # the first releases of huggingface_hub 1 give up here
        failure = error
    if failure is not None:
        assert "could not be downloaded" in failure.problem
        assert not list(tmp_path.iterdir())
    assert hub.was_cut
    assert fetch(hub, tmp_path).read_bytes() == CONTENT
    assert len(hub.requests) == 2


@pytest.mark.parametrize("states_hash", [True, False])
def test_a_transfer_that_breaks_for_good_leaves_no_file_and_starts_anew(hub, tmp_path, states_hash):
    hub.files[PATH], hub.cut_after, hub.refuse_after_cut, hub.states_hash = CONTENT, 1_500_000, 500, states_hash
    with pytest.raises(GdmError, match="could not be downloaded"):
        fetch(hub, tmp_path)
    assert hub.was_cut
    assert not list(tmp_path.iterdir())
    hub.refuse_after_cut = None
    assert fetch(hub, tmp_path).read_bytes() == CONTENT


def test_two_commands_that_fetch_the_same_file_do_not_meet(hub, tmp_path):
    hub.files[PATH] = CONTENT
    fetched = []
    threads = [threading.Thread(target=lambda: fetched.append(fetch(hub, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.read_bytes() == CONTENT for file in fetched] == [True] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ckpt", "model.ckpt.json"]


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_killed_command_left_is_removed(hub, tmp_path, whole):
    """Also beside a file that was whole when the command was killed."""
    hub.files[PATH] = CONTENT
    if whole:
        fetch(hub, tmp_path)
    alive = temporary_beside(tmp_path / "model.ckpt")
    dead = tmp_path / alive.name.replace(f"-{os.getpid()}-", "-2147483646-", 1)
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "half").write_bytes(CONTENT[:100])
    fetch(hub, tmp_path)
    assert alive.is_dir()
    assert not dead.exists()


def test_a_missing_file_names_the_command_for_another_machine(hub, tmp_path):
    with pytest.raises(GdmError, match="answered 404") as caught:
        fetch(hub, tmp_path)
    assert f"curl -L -o model.ckpt {hub.url}{PATH}" in str(caught.value)
    assert "--encoder-path" in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_says_where_its_terms_are_and_how_to_log_in(hub, tmp_path, status):
    hub.files[PATH], hub.refusals[PATH] = CONTENT, status
    with pytest.raises(GdmError, match=f"answered {status}") as caught:
        fetch(hub, tmp_path)
    assert f"{hub.url}/owner/model" in str(caught.value)
    assert "hf auth login" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_fails_says_its_status(hub, tmp_path):
    hub.refusals[PATH] = 500
    with pytest.raises(GdmError, match="answered 500"):
        fetch(hub, tmp_path)


def test_no_listener_is_an_error_at_once(hub, tmp_path):
    hub.close()
    start = time.monotonic()
    with pytest.raises(GdmError, match="could not be downloaded"):
        fetch(hub, tmp_path)
    assert time.monotonic() - start < 5


def test_a_host_that_never_answers_costs_the_time_limit_alone(hub, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(GdmError, match=r"no answer within 0\.3 s"):
            fetch(hub, tmp_path, connect_seconds=0.3)
        assert time.monotonic() - start < 3


def test_offline_nothing_is_asked(hub, tmp_path, monkeypatch):
    hub.files[PATH] = CONTENT
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GdmError, match="HF_HUB_OFFLINE"):
        fetch(hub, tmp_path)
    assert hub.requests == []
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_not_blamed_on_the_network(hub, tmp_path, monkeypatch):
    hub.files[PATH] = CONTENT

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(GdmError, match=r"cannot write model\.ckpt: No space left") as caught:
        fetch(hub, tmp_path)
    assert "GDM_ENCODERS" in str(caught.value)


@pytest.mark.parametrize("show", [True, False])
def test_the_progress_bars_are_switched_for_the_transfer_alone(hub, tmp_path, monkeypatch, show):
    hub.files[PATH] = CONTENT
    disabled = []
    fetch_from_hub = huggingface_hub.hf_hub_download

    def watched(*arguments, **options):
        disabled.append(are_progress_bars_disabled())
        return fetch_from_hub(*arguments, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", watched)
    download(SOURCE, tmp_path, DownloadOptions(hub.url, show_progress=show))
    assert disabled == [not show]
    assert not are_progress_bars_disabled()


def test_the_record_is_readable_json(hub, tmp_path):
    hub.files[PATH] = CONTENT
    record = json.loads((fetch(hub, tmp_path).parent / "model.ckpt.json").read_text())
    assert record["url"] == hub.url + PATH


def test_a_time_limit_of_nothing_is_refused():
    with pytest.raises(GdmError, match="not positive"):
        DownloadOptions(connect_seconds=0)
