"""Sizes that keep the code readable: what grows past them is taken apart."""

from pathlib import Path

import pytest
from structure import measure

STRUCTURE = measure(Path(__file__).parents[1] / "gdmunet")
MOST_PARAMETERS = 8
LONGEST_FUNCTION = 60
LONGEST_CLASS = 200
LONGEST_FILE = 320


def test_functions_are_short_and_take_few_parameters():
    long = [f"{f.where}: {f.lines} lines" for f in STRUCTURE.functions if f.lines > LONGEST_FUNCTION]
    wide = [f"{f.where}: {f.parameters} parameters" for f in STRUCTURE.functions if f.parameters > MOST_PARAMETERS]
    assert not long + wide


def test_classes_and_files_are_short():
    classes = [f"{c.where}: {c.lines} lines" for c in STRUCTURE.classes if c.lines > LONGEST_CLASS]
    files = [f"{file}: {lines} lines" for file, lines in STRUCTURE.files.items() if lines > LONGEST_FILE]
    assert not classes + files


def test_the_measure_sees_what_it_is_for(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "one.py").write_text(
        "class Long:\n" + "    def f(self, a, *, b): ...\n" * 3 + "from package import two\n"
    )
    (package / "two.py").write_text("def g():\n    from package.one import Long\n")
    structure = measure(package)
    assert [(f.lines, f.parameters) for f in structure.functions] == [(1, 2)] * 3 + [(2, 0)]
    assert [c.lines for c in structure.classes] == [4]
    assert structure.circles == [["package.one", "package.two"]]


@pytest.mark.parametrize("word", ["utils", "helper", "helpers", "manager", "handler"])
def test_no_file_is_called_by_a_word_that_says_nothing(word):
    assert not [file for file in STRUCTURE.files if word in Path(file).stem.split("_")]
