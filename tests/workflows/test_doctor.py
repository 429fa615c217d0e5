import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from gdmunet.cli.doctor import main
from gdmunet.paths import find_folders
from gdmunet.workflows.doctor import machine, software, storage, trial
from gdmunet.workflows.doctor.finding import Finding, findings_json, findings_text, pasteable
from gdmunet.workflows.doctor.machine import Driver, cores, gpu_findings, memory_findings, nvidia_driver
from gdmunet.workflows.doctor.storage import encoders_at_hand, folder_finding
from gdmunet.workflows.doctor.trial import trial_finding


@pytest.fixture
def short(monkeypatch):
    """Trials of three steps."""
    monkeypatch.setattr(trial_finding, "__defaults__", (0.0,))


@pytest.mark.usefixtures("short")
def test_the_command_lists_every_area_and_succeeds(tmp_path, capsys):
    folders = [word for name in ("raw", "preprocessed", "results") for word in (f"--{name}", str(tmp_path / name))]
    assert main(["-device", "cpu", "--no_pbar", *folders]) == 0
    text = capsys.readouterr().out
    for word in ("software", "machine", "folders", "encoders", "trial", "torchvision", "mini", "cores", "preset tiny"):
        assert word in text
    assert list(tmp_path.iterdir()) == []  # nothing is made or left


@pytest.mark.usefixtures("short")
def test_json_and_a_block_to_paste(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folders = [word for name in ("raw", "preprocessed", "results") for word in (f"--{name}", str(tmp_path / name))]
    assert main(["-device", "cpu", "--no_pbar", "--json", *folders]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] in ("good", "note")
    assert {one["area"] for one in found["findings"]} == {"software", "machine", "folders", "encoders", "trial"}
    assert main(["-device", "cpu", "--no_pbar", "--paste", *folders]) == 0
    block = capsys.readouterr().out
    assert block.startswith("```text\n")
    assert "~" in block
    assert str(tmp_path) not in block


@pytest.mark.usefixtures("short")
def test_a_bad_finding_is_the_exit_status(tmp_path, capsys):
    (tmp_path / "raw").write_text("a file")
    assert main(["-device", "cpu", "--no_pbar", "--raw", str(tmp_path / "raw" / "deeper"), "--json"]) == 1
    bad = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["state"] == "bad"]
    assert [one["name"] for one in bad] == ["raw"]
    assert all(one["advice"] for one in bad)


def test_a_torchvision_of_another_torch_is_bad():
    def requires(_):
        return ["numpy", "torch==2.13.0", "gdown; extra == 'gdown'"]

    assert software.vision_pair("2.13.0", "0.28.0", requires).state == "good"
    assert software.vision_pair("2.13.0+cu130", "0.28.0", requires).state == "good"
    other = software.vision_pair("2.12.0+cu130", "0.28.0", requires)
    assert other.state == "bad"
    assert "needs torch==2.13.0" in other.found
    assert "pip install torch torchvision" in other.advice
    assert software.vision_pair("2.13.0", None, requires).state == "bad"


def test_the_installed_pair_fits():
    installed = [software.version_of(name) for name in ("torch", "torchvision")]
    assert software.vision_pair(*installed, metadata.requires).state == "good"


def test_missing_decoders_are_named(monkeypatch):
    monkeypatch.setattr(software, "get_decoder", lambda syntax: SimpleNamespace(is_available=syntax.is_encapsulated))
    assert software.dicom_decoders().state == "good"
    monkeypatch.setattr(software, "get_decoder", lambda _: SimpleNamespace(is_available=False))
    assert "JPEG-LS" in software.dicom_decoders().found
    assert "gdmunet[dicom]" in software.dicom_decoders().advice


