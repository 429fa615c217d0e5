from pathlib import Path

import pytest
from report_samples import make_evaluation

from gdmunet.cli.flags import parser_of
from gdmunet.cli.report import main
from gdmunet.workflows.requests.evaluation import ViewRequest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_evaluation(tmp_path, {"case_1": 20.0, "case_2": -60.0})[0]


def test_the_page_is_written_beside_the_scores(folder, capsys):
    assert main([str(folder), "--no_pbar", "--volumes", "0"]) == 0
    assert "2 cases, 2 with slices, 0 with volumes" in capsys.readouterr().out
    assert (folder / "report.html").stat().st_size < 300_000


def test_what_could_not_be_found_is_said(folder, capsys, tmp_path):
    (tmp_path / "Dataset501_Sample").rename(tmp_path / "moved")
    assert main([str(folder), "--no_pbar", "-o", str(tmp_path / "page.html")]) == 0
    assert "note: The targets were not found" in capsys.readouterr().out
    assert (tmp_path / "page.html").is_file()


def test_an_unknown_metric_or_folder_is_an_error(folder, capsys, tmp_path):
    assert main([str(folder), "--metric", "mea"]) == 1
    assert "expected: mae, psnr" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 1
    assert "summary.json" in capsys.readouterr().err


def test_viewing_has_the_same_source_flags(folder):
    arguments = parser_of(ViewRequest).parse_args([str(folder), "--port", "0", "-ref", str(folder)])
    assert (arguments.folder, arguments.reference, arguments.port) == (folder, folder, 0)
