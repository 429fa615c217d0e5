import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gdmunet.errors import GdmError
from gdmunet.evaluation.report.page import write_scores_page
from gdmunet.evaluation.scores.summary import EvaluationSpec, load_summary, save_summary, summarize
from gdmunet.evaluation.scores.summary_text import format_table, write_csv
from gdmunet.metrics import HU_2025, ImageScores

SETTINGS = EvaluationSpec("2025", HU_2025, True, "given", "ref", "pred", "masks", versions={"gdmunet": "0"})


def scores(mae: float, psnr: float | None) -> ImageScores:
    notes = {"psnr": "infinite: the images are identical"} if psnr is None else {}
    return ImageScores({"mae": mae, "psnr": psnr, "ms_ssim": 0.9}, notes)


RESULTS = {
    "d": scores(40.0, 20.0),
    "a": scores(10.0, 30.0),
    "b": scores(0.0, None),
    "c": scores(20.0, 26.0),
    "lost": "no prediction <here>",
}
GROUPS = {"a": {"region": "head"}, "b": {"region": "head"}, "c": {"region": "thorax"}, "lost": {"region": "head"}}


def test_statistics_are_those_of_the_values_that_exist():
    summary = summarize(RESULTS, SETTINGS, GROUPS)
    assert list(summary.cases) == ["a", "b", "c", "d", "lost"]
    assert summary.mean["mae"] == 17.5
    assert summary.std["mae"] == pytest.approx(14.7902, abs=1e-4)  # of 0, 10, 20, 40, divided by 4
    assert summary.median["mae"] == 15
    assert summary.quartiles["mae"] == (7.5, 25)
    assert (summary.min["mae"], summary.max["mae"]) == (0, 40)
    assert summary.count == {"mae": 4, "psnr": 3, "ms_ssim": 4}
    assert summary.mean["psnr"] == pytest.approx(76 / 3)
    assert summary.failed == 1


def test_means_have_an_interval_over_cases():
    """A mean of resamples of two cases is one of theirs in half of the draws."""
    summary = summarize(RESULTS, SETTINGS, GROUPS)
    assert summary.groups["region"]["head"].interval == {"mae": (0, 10), "ms_ssim": pytest.approx((0.9, 0.9))}
    assert "mae" not in summary.groups["region"]["thorax"].interval
    low, high = summary.interval["mae"]
    deviation = summary.std["mae"] / 2
    assert low == pytest.approx(17.5 - 1.96 * deviation, abs=3)
    assert high == pytest.approx(17.5 + 1.96 * deviation, abs=3)
    assert summary.statistics.interval == summary.interval
    lines = {line.split("  ")[0]: line for line in format_table(summary).splitlines()}
    assert f"{low:.2f}" in lines["mean from (95 %)"]
    assert f"{high:.2f}" in lines["mean to (95 %)"]


def test_groups_have_their_own_statistics_and_leave_failed_cases_out():
    groups = summarize(RESULTS, SETTINGS, GROUPS).groups
    assert set(groups) == {"region"}
    assert groups["region"]["head"].mean["mae"] == 5
    assert groups["region"]["head"].count == {"mae": 2, "psnr": 1, "ms_ssim": 2}
    assert groups["region"]["thorax"].count["mae"] == 1


def test_the_file_has_the_documented_keys_and_no_infinity(tmp_path: Path):
    file = tmp_path / "summary.json"
    save_summary(summarize(RESULTS, SETTINGS, GROUPS), file)
    content = json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in the file"))
    assert content["cases"]["a"] == {"mae": 10.0, "psnr": 30.0, "ms_ssim": 0.9}
    assert content["cases"]["b"]["psnr"] is None
    assert "infinite" in content["notes"]["b"]["psnr"]
    assert content["cases"]["lost"] == {"error": "no prediction <here>"}
    assert content["mean"]["mae"] == 17.5
    assert content["groups"]["region"]["head"]["mean"]["mae"] == 5
    assert content["settings"]["range"] == "2025"
    assert content["settings"]["value_range"] == {"low": -1024.0, "high": 3071.0, "background": -1024.0}
    assert content["settings"]["versions"] == {"gdmunet": "0"}


def test_what_is_written_is_read_back_the_same(tmp_path: Path):
    summary = summarize(RESULTS, SETTINGS, GROUPS)
    save_summary(summary, tmp_path / "summary.json")
    assert load_summary(tmp_path / "summary.json") == summary


def test_no_scores_at_all_is_an_error():
    with pytest.raises(GdmError, match=r"no case could be scored(.|\n)*lost(.|\n)*no prediction"):
        summarize({"lost": "no prediction"}, SETTINGS)
    with pytest.raises(GdmError, match="no case at all"):
        summarize({}, SETTINGS)


def test_csv_has_one_line_a_case(tmp_path: Path):
    write_csv(summarize(RESULTS, SETTINGS), tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c", "d", "lost"]
    assert rows[0] == {"case": "a", "mae": "10.0", "psnr": "30.0", "ms_ssim": "0.9", "error": ""}
    assert rows[1]["psnr"] == ""
    assert rows[4] == {"case": "lost", "mae": "", "psnr": "", "ms_ssim": "", "error": "no prediction <here>"}


def test_the_table_shows_range_cases_groups_and_failures():
    lines = format_table(summarize(RESULTS, SETTINGS, GROUPS)).splitlines()
    assert "-1024 to 3071 HU, dynamic range 4095" in lines[0]
    assert lines[1].split() == ["case", "MAE", "(HU)", "PSNR", "(dB)", "MS-SSIM"]
    assert lines[2].split() == ["a", "10.00", "30.00", "0.9000"]
    assert lines[3].split() == ["b", "0.00", "-", "0.9000"]
    assert any(line.split() == ["mean", "17.50", "25.33", "0.9000"] for line in lines)
    assert any(line.split() == ["count", "4", "3", "4"] for line in lines)
    assert any(line.startswith("region head: mean of 2") for line in lines)
    assert any("1 of 5 cases have no scores" in line for line in lines)
    assert any("lost: no prediction" in line for line in lines)
    assert any("infinite" in line for line in lines)


def test_a_long_table_is_cut_and_says_so():
    many = {f"case_{k:02d}": scores(float(k), 20.0) for k in range(50)}
    text = format_table(summarize(many, SETTINGS), most=5)
    assert "... 45 more" in text
    assert "case_06" not in text


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path):
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags = []
            self.text = ""

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

        def handle_data(self, data):
            self.text += data

    write_scores_page(summarize(RESULTS, SETTINGS, GROUPS), tmp_path / "summary.html", "Scores of <a> & b")
    reader = Reader()
    reader.feed((tmp_path / "summary.html").read_text(encoding="utf-8"))
    assert reader.tags.count("table") == 2
    for words in ("Scores of <a> & b", "no prediction <here>", "17.50", "By region", "thorax", "dynamic range 4095"):
        assert words in reader.text
