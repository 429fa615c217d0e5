"""Files of every published version stay readable: a format counts its versions and holds one function for each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.plain_text import one_line

# Takes the content of a file of one version, gives that of the next; the input is not changed.
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class FileFormat:
    """One kind of file, and the functions that bring its older versions to the present one.

    A change of the format adds a function such as ``upgrade_1_to_2`` to the end of `upgrades`, which raises the
    version, and a folder ``tests/archive/version_N`` with files of the previous version.

    Attributes
    ----------
    name
        Name of the file in errors, such as ``plans``.
    upgrades
        ``upgrades[k]`` turns version k + 1 into version k + 2.
    key
        Key of the version; a file without it is of version 1.
    """

    name: str
    upgrades: tuple[Upgrade, ...] = ()
    key: str = "version"

    @property
    def version(self) -> int:
        """The version that is written."""
        return len(self.upgrades) + 1

    def upgrade(self, content: dict[str, Any]) -> dict[str, Any]:
        """The content of a file of any known version, as the present version has it.

        Raises
        ------
        GdmError
            The version is newer than this gdmunet, or is not a version.
        """
        version = content.get(self.key, 1)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise GdmError(
                f"the {self.name} file has no valid version",
                found=f"{self.key} {one_line(repr(version), 80)}",
                expected=f"a number from 1 to {self.version}",
            )
        if version > self.version:
            raise GdmError(
                f"the {self.name} file comes from a newer version of gdmunet",
                found=f"{self.key} {version}",
                expected=f"{self.key} {self.version} at most",
                remedy="update gdmunet, or use the version that wrote the file",
            )
        problem = f"the {self.name} file does not hold what {self.key} {version} holds"
        with reading(problem, None, remedy="make the file anew"):
            for step in self.upgrades[version - 1 :]:
                content = step(content)
        return {**content, self.key: self.version}
