"""Names with which a trained model is found again, checked where they are made."""

from __future__ import annotations

import re

from gdmunet.errors import GdmError
from gdmunet.results import SEPARATOR, ModelName

# A part of a model's name: what an archive of the model may hold, and nothing that leads out of a folder.
NAME_PATTERN = r"(?!\.)[\w.,=+-]+"
_LONGEST_NAME = 255


def check_model_name(name: ModelName) -> None:
    """Refuse a name that prediction would not find again (GdmError)."""
    check_name("a trainer", name.trainer, "rename the class, or choose another value of the setting in its name")
    check_name("plans", name.plans, "plan with another -overwrite_plans_name")
    check_name("a configuration", name.configuration, "rename it in the plans, also in its own field name")
    if len(str(name).encode()) > _LONGEST_NAME:
        raise GdmError(
            "the model's name is too long for a folder",
            found=f"{len(str(name).encode())} bytes: {name}",
            expected=f"{_LONGEST_NAME} bytes at most",
            remedy="write a trainer with these settings as a class (file.py:Class), whose name is short",
        )


def check_name(what: str, name: str, remedy: str) -> None:
    """Refuse a name with which a trained model would not be found again.

    Parameters
    ----------
    what
        Kind of name, such as ``plans``.
    remedy
        Way to another name.

    Raises
    ------
    GdmError
        A character that folders of results do not have, two underscores, or one at the end.
    """
    if re.fullmatch(NAME_PATTERN, name) and SEPARATOR not in name and not name.endswith("_"):
        return
    raise GdmError(
        f"{what} of this name could be trained, but not found again",
        found=repr(name),
        expected=f"letters, digits and . , = + - _, without {SEPARATOR}, no dot in front and no _ at the end",
        remedy=remedy,
    )
