"""Metrics of the user's own: described functions of a file, in every table, without their code."""

import json

import numpy as np
import pytest

from gdmunet.cli import evaluate, report
from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.files import write_comparison
from gdmunet.evaluation.comparison.paired import compare, load_comparison, row_from_summary
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.metrics import METRICS, OwnMetricSpec, metrics_in, own_metrics

FILE = '''
from gdmunet.metrics import described

@described("worst error", unit="target", best="low", decimals=1)
def worst(pair):
    """Largest absolute error in the mask.

    More about it.
    """
    target, prediction = pair.values
    return abs(prediction - target).max()

@described("share above", unit="%", best=100.0)
def never(pair):
    return None

@described("fails", best="high")
def fails(pair):
    raise KeyError("here")

def bare(pair):
    return 1.0

@described("mine", best="low")
def mae(pair):
    return 0.0

@described("direction", best="lowest")
def direction(pair):
    return 0.0
'''
SHAPE = (9, 10, 11)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def write_folders(root, **errors):
    target = np.random.default_rng(0).normal(0, 200, SHAPE).round().astype(np.int16)
    for name, error in {"reference": 0, **errors}.items():
        for case in ("a", "b"):
            values = target.copy()
            values[4, 5, 6] += error
            write_volume(root / name / f"{case}.mha", values, Geometry(SHAPE, (1.0, 1.0, 1.0)))


def test_a_metric_of_a_file_is_in_every_table_and_its_code_in_none(tmp_path, file, capsys):
    write_folders(tmp_path, first=70, second=30)
    rows = []
    for name in ("first", "second"):
        words = ["-ref", str(tmp_path / "reference"), "-pred", str(tmp_path / name), "--no_pbar"]
        words += ["--metric", f"{file}:worst", f"{file}:never", "-np", "2", "--csv", str(tmp_path / "s.csv")]
        assert evaluate.main(words) == 0
        rows.append(row_from_summary(name, load_summary(tmp_path / name / "summary.json")))
    assert "worst error (HU)" in capsys.readouterr().out
    summary = json.loads((tmp_path / "first" / "summary.json").read_text())
    assert summary["cases"]["a"]["worst"] == 70
    assert summary["cases"]["a"]["never"] is None
    assert summary["mean"]["worst"] == 70
    [stored, _] = summary["settings"]["own_metrics"]
    assert (stored["label"], stored["unit"], stored["best"]) == ("worst error", "target", "low")
    assert stored["meaning"] == "Largest absolute error in the mask."
    assert "worst" in (tmp_path / "s.csv").read_text().splitlines()[0].split(",")
    settings = load_summary(tmp_path / "first" / "summary.json").settings
    write_comparison(compare(rows, settings), tmp_path / "comparison")
    file.unlink()  # whoever reads the scores needs the row alone
    del METRICS["worst"], METRICS["never"]
    found = load_comparison(tmp_path / "comparison" / "comparison.json")
    assert [one.better for one in found.differences if one.metric == "worst"] == [2]
    assert "| worst error (HU) |" in (tmp_path / "comparison" / "comparison.md").read_text()
    assert "**30.0 ± 0.0 (2)**" in (tmp_path / "comparison" / "comparison.md").read_text()
    assert report.main([str(tmp_path / "comparison"), "--no_pbar", "--metric", "worst"]) == 0
    assert '"order": "worst error (HU)"' in (tmp_path / "comparison" / "report.html").read_text()


def test_a_row_knows_unit_and_direction(file):
    own_metrics([f"{file}:worst", f"{file}:never"])
    worst, never = metrics_in({"worst", "never"})
    assert (worst.head("HU"), never.head("HU")) == ("worst error (HU)", "share above (%)")
    assert worst.badness(2.0) < worst.badness(3.0)
    assert never.badness(99.0) < never.badness(102.0)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mine.py:bare", "has no label"),
        ("mine.py:mae", "known already"),
        ("mine.py:direction", "direction of the metric"),
        ("mine.py:none", "no function none"),
        ("mine.py", "does not name a function"),
        ("other.py:worst", "file is missing"),
        ("no_such_module:worst", "cannot be imported"),
    ],
)
def test_what_cannot_be_a_metric_is_refused(monkeypatch, file, place, words):
    monkeypatch.chdir(file.parent)
    with pytest.raises(GdmError, match=words):
        own_metrics([place])
    assert not {"bare", "direction"} & set(METRICS)


def test_a_function_that_fails_names_case_and_metric(tmp_path, file, capsys):
    write_folders(tmp_path, first=70)
    words = ["-ref", str(tmp_path / "reference"), "-pred", str(tmp_path / "first"), "--no_pbar"]
    assert evaluate.main([*words, "--metric", f"{file}:fails"]) == 1
    said = capsys.readouterr().err
    assert "case: a" in said
    assert "KeyError: 'here'" in said


def test_two_descriptions_of_one_name_are_refused():
    OwnMetricSpec("mine", "mine", "mm", "low", 1, "my own")
    OwnMetricSpec("mine", "mine", "mm", "low", 1, "my own")
    with pytest.raises(GdmError, match="two metrics have the same name"):
        OwnMetricSpec("mine", "mine", "mm", "high", 1, "my own")
    with pytest.raises(GdmError, match="two metrics have the same name"):
        OwnMetricSpec("mae", "mine", "mm", "low", 1, "my own")