@pytest.mark.parametrize(
    ("cuda", "available", "driver", "state", "word"),
    [
        (None, False, None, "note", "--hours"),
        (None, False, Driver("580.1", ("H100",)), "bad", "pytorch.org"),
        ("13.0", False, Driver("470.1", ("T4",)), "bad", "driver"),
        ("13.0", False, None, "note", "--hours"),
        ("13.0", True, Driver("580.1", ("H100",)), "good", ""),
    ],
)
def test_build_and_driver_must_find_each_other(cuda, available, driver, state, word):
    (found,) = gpu_findings(cuda, available, driver)
    assert found.state == state
    assert word in found.advice


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("echo '580.95, NVIDIA H100'; echo '580.95, NVIDIA T4'", Driver("580.95", ("NVIDIA H100", "NVIDIA T4"))),
        ("echo 'No devices were found'", None),
        ("exit 9", None),
    ],
)
def test_the_driver_is_asked_by_its_own_program(tmp_path, monkeypatch, program, expected):
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert nvidia_driver() == expected
    script.unlink()


def test_few_cores_and_little_memory_are_noted(monkeypatch, tmp_path):
    assert cores(2, 1).state == "note"
    assert cores(16, 1).state == "good"
    busy = cores(16, 1, "load 40 on 16 cores")
    assert (busy.state, "load 40" in busy.found, "too long" in busy.advice) == ("note", True, True)
    memory = SimpleNamespace(available=2e9, total=4e9)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=64e6))
    of_host, of_shared = memory_findings(tmp_path)
    assert (of_host.state, of_shared.state) == ("note", "note")
    assert "--shm-size" in of_shared.advice


def test_a_full_a_read_only_and_a_slow_folder(tmp_path, monkeypatch):
    assert folder_finding("raw", tmp_path / "not" / "there").state in ("good", "note")

    def refuses(_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "disk_speed", refuses)
        found = folder_finding("results", tmp_path)
        assert found.state == "bad"
        assert "Permission denied" in found.found
        assert "--results" in found.advice
    with monkeypatch.context() as patch:
        patch.setattr(storage, "disk_speed", lambda _: (5e6, 9e8))
        assert "local disk" in folder_finding("preprocessed", tmp_path).advice
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: SimpleNamespace(free=5e8))
    assert folder_finding("raw", tmp_path).state == "bad"


def test_downloaded_encoders_are_at_hand(tmp_path):
    source = storage.FAMILIES["ct-fm"].source
    assert "ct-fm" not in encoders_at_hand(tmp_path).found
    (tmp_path / "ct-fm").mkdir()
    (tmp_path / "ct-fm" / source.name).touch()
    assert "ct-fm" in encoders_at_hand(tmp_path).found
    assert "mini" in encoders_at_hand(find_folders().encoders).found


def test_the_trial_says_how_long_a_training_takes(monkeypatch):
    monkeypatch.setattr(trial, "_steps", lambda *_: (2.0, [1.0, 0.5]))
    assert "100,000 of them: 2 days" in trial_finding("cpu", 100_000).found
    long = trial_finding("cpu", 1_000_000)
    assert long.state == "note"
    assert "--hours" in long.advice


@pytest.mark.parametrize("losses", [[1.0, 1.5], [1.0, float("nan")]])
def test_a_device_that_computes_wrongly_is_bad(monkeypatch, losses):
    monkeypatch.setattr(trial, "_steps", lambda *_: (0.1, losses))
    assert trial_finding("cpu", 1000).state == "bad"


def test_a_step_that_fails_is_a_finding(monkeypatch):
    def fails(*_):
        raise RuntimeError("CUDA error: no kernel image\nmore")

    monkeypatch.setattr(trial, "_steps", fails)
    found = trial_finding("cpu", 1000)
    assert found.state == "bad"
    assert found.found == "fails: CUDA error: no kernel image"
    assert trial_finding("cuda:77", 1000).state == "bad"


def test_texts_of_findings():
    findings = [
        Finding("a", "one", "there"),
        Finding("a", "longer", "not there", "bad", "get it"),
        Finding("b", "two", "slow", "note"),
    ]
    assert findings_text(findings).splitlines() == [
        "a", "  ok    one     there", "  BAD   longer  not there", "                -> get it", "",
        "b", "  note  two     slow",
    ]  # fmt: skip
    assert pasteable(findings).splitlines()[2] == "a | longer: not there [bad]"
    assert findings_json(findings)["state"] == "bad"
    assert findings_json(findings[:1])["state"] == "good"
