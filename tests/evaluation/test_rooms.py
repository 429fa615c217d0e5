"""The rooms of the evaluation build on each other one way."""

import ast
from pathlib import Path

import gdmunet.evaluation

ROOMS = ("distributions", "scores", "comparison", "report")
FOLDER = Path(gdmunet.evaluation.__file__).parent


def test_a_room_imports_only_rooms_below_it():
    assert {path.name for path in FOLDER.iterdir() if (path / "__init__.py").is_file()} == set(ROOMS)
    for file in FOLDER.glob("*/**/*.py"):
        here = file.relative_to(FOLDER).parts[0]
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("gdmunet.evaluation."):
                assert ROOMS.index(module.split(".")[2]) <= ROOMS.index(here), f"{file.name} imports {module}"
