"""gdm_compare on small phantoms: what it trains, keeps, writes and says of failures."""

import json

import pytest

from gdmunet.cli import compare, export_model, import_model, plan_and_preprocess
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.encoders.registry import FAMILIES
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.workflows import compare as comparison_run
from gdmunet.workflows.measured_prediction import predict_measured
from gdmunet.workflows.requests.training import CompareRequest

SHORT = ["--epochs", "1", "--set", "iterations_per_epoch=2", "validation_patches=2"]
BROKEN = """
from gdmunet.errors import GdmError
from gdmunet.training.trainers.fidelity import FidelityTrainer


class Broken(FidelityTrainer):
    def loss_terms(self, batch, prediction):
        raise GdmError("no loss today", remedy="wait | for tomorrow")
"""


METRIC = """
from gdmunet.metrics import described


@described("worst error", unit="target", best="low")
def worst(pair):
    target, prediction = pair.values
    return abs(prediction - target).max()


def bare(pair):
    return 0.0
"""


class Workplace:
    """Planned and preprocessed phantoms, and the command on them."""

    def __init__(self, folder):
        self.folder = folder
        self.words = []
        for name in ("raw", "preprocessed", "results"):
            self.words += [f"--{name}", str(folder / name)]
        make_phantom_demo(folder / "raw", cases=4, size=16, show_progress=False)
        words = ["-d", "502", "-pl", "tiny", "-c", "3d_fullres", "-np", "1", "--no_pbar", "-device", "cpu"]
        words += ["-tr", "AdversarialTrainer", "-encoder", "mini"]
        assert plan_and_preprocess.main([*words, *self.words[:4]]) == 0
        self.results = folder / "results" / "Dataset502_DemoPhantoms"
        self.output = self.results / "comparisons" / "gdmPlans_tiny__3d_fullres"

    def compare(self, *words):
        common = ["-p", "gdmPlans_tiny", "-device", "cpu", "-np", "0", "--no_pbar", *SHORT, *self.words]
        return compare.main(["502", "3d_fullres", *words, *common])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("work"))


@pytest.fixture
def in_this_process(monkeypatch):
    """A new process takes seconds to start; the slow test has one."""
    monkeypatch.setattr(comparison_run, "measure_in_new_process", predict_measured)


@pytest.mark.usefixtures("in_this_process")
def test_trains_what_is_missing_scores_it_and_says_what_failed(work, capsys, monkeypatch):
    (work.folder / "broken.py").write_text(BROKEN)
    broken = f"{work.folder / 'broken.py'}:Broken"
    flow = "FlowMatchingTrainer"
    (work.folder / "mine.py").write_text(METRIC)
    assert work.compare("-tr", "FidelityTrainer", flow, broken, "--metric", f"{work.folder / 'mine.py'}:worst") == 0
    printed = capsys.readouterr().out
    assert "no loss today" in printed
    assert "judged by mini, tiny" in printed
    found = json.loads((work.output / "comparison.json").read_text())
    fidelity, flow_row, broken_row, filtered, filtered_flow = found["rows"]
    assert (filtered["trainer"], filtered_flow["trainer"]) == (
        "FidelityTrainer + unsharp mask", f"{flow} + unsharp mask",
    )  # fmt: skip
    assert filtered["cases"].keys() == fidelity["cases"].keys()
    assert broken_row["failure"].startswith("no loss today")
    assert not broken_row["cases"]
    assert fidelity["cases"].keys() == flow_row["cases"].keys()
    assert (fidelity["cost"]["network_passes"], flow_row["cost"]["network_passes"]) == (1, 10)
    assert [one["encoder"] for one in flow_row["judgements"]] == ["mini", "tiny"]
    for name in ("seconds", "peak_memory_mb", "training_seconds", "parameters"):
        assert flow_row["cost"][name] > 0
    assert found["differences"][0]["trainer"].startswith(flow)
    assert all(case["worst"] > 0 for case in flow_row["cases"].values())
    assert "worst error (HU)" in (work.output / "comparison.md").read_text()
    for name in ("comparison.csv", "comparison.md", "comparison.tex", "comparison_cases.csv", "report.html"):
        assert (work.output / name).stat().st_size > 100, name

    # Again: nothing is trained or predicted anew, and the failed one is tried again.
    monkeypatch.setattr(comparison_run, "measure_in_new_process", None)
    times = {file: file.stat().st_mtime_ns for file in work.results.rglob("checkpoint_final.safetensors")}
    assert len(times) == 2
    assert work.compare("-tr", "FidelityTrainer", flow, broken) == 0
    assert times == {file: file.stat().st_mtime_ns for file in work.results.rglob("checkpoint_final.safetensors")}


def test_a_metric_without_a_direction_is_refused_before_anything_is_trained(work, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(METRIC)
    words = ("-tr", "FidelityTrainer", "--iterations", "8", "--metric", f"{tmp_path / 'mine.py'}:bare")
    assert work.compare(*words) == 1
    assert "no label, unit and direction" in capsys.readouterr().err
    assert not list(work.results.glob("*iterations=8*"))


@pytest.mark.usefixtures("in_this_process")
def test_an_interrupted_training_goes_on(work, monkeypatch):
    from gdmunet.training.loop.loop import Loop

    save = Loop.save

    def stop_once(self, name):
        save(self, name)
        if name == "latest":
            monkeypatch.setattr(Loop, "save", save)
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "save", stop_once)
    words = ("-tr", "FidelityTrainer", "--iterations", "4")
    assert work.compare(*words) == 130
    (fold,) = work.results.glob("*iterations=4*/fold_*")
    assert not (fold / "checkpoint_final.safetensors").exists()
    assert work.compare(*words) == 0
    iterations = [json.loads(line)["iteration"] for line in (fold / "journal.jsonl").read_text().splitlines()]
    assert iterations == [2, 4]


