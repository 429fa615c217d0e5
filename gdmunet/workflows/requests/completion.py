"""The command of a remedy with the folders that the user gave by flags."""

from __future__ import annotations

from gdmunet.errors import CommandLine, GdmError
from gdmunet.paths import Folders
from gdmunet.workflows.requests.catalogue import REQUESTS


def with_folders(command: CommandLine, folders: Folders) -> CommandLine:
    """The command with the folders that were given by flags, where it uses them and does not name them already."""
    used = {kind.synopsis.name: kind.synopsis.folders for kind in REQUESTS}[command.words[0]]
    flags = {f"--{name}": path for name, path in folders.typed if name in used}
    missing = [word for flag, path in flags.items() if flag not in command.words for word in (flag, path)]
    return CommandLine(*command.words, *missing)


def complete(error: GdmError, folders: Folders) -> None:
    """Give the command of an error's remedy the folders that the user gave by flags."""
    if error.command is not None:
        error.command = with_folders(error.command, folders)
