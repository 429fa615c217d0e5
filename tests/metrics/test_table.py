"""One row for each metric: what it says, who reads it, and what adding one takes."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gdmunet
from gdmunet.errors import GdmError
from gdmunet.metrics import METRICS, metric_of_cases, metrics_in
from gdmunet.metrics.reference import with_table

PACKAGE = Path(gdmunet.__file__).parent
PAGE = PACKAGE.parent / "documentation" / "reference" / "metrics.md"

# Files outside gdmunet/metrics that name a metric, and why.
NAMED_ELSEWHERE = {
    "cli/demo_run.py": "compares the model's MAE with the MAE of naive references",
    "encoders/registry.py": "mae is the encoder family of masked autoencoders",
    "evaluation/comparison/paired.py": "reads the labels of distances that comparisons of version 1 hold",
    "evaluation/distributions/judgement.py": "holds the scores that its formulas give",
    "evaluation/report/sections.py": "MAE is the title of the journal's curve of validation patches",
    "training/loop/progress_figure.py": "draws the drift's own Frechet distance of the journal",
    "training/trainers/forces.py": "reports the drift's own Frechet distance",
    "training/drift/options.py": "mmd is a field of the drift",
    "training/drift/fields.py": "mmd is a field of the drift",
}


@pytest.mark.parametrize(
    ("name", "worse", "better"),
    [("mae", 3.0, 2.0), ("psnr", 20.0, 30.0), ("bias", -3.0, 2.0), ("detail", 0.5, 0.9), ("detail", 1.6, 0.9)],
)
def test_a_row_knows_which_of_two_values_is_better(name, worse, better):
    assert METRICS[name].badness(worse) > METRICS[name].badness(better)


def test_heads_have_the_metric_s_own_unit():
    heads = {name: metric.head("HU") for name, metric in METRICS.items()}
    assert (heads["mae"], heads["psnr"], heads["hd95"]) == ("MAE (HU)", "PSNR (dB)", "HD95 (mm)")
    for name in ("ms_ssim", "ssim", "nmi", "detail", "dice", "frechet", "mmd", "seam"):
        assert "(" not in heads[name]
    assert METRICS["mae"].head("") == "MAE"


def test_texts_have_the_row_s_decimals_and_significant_digits_where_no_size_is_known():
    mae, ssim, mmd = METRICS["mae"], METRICS["ssim"], METRICS["mmd"]
    assert [mae.text(value, "HU") for value in (31.456, 0.123, None)] == ["31.46", "0.12", "-"]
    assert [mae.text(value, "") for value in (31.456, 0.00123456)] == ["31.46", "0.001235"]
    assert ssim.text(0.98765, "HU") == "0.9877"
    assert mmd.text(0.000123456, "HU") == "0.0001235"
    assert mae.text(2.0, "HU", signed=True) == "+2.00"
    assert METRICS["bias"].text(-0.001, "HU") == "0.00"
    assert mae.sentence(31.456, "HU") == "MAE 31.46 HU"
    assert ssim.sentence(0.5, "HU") == "SSIM 0.5000"


def test_an_unknown_metric_of_cases_names_the_known_ones():
    assert metric_of_cases("detail") is METRICS["detail"]
    for name in ("ma", "frechet", "seam"):
        with pytest.raises(GdmError, match="mae, psnr"):
            metric_of_cases(name)


def test_the_order_of_tables_is_that_of_the_rows():
    assert [metric.name for metric in metrics_in({"dice", "mae", "psnr", "unknown"})] == ["mae", "psnr", "dice"]


def test_the_reference_page_has_the_rows():
    remedy = "python -m gdmunet.metrics.reference documentation/reference/metrics.md"
    assert PAGE.read_text(encoding="utf-8") == with_table(PAGE.read_text(encoding="utf-8")), remedy


def test_no_other_file_names_a_metric():
    words = {word for metric in METRICS.values() for word in (metric.name, metric.label)}
    found = set()
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE).as_posix()
        if not place.startswith("metrics/"):
            texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
            found |= {place} if words & texts else set()
    assert found == set(NAMED_ELSEWHERE)


# ---- the recipe: a function in a file of metrics/ and a row of the table, nothing else

FUNCTION = """
import numpy as np

