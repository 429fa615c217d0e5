"""What pages, docstrings and comments name is there: modules, what they hold, and files of the tree."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The history of changes names what was, and tests name what must be refused.
PAGES = [
    *(page for page in sorted(ROOT.glob("*.md")) if page.name != "CHANGELOG.md"),
    *sorted((ROOT / "documentation").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
    *sorted((ROOT / "gdmunet").rglob("*.py")),
]
DOTTED = re.compile(r"(?<![\w/.-])gdmunet(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"(?<![\w/.<{*>-])(?:[\w-]+/)+[\w-]+\.(?:py|md|toml|html|js)\b")
FOLDER = re.compile(r"(?<![\w/.-])gdmunet/[a-z_/]+[a-z_](?![\w/.])")
TREE = [
    path.relative_to(ROOT).as_posix()
    for folder in ("gdmunet", "tests", "benchmarks", "documentation")
    for path in (ROOT / folder).rglob("*")
]
OWN_FOLDERS = {part for path in TREE for part in path.split("/")[:-1]}


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or a name that a module or a class holds."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            place = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(place, part):
                return part in getattr(place, "__annotations__", {})
            place = getattr(place, part)
        return True
    return False


def is_in_the_tree(path: str) -> bool:
    """Whether the path ends a path of the tree, or is of a tree that is not this one."""
    return path.split("/")[0] not in OWN_FOLDERS or any(f"/{known}".endswith(f"/{path}") for known in TREE)


def missing(text: str) -> list[str]:
    """The names of a text that lead nowhere."""
    dotted = [name for name in DOTTED.findall(text) if not is_there(name)]
    return dotted + [path for path in FILE.findall(text) + FOLDER.findall(text) if not is_in_the_tree(path)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_text_names_is_there(page):
    assert not missing(page.read_text(encoding="utf-8"))


def test_names_that_lead_nowhere_are_seen():
    gone = ["gdmunet.training.baselines.stepwise", "evaluation/html.py", "gdmunet/training/baselines"]
    assert missing(f"see {gone[0]}, `{gone[1]}` and {gone[2]}; gdmunet.errors.GdmError, loop/epoch.py") == gone
