"""A few of the faults of `run.py`, with fixed seeds: what a thousand by hand show, continuous integration repeats."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform == "win32", reason="faults are forks and signals of POSIX systems")
def test_ten_faults_lose_nothing_and_none_is_silent(tmp_path):
    words = ["--faults", "10", "--seed", "5", "--commands", "new_dataset", "fingerprint"]
    journal = tmp_path / "faults.jsonl"
    words += ["--folder", str(tmp_path / "work"), "--journal", str(journal)]
    words += ["--kinds", "kill", "torn", "full", "removed", "flipped"]
    ended = subprocess.run([sys.executable, str(HERE / "run.py"), *words], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(rows) == 10
    assert {row["command"] for row in rows} == {"new_dataset", "fingerprint"}
    assert len({row["kind"] for row in rows}) >= 3
