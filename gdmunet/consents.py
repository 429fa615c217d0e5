"""What the user of this machine allowed to run: a list of hashes in the user's own folder, which no data set can write.

Plans and models come from anywhere, and may name a file whose code would run: a factory of an encoder, or a pickle. Its
name in the data is a wish. It is granted by the user alone: on a command line that names the file (planning with it,
``gdm_trust``), for these bytes and for no others.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
from dataclasses import dataclass, field
from pathlib import Path

from gdmunet import commands
from gdmunet.errors import GdmError
from gdmunet.formats import FileFormat
from gdmunet.serialization import load_json, save_json

CONSENTS_FORMAT = FileFormat("consents")


@dataclass(frozen=True)
class ConsentList:
    """The content of the list.

    Attributes
    ----------
    files
        sha256 of each file that may run to the path that it had when it was allowed.
    """

    files: dict[str, str] = field(default_factory=dict)
    version: int = CONSENTS_FORMAT.version

    def require(self, file: Path, what: str) -> None:
        """Refuse a file whose content was not allowed.

        Parameters
        ----------
        what
            The code that would run, in words.

        Raises
        ------
        GdmError
            Names the command that allows it.
        """
        if (sha256 := file_sha256(file)) not in self.files:
            raise GdmError(
                f"{what} is code that a file of this data names, and that nobody on this machine has allowed to run",
                file=file,
                found=f"sha256 {sha256}",
                expected="a file that was allowed, unchanged since",
                remedy="read it; if you trust it, run {command}, then this command again",
                command=commands.trust(file),
            )


def read_consents(file: Path) -> ConsentList:
    """The list; empty if there is none yet.

    Raises
    ------
    GdmError
        The file is damaged.
    """
    return load_json(ConsentList, file, "consents", CONSENTS_FORMAT) if Path(file).exists() else ConsentList()


def allow(trusted: Path, consents: Path) -> str:
    """Add the present content of a file to the list, and give its sha256.

    Raises
    ------
    GdmError
        The file is missing, or the list cannot be written.
    """
    sha256 = file_sha256(trusted)
    known = read_consents(consents)
    if sha256 not in known.files:
        save_json(ConsentList(known.files | {sha256: str(Path(trusted).resolve())}), consents)
    return sha256


def withdraw(trusted: Path, consents: Path) -> str:
    """Take the present content of a file off the list, and what was allowed under its path; gives its sha256."""
    sha256, place = file_sha256(trusted), str(Path(trusted).resolve())
    known = read_consents(consents)
    left = {key: path for key, path in known.files.items() if key != sha256 and path != place}
    save_json(ConsentList(left), consents)
    return sha256


def file_sha256(file: Path) -> str:
    """sha256 of a file, hexadecimal (GdmError if it is missing)."""
    if not Path(file).is_file():
        raise GdmError("the file is missing", file=file, remedy="check the path")
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_of(place: str) -> Path:
    """The file behind ``file.py`` or ``package.module``, found without importing anything, which would run it.

    Raises
    ------
    GdmError
        There is no such module, or it has no source file.
    """
    if place.endswith(".py"):
        return Path(place)
    folders: list[str] | None = None
    found: importlib.machinery.ModuleSpec | None = None
    name = ""
    for part in place.split("."):
        name = f"{name}.{part}" if name else part
        found = importlib.machinery.PathFinder.find_spec(name, folders)
        if found is None:
            break
        folders = list(found.submodule_search_locations or [])
    if found is None or not found.origin or not Path(found.origin).is_file():
        raise GdmError(f"the module {place} cannot be found", file=place, remedy="check its path and name")
    return Path(found.origin)
