"""Downloads from a stand-in hub on the loopback: whole and checked, or not there."""

import dataclasses
import hashlib
import json
import time

import pytest

from gdmunet.encoders import download as downloads
from gdmunet.encoders.download import HubFile, download, read_record
from gdmunet.errors import GdmError

CONTENT = bytes(range(256)) * 12_000  # 3 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOURCE = HubFile("owner/model", "weights/model.ckpt", "abc123", 3)
PATH = "/owner/model/resolve/abc123/weights/model.ckpt"


def fetch(hub, folder, source=SOURCE):
    return download(source, folder, show_progress=False, hub=hub.url)


def test_a_file_arrives_whole_and_is_recorded(hub, tmp_path):
    hub.files[PATH] = CONTENT
    file = fetch(hub, tmp_path / "cache")
    assert file.read_bytes() == CONTENT and file.name == "model.ckpt"
    record = read_record(file)
    assert (record.sha256, record.size, record.stated_by_hub) == (SHA256, len(CONTENT), True)
    assert record.revision == "c0ffee"  # the commit that the hub said it is
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.ckpt", "model.ckpt.json"]


def test_a_second_call_asks_nothing(hub, tmp_path):
    hub.files[PATH] = CONTENT
    fetch(hub, tmp_path)
    asked = len(hub.requests)
    fetch(hub, tmp_path)
    assert len(hub.requests) == asked


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
    assert all(asked is None for _, asked in hub.requests) and not list(tmp_path.glob("model*"))


def test_pinned_content_is_checked_where_the_hub_states_nothing(hub, tmp_path):
    hub.states_hash = False
    hub.files[PATH] = CONTENT[::-1]
    with pytest.raises(GdmError, match="not the expected ones"):
        fetch(hub, tmp_path, dataclasses.replace(SOURCE, sha256=SHA256))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("supports_range", [True, False])
def test_a_broken_transfer_leaves_no_file_and_goes_on_at_the_next_call(hub, tmp_path, supports_range):
    hub.files[PATH], hub.cut_after, hub.supports_range = CONTENT, 1_500_000, supports_range
    with pytest.raises(GdmError, match="could not be downloaded"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "model.ckpt").exists()
    assert fetch(hub, tmp_path).read_bytes() == CONTENT
    assert hub.requests[-1][1] == "bytes=1500000-"


def test_a_whole_part_that_was_never_renamed_is_used(hub, tmp_path):
    hub.files[PATH] = CONTENT
    (tmp_path / f".part-{SHA256[:16]}-model.ckpt").write_bytes(CONTENT)
    assert fetch(hub, tmp_path).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part")] == []


def test_without_a_stated_hash_a_half_file_is_not_continued(hub, tmp_path):
    hub.states_hash = False
    hub.files[PATH], hub.cut_after = CONTENT, 1_500_000
    with pytest.raises(GdmError, match="could not be downloaded"):
        fetch(hub, tmp_path)
    assert fetch(hub, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in hub.requests] == [None, None]
    assert read_record(tmp_path / "model.ckpt").stated_by_hub is False


def test_a_refusal_of_the_hub_names_the_command_for_another_machine(hub, tmp_path):
    with pytest.raises(GdmError, match="answered 404") as caught:
        fetch(hub, tmp_path)
    assert f"curl -L -o model.ckpt {hub.url}{PATH}" in str(caught.value)
    assert "--encoder-path" in str(caught.value)


def test_no_listener_is_an_error_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(GdmError, match="could not be downloaded"):
        download(SOURCE, tmp_path, show_progress=False, hub="http://127.0.0.1:9")
    assert time.monotonic() - start < 5


def test_a_host_that_never_answers_costs_the_time_limit_alone(hub, tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(downloads, "CONNECT_SECONDS", 0.3)
    silent = socket.create_server(("127.0.0.1", 0))
    start = time.monotonic()
    with pytest.raises(GdmError, match="no answer within"):
        download(SOURCE, tmp_path, show_progress=False, hub=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 3
    silent.close()


def test_progress_is_told_in_megabytes(hub, tmp_path, capsys):
    hub.files[PATH] = CONTENT
    download(SOURCE, tmp_path, show_progress=True, hub=hub.url)
    assert "downloading model.ckpt (MB): 3/3" in capsys.readouterr().err


def test_the_record_is_readable_json(hub, tmp_path):
    hub.files[PATH] = CONTENT
    record = json.loads((fetch(hub, tmp_path).parent / "model.ckpt.json").read_text())
    assert record["url"] == hub.url + PATH