def largest_error(target, prediction, mask=None):
    inside = slice(None) if mask is None else mask > 0
    return float(np.abs(target.astype(float) - prediction)[inside].max())
"""
ROW = """    Metric(
        name="largest",
        label="largest error",
        unit="target",
        best="low",
        decimals=1,
        meaning="largest absolute error",
        main=True,
        score=lambda pair: largest_error(pair.target, pair.prediction, pair.mask),
    ),
)

# Name to row"""
USE = """
import sys
from pathlib import Path

import numpy as np

from gdmunet.cli import evaluate, report
from gdmunet.evaluation.comparison.files import write_comparison
from gdmunet.evaluation.comparison.paired import compare, row_from_summary
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume

root, shape = Path(sys.argv[1]), (9, 10, 11)
target = np.random.default_rng(0).normal(0, 200, shape).round().astype(np.int16)
for name, error in (("reference", 0), ("first", 7), ("second", 3)):
    for case in ("a", "b"):
        write_volume(root / name / f"{case}.mha", (target + error).astype(np.int16), Geometry(shape, (1.0, 1.0, 1.0)))
rows = []
for name in ("first", "second"):
    words = ["-ref", str(root / "reference"), "-pred", str(root / name), "--no_pbar"]
    assert evaluate.main([*words, "--html", str(root / "page.html"), "--csv", str(root / "scores.csv")]) == 0
    rows.append(row_from_summary(name, load_summary(root / name / "summary.json")))
settings = load_summary(root / "first" / "summary.json").settings
write_comparison(compare(rows, settings), root / "comparison")
assert report.main([str(root / "comparison"), "--no_pbar", "--metric", "largest"]) == 0
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.py")}


def test_a_metric_is_added_in_two_files(tmp_path):
    copy = tmp_path / "tree" / "gdmunet"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "demo", "weights"))
    before = files_of(copy)
    (copy / "metrics" / "largest.py").write_text(FUNCTION)
    table = copy / "metrics" / "table.py"
    text = table.read_text().replace(")\n\n# Name to row", ROW, 1)
    imported = "from gdmunet.metrics.detail import detail_ratio\n"
    table.write_text(text.replace(imported, f"{imported}from gdmunet.metrics.largest import largest_error\n", 1))
    after = files_of(copy)
    assert {name for name in after if after[name] != before.get(name)} == {"metrics/largest.py", "metrics/table.py"}

    environment = os.environ | {"PYTHONPATH": str(copy.parent)}
    command = [sys.executable, "-c", USE, str(tmp_path)]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "first" / "summary.json").read_text())
    assert summary["cases"]["a"]["largest"] == 7
    assert summary["mean"]["largest"] == 7
    assert "largest error (HU)" in run.stdout
    assert "  7.0" in run.stdout
    assert "largest error (HU)</button>" in (tmp_path / "page.html").read_text()
    assert "largest" in (tmp_path / "scores.csv").read_text().splitlines()[0].split(",")
    comparison = tmp_path / "comparison"
    assert "| largest error (HU) |" in (comparison / "comparison.md").read_text()
    assert "**3.0 ± 0.0 (2)**" in (comparison / "comparison.md").read_text()
    assert "& largest error (HU) \\\\" in (comparison / "comparison.tex").read_text()
    assert "largest_difference" in (comparison / "comparison.csv").read_text().splitlines()[0]
    page = (comparison / "report.html").read_text()
    assert "largest error (HU)</button>" in page
    assert '"order": "largest error (HU)"' in page
    differences = json.loads((comparison / "comparison.json").read_text())["differences"]
    assert [found["better"] for found in differences if found["metric"] == "largest"] == [2]
