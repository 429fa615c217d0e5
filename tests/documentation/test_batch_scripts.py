"""The batch scripts of the pages run, with stand-ins for the programs of the cluster."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from gdmunet.cli.flags import parser_of
from gdmunet.errors import QUEUE_AGAIN
from gdmunet.workflows.requests.training import TrainRequest

PAGE = Path(__file__).parents[2] / "documentation" / "how_to" / "clusters.md"
SCRIPTS = [text for text in re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.S) if text.startswith("#!")]
# Options of sbatch that the pages use, as its manual spells them.
OPTIONS = {
    "array", "cpus-per-task", "gpus", "gpus-per-node", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode",
    "requeue", "signal", "time",
}  # fmt: skip

pytestmark = pytest.mark.skipif(os.name != "posix", reason="batch scripts are of bash")


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
@pytest.mark.parametrize("status", [0, 1, QUEUE_AGAIN])
def test_a_script_of_the_page_runs_and_asks_for_its_next_turn(script, status, tmp_path):
    asked = re.findall(r"^#SBATCH --([a-z-]+)", script, re.M)
    assert asked
    assert set(asked) <= OPTIONS
    log = tmp_path / "log"
    stand_ins = {
        # Its own options end where the command begins.
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "gdm_train": f'printf "%s\\n" "$@" > {log}; exit {status}',
        "scontrol": f'echo "$@" > {log}.again',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(script)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(
        ["bash", "-u", tmp_path / "job.sh"], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    words = log.read_text().splitlines()
    parsed = parser_of(TrainRequest).parse_args(words)
    assert parsed.continue_training == "auto"
    if "scontrol" in script:
        again = Path(f"{log}.again")
        assert again.is_file() == (status == QUEUE_AGAIN)
        assert not again.is_file() or again.read_text() == "requeue 77\n"


def test_the_page_has_scripts():
    assert len(SCRIPTS) >= 2
