"""Braces expand as bash expands them."""

import shutil
import subprocess

import pytest

from gdmunet.workflows.submission.braces import command_lines, expand

WORDS = [
    "a", "", "{0,1,2,3,4}", "fold_{0,1}", "{a,b}{c,d}", "{a,b{c,d}e}f", "{0..4}", "{3..1}", "{0..8..3}", "{8..0..3}",
    "{08..11}", "{-2..1}", "{a}", "{}", "{a,}", "{{a,b},c}", "x{y{1,2}z", "a}b{c,d}", "{a}{b,c}", "{1..2..}", "{1..1}",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is the reference, and it is not installed")
def test_a_word_becomes_what_bash_makes_of_it():
    for word in WORDS:
        answer = subprocess.run(["bash", "-c", f"printf '%s\\n' {word or chr(39) * 2}"], capture_output=True, text=True)
        # bash drops an empty word; here it stays, since a command line has no quotes any more.
        assert [made for made in expand(word) if made] == [line for line in answer.stdout.split("\n") if line], word


def test_several_words_make_every_combination():
    assert command_lines(["x", "{1,2}", "{a,b}"]) == [
        ("x", "1", "a"), ("x", "1", "b"), ("x", "2", "a"), ("x", "2", "b"),
    ]  # fmt: skip
    assert expand("${a,b}") == ["${a,b}"]
