"""Output that nobody reads, names from elsewhere, signals, memory: how commands end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from gdmunet.ending import signals_end
from gdmunet.errors import Stopped

COMMAND = """
import signal, sys, time
from pathlib import Path
# A shell starts jobs in the background with Ctrl-C ignored, nohup with SIGHUP, and a command keeps that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
from gdmunet.cli.arguments import run_command
from gdmunet.progress import Progress, say
@run_command
def main(argv):
    print("first", flush=True)
    {body}
    Path(sys.argv[1]).write_text("whole")
    return 0
sys.exit(main(None))
"""
TALK = 'time.sleep(0.5); [(print("line " * 50, flush=True), say("x"), say("y", sys.stderr)) for _ in range(3000)]'


def command(body, mark, **how):
    environment = {**os.environ, **how.pop("env", {})}
    words = [sys.executable, "-c", COMMAND.format(body=body), str(mark)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **how)


def test_a_closed_pipe_ends_nothing(tmp_path):
    process = command(TALK, tmp_path / "mark")
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stderr.close()
    assert process.wait(60) == 0
    assert (tmp_path / "mark").read_text() == "whole"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal is needed")
def test_a_terminal_that_is_gone_ends_nothing(tmp_path):
    ours, theirs = os.openpty()
    words = [sys.executable, "-c", COMMAND.format(body=TALK), str(tmp_path / "mark")]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.read(ours, 3)
    os.close(ours)
    assert process.wait(60) == 0
    assert (tmp_path / "mark").read_text() == "whole"


@pytest.mark.parametrize("env", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}, {}])
def test_names_from_elsewhere_are_printed_as_escapes(tmp_path, env):
    body = r'name = "k\u00f6rper_\udcff_\u4e2d"; print(name); say(name); say(name, sys.stderr)'
    process = command(body, tmp_path / "mark", env=env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"\\udcff" in out
    assert b"\\udcff" in err


def test_output_that_was_closed_from_the_start(tmp_path):
    words = [sys.executable, "-c", COMMAND.format(body=TALK), str(tmp_path / "mark")]
    line = " ".join(f"'{word}'" if "'" not in word else f'"$W{n}"' for n, word in enumerate(words))
    environment = {**os.environ, **{f"W{n}": word for n, word in enumerate(words)}}
    assert subprocess.run(["sh", "-c", f"exec {line} >&- 2>&-"], env=environment, timeout=60).returncode == 0
    assert (tmp_path / "mark").read_text() == "whole"


@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIGINT])
def test_a_signal_ends_a_command_with_its_status(tmp_path, number):
    process = command("time.sleep(60)", tmp_path / "mark")
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"stopped by" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    "failure",
    ["MemoryError()", "RuntimeError('could not create a primitive')", "RuntimeError(\"can't start new thread\")",
     "OSError(12, 'Cannot allocate memory')"],
)  # fmt: skip
def test_memory_that_runs_out_is_one_message(tmp_path, failure):
    process = command(f"raise {failure}", tmp_path / "mark")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith(b"error: memory ran out\n  found: ")
    assert b"Traceback" not in err


def test_the_way_out_is_not_left_again():
    def work():
        with signals_end():
            try:
                signal.raise_signal(signal.SIGTERM)
                time.sleep(10)
            finally:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        work()
    assert stopped.value.status == 143
