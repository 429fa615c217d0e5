import os
import subprocess
import sys

import pytest

from gdmunet.cli.download_encoder import main
from gdmunet.encoders.registry import FAMILIES

SOURCE = FAMILIES["ct-fm"].source


def test_the_list_names_every_encoder_and_what_is_at_hand(tmp_path, capsys):
    (tmp_path / "ct-fm").mkdir()
    (tmp_path / "ct-fm" / SOURCE.name).touch()
    assert main(["--list", "-o", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].split(":")[0] for line in lines[1:-2]] == list(FAMILIES)
    assert [line.split()[0] for line in lines if "at hand:" in line] == ["ct-fm"]


def test_weights_are_fetched_into_the_folder(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GDM_ENCODERS", str(tmp_path))
    hub.files[SOURCE.url(hub="")] = b"weights"
    assert main(["ct-fm", "--hub", hub.url, "--no_pbar"]) == 0
    assert (tmp_path / "ct-fm" / SOURCE.name).read_bytes() == b"weights"
    text = capsys.readouterr().out
    assert "sha256" in text
    assert "licence of the weights: Apache-2.0" in text


def test_downloads_that_are_off_are_not_made(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["ct-fm", "--hub", hub.url, "-o", str(tmp_path)]) == 1
    assert "curl -L" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_mirror_is_named_by_the_environment(hub, tmp_path):
    hub.files[SOURCE.url(hub="")] = b"weights"
    command = [sys.executable, "-c", "from gdmunet.cli.download_encoder import main; main()"]
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [*command, "ct-fm", "-o", str(tmp_path)],
        env={**environment, "HF_ENDPOINT": hub.url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ct-fm" / SOURCE.name).read_bytes() == b"weights"


@pytest.mark.parametrize(("name", "message"), [("ctfm", "there is no encoder"), ("nnunet", "-encoder nnunet:")])
def test_what_cannot_be_fetched_says_so(name, message, tmp_path, capsys):
    assert main([name, "-o", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["ct-fm", "--list"]])
def test_a_name_or_the_list_is_needed(words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
