"""The reference page of all commands, written from their parsers.

``python -m gdmunet.cli.reference > documentation/reference/commands.md`` writes it; a test checks that it is current.
"""

from __future__ import annotations

import argparse

from gdmunet.cli.arguments import CommandParser, help_text
from gdmunet.cli.flags import parser_of
from gdmunet.plausibility.checks import CHECKS
from gdmunet.workflows.requests.catalogue import REQUESTS

_INTRODUCTION = """# Commands

This page is written from the commands themselves (`python -m gdmunet.cli.reference`); `COMMAND --help` says the same.

* Flags have nnU-Net's short spelling and a long one. Inside a flag `-` and `_` are the same: `--step_size`,
  `--step-size` and `-step_size` are one flag. An unknown flag is an error that names the nearest known one.
* A value never sticks to its flag: `-d 501` or `-d=501`, not `-d501`. Abbreviated flags are refused.
* Folders: the flag (`--raw`, `--preprocessed`, `--results`) wins over the variable (`GDM_RAW`, `GDM_PREPROCESSED`,
  `GDM_RESULTS`), which wins over `./gdm_raw`, `./gdm_preprocessed`, `./gdm_results`.
* Lengths are mm, sizes voxels, axes in the order z y x, memory GB of 1e9 bytes.
* Exit status: 0 done; 1 a problem that the message names; 2 a wrong command line; 130 ended by Ctrl-C, 143 by SIGTERM.
* Every command has `--help` and `--version`.
"""


def commands_page() -> str:
    """The page in Markdown."""
    return _INTRODUCTION + "".join(section(parser_of(kind)) for kind in REQUESTS) + checks_section()


def checks_section() -> str:
    """The part of the page about the names that ``--accept`` takes, from the table of checks."""
    rows = [f"| `{check.name}` | {check.compares} | {check.means} | {check.remedy} |" for check in CHECKS.values()]
    return (
        "\n## Checks that --accept takes\n\n[Check your data](../how_to/check_your_data.md) says when they run.\n\n"
        "| name | what is compared | what a finding usually means | what to do |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def section(parser: CommandParser) -> str:
    """The part of the page about one command."""
    rows = [
        f"| {_flags(action)} | {_escape(help_text(action) % {'default': action.default})} |"
        for action in sorted(parser._actions, key=lambda action: action in parser.common._group_actions)
        if action.dest not in ("help", "version")
    ]
    return f"\n## {parser.prog}\n\n{parser.description}\n\n| flag | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def _flags(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{flag}`" for flag in action.option_strings) + (f" `{value}`" if value else "")


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    name = action.metavar or action.dest
    if action.choices is not None and action.metavar is None:
        name = "/".join(map(str, action.choices))
    elif action.metavar is None:
        name = name.upper()
    return {"+": f"{name} ...", "?": f"[{name}]"}.get(str(action.nargs), name)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(commands_page(), end="")