@pytest.mark.usefixtures("in_this_process")
def test_imported_weights_are_not_trained_over(work, capsys, monkeypatch, tmp_path):
    """The best checkpoint alone, as gdm_export_model and gdm_import_model leave it."""
    words = ("-tr", "FidelityTrainer", "--iterations", "6")
    assert work.compare(*words) == 0
    (fold,) = work.results.glob("*iterations=6*/fold_0")
    folders = ["--results", str(work.folder / "results")]
    assert export_model.main(["-m", str(fold.parent), "-o", str(tmp_path / "model.zip"), *folders]) == 0
    assert import_model.main([str(tmp_path / "model.zip"), "--overwrite", *folders]) == 0
    assert not (fold / "resume.pt").exists()
    weights = {file.name: file.read_bytes() for file in fold.glob("checkpoint_*")}
    assert list(weights) == ["checkpoint_best.safetensors"]
    monkeypatch.setattr(comparison_run, "train", None)
    capsys.readouterr()
    assert work.compare(*words) == 1
    printed = capsys.readouterr().err
    assert "neither final ones to compare" in printed
    assert "checkpoint_best.safetensors" in printed
    assert weights == {file.name: file.read_bytes() for file in fold.glob("checkpoint_*")}


@pytest.mark.usefixtures("in_this_process")
def test_weights_of_other_defaults_are_not_taken_for_today_s(work, capsys, monkeypatch):
    """A folder's name has no defaults: another version may have trained it with others."""
    words = ("-tr", "FidelityTrainer", "--iterations", "3")
    monkeypatch.setattr(FidelityTrainer, "rotation", 5.0)
    assert work.compare(*words) == 0
    (fold,) = work.results.glob("*iterations=3*/fold_0")
    weights = {file.name: file.read_bytes() for file in fold.glob("checkpoint_*")}
    monkeypatch.undo()
    monkeypatch.setattr(comparison_run, "measure_in_new_process", predict_measured)
    capsys.readouterr()
    assert work.compare(*words) == 1
    assert "rotation was 5.0, is 15.0" in capsys.readouterr().err
    assert weights == {file.name: file.read_bytes() for file in fold.glob("checkpoint_*")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-tr", "Fidelity"], "did you mean FidelityTrainer"),
        (["-tr", "FidelityTrainer", "-f", "7"], "fold 7 is not in the plans"),
        (["-tr", "FidelityTrainer", "FidelityTrainer"], "different names"),
        (["-tr", "FidelityTrainer", "--set", "epoch=3"], "did you mean epochs"),
    ],
)
def test_typing_errors_are_found_before_anything_is_trained(work, capsys, monkeypatch, words, message):
    monkeypatch.setattr(comparison_run, "train", None)
    assert work.compare(*words) == 1
    assert message in capsys.readouterr().err


def test_fold_all_holds_no_case_out(work, capsys):
    with pytest.raises(SystemExit) as end:
        work.compare("-tr", "FidelityTrainer", "-f", "all")
    assert end.value.code == 2
    assert "holds no case out" in capsys.readouterr().err


def test_the_judge_is_never_the_encoder_of_a_generator(work):
    from gdmunet.plans import load_plans
    from gdmunet.training.trainers.registry import find_trainer

    plans = load_plans(work.folder / "preprocessed" / "Dataset502_DemoPhantoms" / "gdmPlans_tiny.json")
    spec = type("Spec", (), {"spec": "mini"})()
    planned = type("Plans", (), {"name": plans.name, "configuration": lambda *_: type("C", (), {"encoder": spec})})()
    request = CompareRequest(dataset="502", configuration="3d_fullres", trainers=())
    gdm, fidelity = find_trainer("GDMTrainer"), find_trainer("FidelityTrainer")
    assert comparison_run.choose_judges(request, planned, [gdm]) == ("tiny",)
    assert comparison_run.choose_judges(request, planned, [fidelity]) == ("mini", "tiny")
    assert comparison_run.choose_judges(request, plans, [fidelity]) == ("mini", "tiny")
    assert set(comparison_run.DEFAULT_JUDGES) <= FAMILIES.keys()
    wish = CompareRequest(dataset="502", configuration="3d_fullres", trainers=(), judge=("mini",))
    with pytest.raises(comparison_run.GdmError, match="an encoder cannot judge"):
        comparison_run.choose_judges(wish, planned, [gdm])


@pytest.mark.slow
def test_all_rivals_in_processes_of_their_own(work):
    trainers = ["FidelityTrainer", "GDMTrainer", "AdversarialTrainer", "FlowMatchingTrainer", "BridgeTrainer"]
    assert work.compare("-tr", *trainers, "-f", "0", "1", "--judge", "tiny") == 0
    found = json.loads((work.output / "comparison.json").read_text())
    assert [row["failure"] for row in found["rows"]] == [None] * 10
    assert all(len(row["cases"]) >= 2 for row in found["rows"])
    assert all(20 < row["cost"]["peak_memory_mb"] < 20_000 for row in found["rows"])
