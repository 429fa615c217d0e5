import csv
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from gdmunet.errors import GdmError
from gdmunet.evaluation.comparison.files import format_latex, format_markdown, latex_text, write_comparison
from gdmunet.evaluation.comparison.paired import (
    BootstrapSpec,
    Comparison,
    Cost,
    TrainerRow,
    bootstrap_interval,
    compare,
    load_comparison,
    save_comparison,
    signed_rank_p_value,
)
from gdmunet.evaluation.comparison.tables import cases_csv, find_difference, table_columns, trainers_csv
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.report.content import ReportContent
from gdmunet.evaluation.report.sections import score_section
from gdmunet.evaluation.scores.summary import EvaluationSpec
from gdmunet.metrics import HU_2025

SETTINGS = EvaluationSpec("2025", HU_2025, True, "none", prediction_folder="somewhere")
GROUPS = {f"case_{k}": {"region": "head" if k < 3 else "pelvis"} for k in range(6)}


def row(trainer: str, maes: list[float], **more) -> TrainerRow:
    cases = {f"case_{k}": {"mae": mae, "psnr": 60 - mae, "bias": -mae / 10} for k, mae in enumerate(maes)}
    return TrainerRow(trainer, cases, **more)


@pytest.fixture
def comparison() -> Comparison:
    rows = [
        row(
            "First",
            [10, 20, 30, 40, 50, 60],
            cost=Cost(1, 2.5, 900.0, 120.0, 1_500_000),
            judgements=(Judgement("mini", "", 3.0, 0.1),),
        ),
        row("Second_B", [9, 18, 27, 36, 45, 54], cost=Cost(50, 125.0)),
        TrainerRow("Broken", failure="out of memory | 80 GB & more\nof them"),
    ]
    return compare(rows, SETTINGS, GROUPS, title="Dataset501 3d_fullres")


def test_differences_are_paired_and_to_the_first_trainer(comparison):
    found = find_difference(comparison, "Second_B", "mae")
    assert (found.cases, found.mean, found.better) == (6, -3.5, 6)
    assert found.interval[0] < -3.5 < found.interval[1] < 0
    assert find_difference(comparison, "Second_B", "psnr").better == 6
    assert find_difference(comparison, "First", "mae") is None
    assert find_difference(comparison, "Broken", "mae") is None


def test_the_p_value_is_that_of_all_sign_patterns():
    differences = np.array([1.0, -2.0, 3.0, 4.0, 5.0, 6.5, 7.0])
    ranks = np.arange(1, 8)
    observed = abs((np.sign(differences) * ranks).sum())
    sums = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=7)]
    assert signed_rank_p_value(differences) == pytest.approx(np.mean(np.array(sums) >= observed))
    assert signed_rank_p_value(np.zeros(4)) == 1.0


def test_the_interval_is_that_of_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).normal(2, 1, 40)
    own = bootstrap_interval(values, BootstrapSpec(resamples=20_000))
    other = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert own == pytest.approx((other.low, other.high), abs=0.02)
    assert own == bootstrap_interval(values, BootstrapSpec(resamples=20_000))


def test_only_cases_that_both_have_are_paired():
    second = row("Second", [1, 1, 1])
    second.cases["case_1"] = {"error": "no prediction"}
    second.cases["case_2"] = {"mae": 1.0, "psnr": None}
    found = compare([row("First", [10, 20, 30, 40]), second], SETTINGS)
    assert find_difference(found, "Second", "mae").cases == 2
    assert find_difference(found, "Second", "psnr").cases == 1
    assert find_difference(found, "Second", "psnr").interval is None
    assert found.statistics["Second"].count == {"mae": 2, "psnr": 1, "bias": 1}


def test_groups_have_their_own_statistics_and_differences(comparison):
    assert comparison.groups["region"]["head"]["First"].mean["mae"] == 20
    assert find_difference(comparison, "Second_B", "mae", "region", "pelvis").mean == -5
    assert find_difference(comparison, "Second_B", "mae", "region", "pelvis").cases == 3


def test_a_bias_is_better_when_it_is_nearer_to_zero():
    assert find_difference(compare([row("A", [30.0]), row("B", [-10.0])], SETTINGS), "B", "bias").better == 1
    assert find_difference(compare([row("A", [10.0]), row("B", [-30.0])], SETTINGS), "B", "bias").better == 0


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(GdmError, match="different names"):
        compare([row("A", [1]), row("A", [2])], SETTINGS)
    with pytest.raises(GdmError, match="none"):
        compare([], SETTINGS)


def test_what_is_written_is_read_back_the_same(comparison, tmp_path: Path):
    files = write_comparison(comparison, tmp_path)
    assert {file.name for file in files} == {file.name for file in tmp_path.iterdir()}
    assert load_comparison(tmp_path / "comparison.json") == comparison
    assert comparison.settings == replace(SETTINGS, prediction_folder="")


def test_the_csv_of_cases_has_a_line_a_trainer_and_case(comparison):
    lines = list(csv.DictReader(io.StringIO(cases_csv(comparison))))
    assert len(lines) == 13
    assert (lines[7]["trainer"], lines[7]["case"], lines[7]["mae"]) == ("Second_B", "case_1", "18")
    assert lines[12]["error"].startswith("out of memory")


def test_the_csv_of_trainers_has_means_differences_and_costs(comparison):
    first, second, broken = list(csv.DictReader(io.StringIO(trainers_csv(comparison))))[:3]
    assert {line["kind"] + line["group"] for line in (first, second, broken)} == {""}
    assert (first["mae_mean"], first["mae_difference"], first["Frechet (mini)"], first["parameters"]) == (
        "35.0", "", "3.0", "1500000",
    )  # fmt: skip
    assert (second["mae_difference"], second["mae_count"], second["network_passes"]) == ("-3.5", "6", "50")
    assert broken["mae_mean"] == ""
    assert broken["failure"].startswith("out of memory")


