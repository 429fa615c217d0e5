"""Code that data name runs if the user of this machine allowed it, for these bytes alone."""

import dataclasses
import sys

import pytest

from gdmunet.cli import trust as trust_command
from gdmunet.consents import ConsentList, allow, file_sha256, read_consents, source_of, withdraw
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.errors import GdmError
from gdmunet.plans import NormalizationSpec

UNITS = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -200.0, 400.0), -1000.0, "CT")
HOSTILE = "import pathlib\npathlib.Path({!r}).write_text('ran')\n\n\ndef factory(*arguments):\n    return None\n"


@pytest.fixture
def hostile(tmp_path):
    """A file of code that leaves a trace when it runs, and the place of the trace."""
    file, trace = tmp_path / "evil.py", tmp_path / "trace"
    file.write_text(HOSTILE.format(str(trace)))
    return file, trace


def stolen(tmp_path, **changes):
    """An encoder of copied plans."""
    return dataclasses.replace(choose_encoder("tiny", UNITS, 3, EncoderOptions(tmp_path)).spec, **changes)


def test_a_factory_that_plans_name_does_not_run(hostile, tmp_path):
    file, trace = hostile
    with pytest.raises(GdmError, match="nobody on this machine has allowed") as raised:
        load_encoder(stolen(tmp_path, spec=f"{file}:factory"), UNITS, tmp_path, ConsentList())
    assert not trace.exists()
    assert raised.value.command.words == ("gdm_trust", str(file))


def test_a_module_that_plans_name_is_not_imported(hostile, tmp_path, monkeypatch):
    file, trace = hostile
    package = tmp_path / "strange_package"
    package.mkdir()
    (package / "__init__.py").write_text(file.read_text())
    (package / "part.py").write_text(file.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("evil", "strange_package.part", "strange_package"):
        with pytest.raises(GdmError, match="nobody on this machine has allowed"):
            load_encoder(stolen(tmp_path, spec=f"{name}:factory"), UNITS, tmp_path, ConsentList())
    assert not trace.exists()
    assert "evil" not in sys.modules
    with pytest.raises(GdmError, match="cannot be found"):
        source_of("no_such_package.part")


def test_trust_in_the_plans_unpickles_nothing(tmp_path):
    import os
    import pickle

    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    file = tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(Evil()))
    spec = stolen(tmp_path, spec=f"nnssl:{file}", trusted=True, sha256=file_sha256(file))
    with pytest.raises(GdmError, match="nobody on this machine has allowed") as raised:
        load_encoder(spec, UNITS, tmp_path, ConsentList())
    assert not trace.exists()
    assert raised.value.command.words == ("gdm_trust", str(file))


def test_what_is_allowed_runs_until_it_changes(hostile, tmp_path):
    file, trace = hostile
    consents = tmp_path / "own" / "consents.json"
    allow(file, consents)
    spec = stolen(tmp_path, spec=f"{file}:factory")
    with pytest.raises(GdmError, match="did not make an encoder"):
        load_encoder(spec, UNITS, tmp_path, read_consents(consents))
    assert trace.exists()
    trace.unlink()
    file.write_text(file.read_text() + "\n")
    with pytest.raises(GdmError, match="nobody on this machine has allowed"):
        load_encoder(spec, UNITS, tmp_path, read_consents(consents))
    assert not trace.exists()


def test_a_consent_is_withdrawn_by_its_path_also_after_a_change(hostile, tmp_path):
    file, _ = hostile
    consents = tmp_path / "consents.json"
    first = allow(file, consents)
    assert read_consents(consents).files == {first: str(file)}
    file.write_text("")
    withdraw(file, consents)
    assert read_consents(consents).files == {}


def test_the_command_allows_lists_and_withdraws(hostile, tmp_path, monkeypatch, capsys):
    file, _ = hostile
    monkeypatch.setenv("GDM_CONSENTS", str(tmp_path / "consents.json"))
    assert not trust_command.main([str(file)])
    assert not trust_command.main([])
    assert f"{file_sha256(file)}  {file}" in capsys.readouterr().out
    assert not trust_command.main([str(file), "--withdraw"])
    assert read_consents(tmp_path / "consents.json").files == {}
    assert trust_command.main([str(tmp_path / "none.py")]) == 1
