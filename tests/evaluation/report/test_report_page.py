import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_samples import EVIL, EVIL_CASE, SHAPE, make_comparison, make_evaluation, make_training

from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.judgement import Judgement
from gdmunet.evaluation.report import page
from gdmunet.evaluation.report.cases import load_case, slices_of
from gdmunet.evaluation.report.charts import Curve, curves, distributions, nice_ticks
from gdmunet.evaluation.report.content import ReportContent, content_of_summary, worst_and_best
from gdmunet.evaluation.report.encoding import unpack_plane
from gdmunet.evaluation.report.page import PageOptions, write_page
from gdmunet.evaluation.report.score_tables import case_line, score_table
from gdmunet.evaluation.report.sources import VolumeFolders, read_content
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.evaluation.scores.summary_text import format_table
from gdmunet.metrics import METRICS, metrics_in

NAMES = {"case_1": 20.0, EVIL_CASE: -60.0, "case_3": 40.0}
VOID = {"meta", "img", "input", "br"}


class Reader(HTMLParser):
    """Collects texts, scripts and attributes, and checks that elements close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.scripts: dict[str, str] = {}
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            identifier = self.tags[-1][1].get("id")
            self.scripts[identifier or f"code-{len(self.scripts)}"] = data
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("evaluation"), NAMES)[0]


def written(folder: Path, file: Path, **limits) -> tuple[page.WrittenPage, Reader]:
    found = write_page(read_content(folder), file, PageOptions(show_progress=False, **limits))
    return found, Reader(file.read_text())


def test_the_page_of_an_evaluation_is_whole_and_names_are_escaped(evaluation, tmp_path):
    found, reader = written(evaluation, tmp_path / "r.html")
    assert (found.cases, found.pictures, found.volumes) == (3, 3, 3)
    assert found.size == (tmp_path / "r.html").stat().st_size
    assert not {"img", "b"} & {tag for tag, _ in reader.tags}
    assert EVIL in reader.texts
    assert EVIL_CASE in reader.texts
    data = json.loads(reader.scripts["report-data"])
    assert [case["name"] for case in data["cases"]] == [EVIL_CASE, "case_1", "case_3"]
    assert (data["unit"], data["condition"], data["target"], data["comparable"]) == ("HU", "MR", "CT", False)


def test_nothing_of_the_page_lies_elsewhere(evaluation, tmp_path):
    _, reader = written(evaluation, tmp_path / "r.html")
    assert not any({"src", "href", "srcset"} & set(attributes) for _, attributes in reader.tags)
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "url(" not in page.asset("report.css")
    assert "@import" not in page.asset("report.css")


def test_slices_hold_the_true_values_of_the_body_s_middle(evaluation):
    content = read_content(evaluation)
    case = load_case(next(files for files in content.files if files.identifier == "case_1"))
    shown = slices_of(case)
    axial, coronal, _ = shown["cuts"]
    assert [(cut["name"], cut["index"], cut["count"]) for cut in shown["cuts"]] == [
        ("axial", 5, 12), ("coronal", 9, 20), ("sagittal", 7, 16),
    ]  # fmt: skip
    assert np.array_equal(unpack_plane(axial["target"], 20, 16), case.target[5])
    # The head is up.
    assert np.array_equal(unpack_plane(coronal["target"], 12, 16), case.target[::-1, 9])
    assert coronal["millimetres"] == [36, 24]
    difference = unpack_plane(axial["predictions"][0], 20, 16) - unpack_plane(axial["target"], 20, 16)
    assert np.all(difference == 20)
    assert shown["error"] == 20


def test_large_slices_keep_every_second_voxel(evaluation, monkeypatch):
    monkeypatch.setattr("gdmunet.evaluation.report.cases.SLICE_SIDE", 10)
    case = load_case(read_content(evaluation).files[0])
    axial = slices_of(case)["cuts"][0]
    assert (axial["rows"], axial["columns"], axial["step"]) == (10, 8, 2)
    assert np.array_equal(unpack_plane(axial["target"], 10, 8), case.target[5, ::2, ::2])


def test_a_small_page_leaves_pictures_out_and_says_so(evaluation, tmp_path):
    bare, _ = written(evaluation, tmp_path / "bare.html", pictures=0, volumes=0)
    one = len(page.show_case(read_content(evaluation).files[0], False)[0])
    size = (bare.size + 1.5 * one) / 1e6
    found, reader = written(evaluation, tmp_path / "small.html", megabytes=size, volumes=0)
    assert found.size <= size * 1e6
    assert (bare.pictures, found.pictures) == (0, 1)
    cases = json.loads(reader.scripts["report-data"])["cases"]
    assert [case["slices"] for case in cases] == [True, False, False]  # the worst one
    with pytest.raises(GdmError, match="cannot be so small"):
        written(evaluation, tmp_path / "none.html", megabytes=0.01)


def test_a_hundred_cases_stay_far_below_the_limit():
    """Slices of 256 x 256 x 128 voxels of pure noise, the worst case, of all 100 cases take less than 100 MB."""
    from gdmunet.evaluation.report.encoding import pack_plane

    noise = np.random.default_rng(0).normal(0, 30, (256, 512)).astype(np.int16)
    assert 3 * len(pack_plane(noise)) * 100 < 100e6


def test_a_case_without_its_prediction_says_so(tmp_path):
    predictions, _ = make_evaluation(tmp_path, NAMES)
    (predictions / "case_3.nii.gz").unlink()
    found, reader = written(predictions, tmp_path / "r.html")
    cases = {case["name"]: case for case in json.loads(reader.scripts["report-data"])["cases"]}
    assert (found.pictures, cases["case_3"]["slices"]) == (2, False)
    assert "no prediction" in cases["case_3"]["problem"]


def test_missing_targets_are_noted_and_can_be_named(tmp_path):
    predictions, _ = make_evaluation(tmp_path, NAMES)
    raw = tmp_path / "Dataset501_Sample"
    raw.rename(tmp_path / "elsewhere")
    content = read_content(predictions)
    assert content.files == ()
    assert "targets were not found" in content.notes[0]
    Reader(page.page_text(content, METRICS["mae"]))
    named = read_content(predictions, VolumeFolders(references=tmp_path / "elsewhere" / "targetsTs"))
    assert len(named.files) == 3
    assert "masks were not found" in named.notes[0]
    assert named.files[0].condition is not None


def test_a_training_shows_its_curves(tmp_path):
    fold = make_training(tmp_path)
    with open(fold / "journal.jsonl", "a") as journal:
        journal.write('{"epoch": 5, "iter')  # being written
    content = read_content(fold)
    assert (content.kind, len(content.journal)) == ("training", 5)
    reader = Reader(page.page_text(content, METRICS["mae"]))
    text = " ".join(reader.texts)
    for title in ("training loss (network units)", "validation patches, body MAE (HU)", "weight", "seconds per epoch"):
        assert title in text
    assert EVIL in reader.texts
    assert "no validation on whole volumes" in text


def test_a_damaged_journal_names_its_line(tmp_path):
    fold = make_training(tmp_path)
    lines = (fold / "journal.jsonl").read_text().splitlines()
    (fold / "journal.jsonl").write_text("\n".join([lines[0], "oops", *lines[1:]]))
    with pytest.raises(GdmError, match="line 2: oops"):
        read_content(fold)


def test_a_comparison_shows_trainers_differences_and_failures(tmp_path):
    folder = make_comparison(tmp_path, NAMES)
    found, reader = written(folder, tmp_path / "r.html")
    assert (found.cases, found.pictures) == (3, 3)
    data = json.loads(reader.scripts["report-data"])
    assert data["labels"] == ["First", "Second"]
    number = next(k for k, case in enumerate(data["cases"]) if case["name"] == "case_3")
    shown = json.loads(reader.scripts[f"slices-{number}"])
    axial = shown["cuts"][0]
    errors = [
        unpack_plane(text, *SHAPE[1:]) - unpack_plane(axial["target"], *SHAPE[1:]) for text in axial["predictions"]
    ]
    assert [int(error.mean()) for error in errors] == [40, 20]
    text = " ".join(reader.texts)
    assert f"Failed: out of memory {EVIL}" in text
    assert "Differences to First" in text


def test_a_folder_of_something_else_names_what_it_holds(tmp_path):
    fold = make_training(tmp_path)
    with pytest.raises(GdmError, match=r"give a fold, such as .*fold_0"):
        read_content(fold.parent)
    with pytest.raises(GdmError, match="score the predictions first"):
        read_content(fold.parent.parent)
    with pytest.raises(GdmError, match="missing"):
        read_content(tmp_path / "nothing")


def test_worst_and_best_cases_alternate(evaluation):
    content = read_content(evaluation)
    assert worst_and_best(content, METRICS["mae"]) == [EVIL_CASE, "case_1", "case_3"]
    assert worst_and_best(content, METRICS["psnr"])[0] == EVIL_CASE
    assert worst_and_best(content, METRICS["dice"]) == list(content.scores["prediction"])


def test_the_most_blurred_or_noisy_case_is_the_worst_by_detail(tmp_path):
    values = {"blurred": 0.2, "right": 1.0, "noisy": 1.5}
    rows = {name: {"detail": value} for name, value in values.items()}
    content = ReportContent("evaluation", tmp_path, "", {"prediction": rows})
    assert worst_and_best(content, METRICS["detail"]) == ["blurred", "right", "noisy"]
    data = page.page_data(content, METRICS["detail"], page.Embedded(), False)
    badness = {case["name"]: case["badness"]["prediction"] for case in data["cases"]}
    assert badness["blurred"] > badness["noisy"] > badness["right"] == 0


def test_terminal_and_page_round_alike(evaluation):
    summary = load_summary(evaluation / "summary.json")
    printed = next(line for line in format_table(summary).splitlines() if line.startswith("mean")).split()
    table = score_table(summary)
    assert [cell.text for cell in table.foot[0]] == printed
    metrics = metrics_in(summary.metrics)
    assert list(table.heads[1:]) == [metric.head("HU") for metric in metrics]
    line = case_line(summary.cases["case_1"], METRICS["detail"], "HU")
    assert line.startswith("MAE 20.00 HU · PSNR ")
    assert "detail 1.000" in line


def test_a_page_shows_the_distances_of_distributions(evaluation):
    summary = replace(
        load_summary(evaluation / "summary.json"), distributions=(Judgement("mini", "ab" * 32, 0.123456, -0.000987654),)
    )
    text = " ".join(Reader(page.page_text(content_of_summary(summary, EVIL), METRICS["mae"])).texts)
    assert "mini (abababababab) 0.1235 -0.0009877" in " ".join(text.split())


def test_ticks_are_round_and_enclose_the_values():
    assert nice_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    for low, high in [(0.9123, 0.9187), (-3, 4), (5, 5), (0, 0), (1e-7, 3e-7), (-1e6, 2e6)]:
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low + 1e-12
        assert ticks[-1] >= high - 1e-12
        assert 2 <= len(ticks) <= 12


def test_a_distribution_has_a_point_for_each_case_at_its_place():
    chart = distributions("MAE", {"a": {"x": 0.0, "y": 50.0}, "b<": {"z": 100.0}})
    assert [row.label for row in chart.rows] == ["a", "b<"]
    x, y, z = (point.x for row in chart.rows for point in row.points)
    assert y - x == pytest.approx(z - y, abs=0.2)
    assert [point.title for row in chart.rows for point in row.points] == ["x: 0", "y: 50", "z: 100"]
    assert distributions("MAE", {"a": {}}) is None


def test_a_curve_leaves_out_what_has_no_value():
    chart = curves("loss", [1, 2, 3], [Curve("a", [1.0, None, 2.0]), Curve("b", [None, None, None])])
    assert [len(line.path.split()) for line in chart.lines] == [2, 0]
    assert [len(line.points) for line in chart.lines] == [2, 0]
    assert curves("loss", [1], [Curve("a", [None])]) is None


def predicted_with(predictions: Path, **changes):
    content = {
        "model": "results/Dataset600_Heads/GDMTrainer__gdmPlans_tiny__3d_fullres", "folds": ["0"],
        "checkpoint": "final", "configuration": "3d_fullres", "step_size": 0.5, "tta": False, "precision": "float32",
        "device": "cpu", "skip_empty": True, "mask_folder": None, "as_float": False, "uncertainty": False,
    }  # fmt: skip
    (predictions / "prediction_settings.json").write_text(json.dumps(content | changes))


def test_the_conditions_are_those_that_were_predicted_from(tmp_path):
    predictions, _ = make_evaluation(tmp_path, NAMES)
    raw = tmp_path / "Dataset501_Sample"
    (raw / "targetsTs").rename(tmp_path / "ct_reference")
    (raw / "imagesTs").rename(tmp_path / "new_mr")
    own = VolumeFolders(references=tmp_path / "ct_reference")
    assert any("conditions were not found" in note for note in read_content(predictions, own).notes)
    predicted_with(predictions, input_folder=str(tmp_path / "new_mr"))
    content = read_content(predictions, own)
    assert not [note for note in content.notes if "conditions" in note]
    assert all(files.condition is not None for files in content.files)
    (tmp_path / "new_mr").rename(predictions / "conditions")
    predicted_with(predictions, input_folder=str(tmp_path / "cts"), reading={"kind": "simulate"})
    assert all(files.condition is not None for files in read_content(predictions, own).files)


def test_the_page_names_model_plans_data_set_version_and_date(tmp_path):
    predictions, _ = make_evaluation(tmp_path, NAMES)
    predicted_with(predictions, gdmunet_version="9.8.7")
    origin = read_content(predictions).origin
    assert origin["Model"] == "GDMTrainer, fold 0, final weights"
    assert origin["Plans"] == "gdmPlans_tiny, configuration 3d_fullres"
    assert (origin["Data set"], origin["Predicted by"]) == ("Dataset600_Heads", "gdmunet 9.8.7")
    assert origin["Date"].startswith("20")
    assert read_content(make_training(tmp_path)).origin["Model"] == "SomeTrainer, fold_0"
    (predictions / "prediction_settings.json").write_text("{")
    assert any("prediction_settings.json could not be read" in note for note in read_content(predictions).notes)


def test_one_case_has_no_statistics(tmp_path):
    _, summary = make_evaluation(tmp_path, {"case_1": 20.0})
    assert score_table(summary).foot == ()
    assert not [cell for row in score_table(summary).rows for cell in row if "±" in cell.text]
    text = page.page_text(content_of_summary(summary, "one"), METRICS["mae"])
    assert "± 0" not in text
    assert "Distributions" not in text
    assert not [line for line in format_table(summary).splitlines() if line.startswith(("mean", "std", "count"))]
