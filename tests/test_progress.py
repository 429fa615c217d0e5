"""Lines and bars on a terminal: what a user sees, row by row."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest

WIDTH = 100


def on_a_terminal(script: str, folder: Path) -> str:
    """What a script writes to standard output and standard error, both a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, WIDTH, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        stdin=follower, stdout=follower, stderr=follower, cwd=folder,
    )  # fmt: skip
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not part:
            break
        written += part
    os.close(leader)
    assert process.wait() == 0, written.decode()
    return written.decode()


def screen(written: str) -> list[str]:
    """The rows of the terminal after that was written to it."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[A|\r|\n|[^\x1b\r\n]", written):
        if token == "\x1b[A":
            row -= 1
        elif token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        else:
            line = rows[row].ljust(column)
            rows[row], column = line[:column] + token + line[column + 1 :], column + 1
    return [line.rstrip() for line in rows]


@pytest.mark.parametrize("stream", ["sys.stdout", "sys.stderr"])
def test_a_line_that_is_printed_during_a_bar_stands_on_a_line_of_its_own(tmp_path, stream):
    rows = screen(
        on_a_terminal(
            f"""
            import sys
            from gdmunet.progress import Progress, say
            with Progress("epoch 1/1", 2) as progress:
                progress.step("fidelity 0.5")
                say("the log's line", {stream})
                progress.step()
            """,
            tmp_path,
        )
    )
    assert rows.count("the log's line") == 1
    assert [row for row in rows if "2/2" in row]
    assert len([row for row in rows if row.startswith("epoch 1/1")]) == 1


def test_what_a_training_says_does_not_break_into_its_bar(tmp_path):
    rows = screen(
        on_a_terminal(
            """
            from pathlib import Path
            from gdmunet.progress import Progress
            from gdmunet.results import FoldFolder
            from gdmunet.training.loop.journal import Journal
            journal = Journal(FoldFolder(Path("fold_0")), speak=True)
            with Progress("epoch 1/1", 1) as progress:
                journal.say("filling the feature bank")
                progress.step()
            """,
            tmp_path,
        )
    )
    assert "filling the feature bank" in rows


def test_a_bar_inside_another_goes_when_it_is_done(tmp_path):
    written = on_a_terminal(
        """
        from gdmunet.progress import Progress, say
        with Progress("epoch 1/1", 1) as outer:
            with Progress("filling the feature bank", 1) as inner:
                inner.step()
            outer.step()
        say("the end")
        """,
        tmp_path,
    )
    assert "filling the feature bank:" in written
    rows = screen(written)
    assert [row for row in rows if row.startswith("filling")] == []
    assert "the end" in rows
    assert [row for row in rows if row.startswith("epoch 1/1: 100%")]


def test_without_a_terminal_progress_is_plain_lines(capsys):
    from gdmunet.progress import Progress, say

    with Progress("work", 2, every=0.0) as progress:
        progress.step()
        say("a line")
        progress.step("note")
    written = capsys.readouterr()
    assert written.out == "a line\n"
    assert [line.split(",")[0] for line in written.err.splitlines()] == ["work: 1/2", "work: 2/2"]
