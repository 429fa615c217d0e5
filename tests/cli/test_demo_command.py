"""gdm_demo: what it refuses, what it measures. The run itself is in the slow test at the end."""

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from gdmunet.cli import demo_run
from gdmunet.cli.demo import main
from gdmunet.cli.demo_run import TASKS, DemoSummary
from gdmunet.errors import GdmError
from gdmunet.workflows.peak_memory import PeakMemory
from gdmunet.workflows.requests.demonstration import DemoRequest


class StoppedError(Exception):
    pass


@pytest.fixture
def no_data(monkeypatch):
    """A demonstration that stops as soon as it would make its data."""

    def stop(*_):
        raise StoppedError

    task = TASKS["svct"]
    monkeypatch.setitem(demo_run.TASKS, "svct", type(task)(**{**vars(task), "make_data": stop}))


def test_a_folder_of_other_things_is_never_touched(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.txt").write_text("precious")
    for flags in ([], ["--overwrite"]):
        assert main(["--out", str(tmp_path), *flags]) == 1
        assert "the folder is not empty" in capsys.readouterr().err
    assert (tmp_path / "raw" / "mine.txt").read_text() == "precious"


@pytest.mark.usefixtures("no_data")
def test_a_second_run_starts_over_only_with_overwrite(tmp_path, capsys):
    with pytest.raises(StoppedError):
        main(["--out", str(tmp_path / "out")])
    (tmp_path / "out" / "raw").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main(["--out", str(tmp_path / "out")]) == 1
    assert "--overwrite" in capsys.readouterr().err
    with pytest.raises(StoppedError):
        main(["--out", str(tmp_path / "out"), "--overwrite"])
    assert not (tmp_path / "out" / "raw").exists()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_the_table_says_how_much_lower_the_model_is():
    summary = DemoSummary("svct", ("lung",), 60.0, 80.0, 75.0, None, 1.0, 1.0, (), ())
    lines = summary.table().splitlines()
    assert lines[2].split()[-3:] == ["80.0", "25", "%"]
    assert lines[3].split()[-3:] == ["75.0", "20", "%"]
    assert not any("mean target" in line for line in lines)


def test_peak_memory_sees_what_was_allocated_and_freed():
    with PeakMemory(every=0.01) as before:
        Path("/").exists()
    with PeakMemory(every=0.01) as memory:
        block = np.ones(30_000_000)
        assert block.sum() > 0
        time.sleep(0.1)
        del block
    assert memory.peak_mb - before.peak_mb > 150


def test_a_step_that_fails_ends_the_demonstration(tmp_path, monkeypatch):
    task = TASKS["mr2ct"]
    short = type(task)(**{**vars(task), "make_data": lambda raw, _show: raw / "Dataset502_DemoPhantoms"})
    monkeypatch.setitem(TASKS, "mr2ct", short)
    with pytest.raises(GdmError, match="gdm_plan_and_preprocess failed"):
        demo_run.run_demo(DemoRequest(task="mr2ct", out=tmp_path / "out", epochs=1, show_progress=False))


def test_the_page_shows_the_commands_that_run():
    page = (Path(__file__).parents[2] / "documentation" / "getting_started.md").read_text()
    for step in demo_run._steps(TASKS["svct"], Path("OUT"), Path("OUT/raw/Dataset501_Demo"), DemoRequest()):
        words = " ".join(step.command(Path("OUT")).words)
        shown = re.sub(r" (--raw|--preprocessed|--results|-np) \S+", "", words).replace("OUT/", "")
        assert f"\n{shown}\n" in page


@pytest.mark.slow
@pytest.mark.parametrize("task", ["svct", "mr2ct"])
def test_the_demonstration_beats_its_references(tmp_path, capsys, task):
    assert main(["--task", task, "--out", str(tmp_path / "out"), "--no_pbar"]) == 0
    summary = json.loads((tmp_path / "out" / "demo_summary.json").read_text())
    assert all(Path(picture).is_file() for picture in summary["pictures"])
    assert summary["peak_memory_mb"] < 4000
    if task == "svct":
        assert summary["model_mae"] < 0.8 * summary["condition_mae"]
    else:
        assert summary["model_mae"] < 0.6 * min(summary["mapping_mae"], summary["mean_target_mae"])
    assert "generated head phantoms" in capsys.readouterr().out or task == "svct"
    shutil.rmtree(tmp_path / "out")
