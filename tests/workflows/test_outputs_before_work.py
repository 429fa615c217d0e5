"""A file that cannot be written is refused before the work whose result it holds."""

from pathlib import Path

import pytest

from gdmunet.errors import GdmError
from gdmunet.paths import find_folders
from gdmunet.workflows import audit_encoder, evaluate, report
from gdmunet.workflows.requests.encoders import AuditEncoderRequest
from gdmunet.workflows.requests.evaluation import EvaluateRequest, ReportRequest

IMPOSSIBLE = Path("/proc/none/file")


def run_evaluate(tmp_path, **outputs):
    request = EvaluateRequest(**{"reference": tmp_path, "prediction": tmp_path, **outputs})
    evaluate.evaluate(request, find_folders())


def run_report(tmp_path, **outputs):
    report.report(ReportRequest(folder=tmp_path, **outputs), find_folders())


def run_audit(tmp_path, **outputs):
    audit_encoder.audit_encoder(AuditEncoderRequest(encoder="tiny", input=(tmp_path,), **outputs), find_folders())


WORK = {
    run_evaluate: (evaluate, "_groups"),
    run_report: (report, "_read"),
    run_audit: (audit_encoder, "_from_files"),
}


@pytest.fixture(params=[
    (run_evaluate, "output"), (run_evaluate, "csv"), (run_evaluate, "html"), (run_report, "output"), (run_audit, "json")
], ids=lambda case: f"{case[0].__name__}-{case[1]}")  # fmt: skip
def command(request, tmp_path, monkeypatch):
    """The command with its output, whose work fails the test."""
    run, option = request.param
    monkeypatch.setattr(*WORK[run], lambda *_arguments: pytest.fail("the work began"))
    return lambda file: run(tmp_path, **{option: file})


def test_a_folder_that_cannot_be_made(command):
    with pytest.raises(GdmError, match="cannot make the folder"):
        command(IMPOSSIBLE)


def test_a_folder_in_the_place_of_the_file(command, tmp_path):
    with pytest.raises(GdmError, match="choose another file name: there is a folder of this name"):
        command(tmp_path)


def test_what_can_be_written_leaves_no_trace(command, tmp_path):
    with pytest.raises(pytest.fail.Exception, match="the work began"):
        command(tmp_path / "new" / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert not list((tmp_path / "new").iterdir())