def test_the_csv_of_trainers_has_a_line_a_group(comparison):
    lines = list(csv.DictReader(io.StringIO(trainers_csv(comparison))))[3:]
    assert [(line["trainer"], line["kind"], line["group"]) for line in lines] == [
        (trainer, "region", group) for group in ("head", "pelvis") for trainer in ("First", "Second_B")
    ]
    first, second = lines[2:]
    assert (first["mae_mean"], first["mae_count"], first["mae_difference"]) == ("50.0", "3", "")
    assert (second["mae_mean"], second["mae_difference"]) == ("45.0", "-5.0")
    assert second["network_passes"] == second["Frechet (mini)"] == second["failure"] == ""


def test_latex_has_the_groups_that_markdown_has(comparison):
    text = format_latex(comparison)
    pelvis = text[text.index("% region: pelvis") :]
    assert "% region: head" in text
    assert "First & 50.00 $\\pm$" in pelvis
    assert "Second\\_B & 45.00 $\\pm$" in pelvis
    assert "% differences to the first trainer, region: pelvis" in pelvis
    assert "-5.00 [" in pelvis


def test_the_best_of_each_column_is_marked_and_empty_columns_are_left_out(comparison):
    best = {column.head: column.best for column in table_columns(comparison)}
    assert best == {
        "MAE (HU)": 31.5, "PSNR (dB)": 28.5, "Frechet (mini)": None, "MMD (mini)": None,
        "network passes": 1, "s per volume": 2.5,
        "peak memory (MB)": None, "training (min)": None, "parameters (M)": None,
    }  # fmt: skip


def test_markdown_has_every_row_with_as_many_cells_as_its_head(comparison):
    text = format_markdown(comparison)
    for block in text.split("\n\n"):
        widths = {line.replace("\\|", "").count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1
    assert "**31.50 ± 15.37 (6)**" in text
    assert "out of memory \\| 80 GB & more of them" in text
    assert "## region: head" in text


def test_latex_escapes_names_and_closes_what_it_opens(comparison):
    text = format_latex(comparison)
    assert "Second\\_B" in text
    assert "\\textbf{31.50 $\\pm$ 15.37 (6)}" in text
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 6
    assert latex_text("a_b & 5% \\x") == "a\\_b \\& 5\\% \\textbackslash{}x"
    assert all(line.startswith("%") for line in text.splitlines() if "out of memory" in line)


def test_a_trainer_that_comes_nearer_has_a_price_and_the_first_has_none():
    rows = [
        row("A", [100.0], judgements=(Judgement("mini", "", 0.4, 0.1),)),
        row("B", [110.0], judgements=(Judgement("mini", "", 0.1, 0.1),)),
        row("C", [110.0], judgements=(Judgement("mini", "", 0.5, 0.1),)),
    ]
    column = next(column for column in table_columns(compare(rows, SETTINGS)) if column.head == "price ratio (mini)")
    assert column.values == (None, pytest.approx((1.1**2 - 1) / 0.25), None)
    assert column.texts == ("-", "0.84", "-")


def test_intervals_stand_beside_distances():
    rows = [row("A", [1.0], judgements=(Judgement("mini", "", 0.1, 0.002, {}, (0.05, 0.2)),))]
    column = next(column for column in table_columns(compare(rows, SETTINGS)) if column.head == "Frechet (mini)")
    assert column.texts == ("0.1 [0.05, 0.2]",)


def test_a_comparison_of_the_first_version_is_read(comparison, tmp_path):
    save_comparison(comparison, tmp_path / "comparison.json")
    content = json.loads((tmp_path / "comparison.json").read_text())
    del content["version"]
    for number, line in enumerate(content["rows"]):
        del line["judgements"]
        line["distances"] = {"Frechet (mini)": 3.0, "MMD (mini)": 0.1} if number == 0 else {}
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    assert load_comparison(tmp_path / "comparison.json") == comparison


def detail_rows() -> list[TrainerRow]:
    sharp, blurred = (
        {f"case_{k}": {"detail": value, "dice": 0.5, "hd95": 2.0} for k in range(4)} for value in (0.9, 0.3)
    )
    return [TrainerRow("Sharp", sharp), TrainerRow("Blurred", blurred)]


def test_a_blurred_trainer_is_not_the_better_one():
    assert find_difference(compare(detail_rows(), SETTINGS), "Blurred", "detail").better == 0
    assert find_difference(compare(detail_rows()[::-1], SETTINGS), "Sharp", "detail").better == 4


def test_no_table_heads_a_ratio_or_a_distance_in_mm_with_hounsfield_units():
    found = score_section(ReportContent("comparison", Path(), "", {}, comparison=compare(detail_rows(), SETTINGS)))
    further = next(part for part in found.parts if part.heading == "Further scores")
    assert further.tables[0].heads == ("trainer", "detail", "Dice", "HD95 (mm)")


def test_a_distance_is_best_at_zero():
    rows = [
        row("A", [1.0], judgements=(Judgement("mini", "", 0.1, 0.002),)),
        row("B", [1.0], judgements=(Judgement("mini", "", 0.1, -0.001),)),
    ]
    column = next(column for column in table_columns(compare(rows, SETTINGS)) if column.head == "MMD (mini)")
    assert column.best == -0.001
    assert column.texts == ("0.002", "-0.001")
