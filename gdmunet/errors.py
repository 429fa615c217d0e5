"""The one error type that a user sees: what is wrong, where, what was found, what was expected, what to do."""

from __future__ import annotations

from pathlib import Path


class GdmError(Exception):
    """A problem that the user can mend.

    The commands print it without a traceback and exit with status 1.

    Parameters
    ----------
    problem
        One sentence: what is wrong.
    case, file, found, expected, remedy
        The facts that locate and mend it. Each given one becomes a line of the message.
    """

    def __init__(
        self,
        problem: str,
        *,
        case: str | None = None,
        file: str | Path | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        facts = {"case": case, "file": file, "found": found, "expected": expected, "remedy": remedy}
        lines = [problem] + [f"  {name}: {value}" for name, value in facts.items() if value is not None]
        super().__init__("\n".join(lines))
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call __init__ with the whole message as `problem` only; that is what a worker
        # process needs to hand the error over unchanged.
        return (GdmError, (str(self),))
