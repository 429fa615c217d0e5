"""What commands print is made safe first: a stranger's text moves no cursor."""

import ast
from pathlib import Path

import pytest

from gdmunet.cli import flags
from gdmunet.cli.flags import command
from gdmunet.errors import GdmError
from gdmunet.workflows.requests.models import ExportModelRequest, ImportModelRequest

CLI = Path(flags.__file__).parent
# Files that print by themselves, and how often: errors (whose text is safe), the next command (made safe there), a page
# of the documentation, JSON, in which escapes are escaped, and a script of words that are all gdmunet's.
PRINTS = {"arguments.py": 4, "flags.py": 1, "reference.py": 1, "doctor.py": 1, "completion.py": 1}


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda file: file.name)
def test_a_command_speaks_through_say(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"]
    assert len(calls) == PRINTS.get(file.name, 0)


def test_neither_the_next_command_nor_an_error_holds_an_escape(tmp_path, capsys):
    foreign = tmp_path / "model\x1b[2J\u202e.zip"
    entry = command(ExportModelRequest)(lambda _request, _folders: ImportModelRequest(file=foreign))
    assert entry(["-m", "MODEL", "-o", "model.zip"]) == 0

    def refuse(_request, _folders):
        raise GdmError("the archive is missing", file=foreign, remedy="check the path")

    assert command(ExportModelRequest)(refuse)(["-m", "MODEL", "-o", "model.zip"]) == 1
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "model" in text
        assert not {"\x1b", "\u202e"} & set(text)
