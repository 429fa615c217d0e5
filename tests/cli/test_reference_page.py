"""Every command: its help, its defaults, its place in pyproject.toml and in the documentation."""

import argparse
import functools
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gdmunet.cli.arguments import help_text
from gdmunet.cli.flags import parser_of
from gdmunet.cli.reference import commands_page
from gdmunet.workflows.requests.catalogue import REQUESTS

ROOT = Path(__file__).parents[2]
PARSERS = {kind.synopsis.name: functools.partial(parser_of, kind) for kind in REQUESTS}


def entry_points():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_every_entry_point_has_a_parser_and_a_main():
    assert set(entry_points()) == set(PARSERS)
    for target in entry_points().values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("command", PARSERS)
def test_help_runs_through_the_entry_point(command, capsys):
    module, name = entry_points()[command].split(":")
    with pytest.raises(SystemExit) as end:
        getattr(importlib.import_module(module), name)(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text.startswith(f"usage: {command}")
    assert "--version" in text


@pytest.mark.parametrize("command", PARSERS)
def test_every_optional_flag_says_its_default(command):
    for action in PARSERS[command]()._actions:
        if not action.option_strings or action.required or action.dest in ("help", "version"):
            continue
        assert "default" in help_text(action), f"{command} {action.option_strings}"


@pytest.mark.parametrize("command", PARSERS)
def test_every_flag_has_a_long_spelling_or_is_positional(command):
    for action in PARSERS[command]()._actions:
        long = [flag for flag in action.option_strings if flag.startswith("--")]
        assert long or not action.option_strings
        if isinstance(action, argparse._StoreTrueAction):
            assert action.default is False


def test_the_reference_page_is_what_the_parsers_say():
    page = (ROOT / "documentation" / "reference" / "commands.md").read_text()
    remedy = "python -m gdmunet.cli.reference > documentation/reference/commands.md"
    assert page == commands_page(), remedy


LIGHT = """
import importlib, sys
module, name, command = sys.argv[1:]
try:
    getattr(importlib.import_module(module), name)(["--help"])
except SystemExit:
    pass
heavy = {"torch", "numpy", "SimpleITK", "scipy", "pydicom", "matplotlib", "tqdm"} & sys.modules.keys()
sys.exit(f"{command} --help imports {', '.join(sorted(heavy))}" if heavy else 0)
"""


@pytest.mark.parametrize("command", PARSERS)
def test_help_imports_nothing_heavy(command):
    """What makes --help slow is what it imports; a time would be another on each machine."""
    module, name = entry_points()[command].split(":")
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, module, name, command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
