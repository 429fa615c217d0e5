"""The schedule of benchmarks/gpu_proof.py, on any machine: a part that hangs or crashes ends alone."""

import json
import sys
import time
from pathlib import Path

import psutil
import pytest

STAND_IN = """
import subprocess, sys, time
name = sys.argv[sys.argv.index("--part") + 1]
if name == "tests":
    raise SystemExit(3)
if name == "machine":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(sys.argv[1] + "/child", "w").write(str(child.pid))
    time.sleep(60)
"""


@pytest.fixture
def schedule(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from gpu_parts import schedule

    yield schedule
    for name in [name for name in sys.modules if name.split(".")[0] == "gpu_parts"]:
        del sys.modules[name]


def test_parts_end_alone_and_leave_a_line_each(schedule, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(schedule, "SCRIPT", script)
    monkeypatch.setattr(schedule, "ALONE", 0.0)
    options = schedule.RunOptions(tmp_path, None, True, ("machine", "tests", "steps"), 18.0)
    started = time.monotonic()
    assert schedule.run_all(options) == 2
    assert time.monotonic() - started < 18.0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["part"], row["result"]) for row in rows] == [
        ("machine", "deadline"), ("tests", "failed with status 3"), ("steps", "done"),
    ]  # fmt: skip
    # What the hanging part left was shared by the later ones, and what it had started is gone.
    assert rows[1]["limit"] == pytest.approx((18.0 - rows[0]["seconds"]) / 2, abs=0.5)
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_the_parts_share_ten_minutes(schedule):
    assert sum(part.weight for part in schedule.PARTS) <= 600
