"""Flags of every command that trains."""

from __future__ import annotations

import argparse

from gdmunet.cli.arguments import CommandParser, name_and_value, natural_int, positive_int


def add_settings_flags(command: CommandParser) -> None:
    """``--epochs``, ``--iterations`` and ``--set``: they hold for each trainer of the command."""
    command.add_argument("--epochs", type=positive_int, metavar="N", help="epochs; default: the trainer's setting")
    command.add_argument(
        "--iterations",
        type=positive_int,
        metavar="N",
        help="optimiser steps in total, over all epochs; default: the trainer's setting",
    )
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        type=name_and_value,
        default=[],
        metavar="NAME=VALUE",
        help="override settings of the trainer; default: none",
    )


def add_machine_flags(command: CommandParser) -> None:
    """``-device`` and ``-np``."""
    command.add_argument(
        "-device",
        "--device",
        choices=("cuda", "cpu", "mps"),
        help="default: cuda where there is one, else mps, else cpu",
    )
    command.add_argument(
        "-np",
        "--processes",
        type=natural_int,
        metavar="N",
        help="background processes that load patches, 0: none; default: chosen from device and processor cores",
    )


def overrides_of(arguments: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """The settings that `add_settings_flags` read, as texts by name."""
    lengths = {name: getattr(arguments, name) for name in ("epochs", "iterations")}
    given = {name: str(value) for name, value in lengths.items() if value is not None}
    return tuple((dict(arguments.set) | given).items())
