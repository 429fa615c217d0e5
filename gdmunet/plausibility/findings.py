"""A finding of a check, and what follows from findings: an error, lines for people, or nothing if they are accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gdmunet.errors import GdmError
from gdmunet.plausibility.checks import CHECKS
from gdmunet.quantities import counted

# Names that a line lists.
_LISTED = 10
# Problems that an error tells in full.
_IN_FULL = 20


@dataclass(frozen=True)
class Finding:
    """One thing that a check doubts.

    Attributes
    ----------
    check
        Name of the check, as ``--accept`` takes it.
    wrong
        True if the volume cannot be right, which ends the work; False if it may be, which is a WARNING.
    problem
        One sentence.
    found, expected
        The numbers.
    case, file
        The place; None if the finding is about several.
    """

    check: str
    wrong: bool
    problem: str
    found: str
    expected: str
    case: str | None = None
    file: str | None = None

    def error(self) -> GdmError:
        """The error that ends the work."""
        return GdmError(
            self.problem,
            case=self.case,
            file=self.file,
            found=self.found,
            expected=self.expected,
            remedy=f"{CHECKS[self.check].remedy}; to insist, add --accept {self.check}",
        )

    @property
    def place(self) -> str:
        """Case and file in one text; empty if there is neither."""
        return ", ".join(part for part in (self.case, self.file) if part)

    @property
    def statement(self) -> str:
        """Problem and numbers in one line, without the place."""
        return f"{self.problem}: {self.found}; expected {self.expected}"

    def line(self) -> str:
        """One line for people."""
        place = f" {self.place}:" if self.place else ":"
        return f"WARNING{place} {self.statement} (to insist: --accept {self.check})"


def settle(findings: Iterable[Finding], accepted: Collection[str] = ()) -> list[str]:
    """Lines for people about findings that do not end the work.

    Parameters
    ----------
    accepted
        Checks that the user insists on: their findings are counted in one line, and end nothing.

    Raises
    ------
    GdmError
        A finding is wrong and is not accepted; one error for all of these.
    """
    check_names(accepted)
    findings = list(findings)
    errors = [finding.error() for finding in findings if finding.wrong and finding.check not in accepted]
    if errors:
        raise together(errors)
    lines: list[str] = []
    for check in CHECKS:
        doubts = [finding for finding in findings if finding.check == check and check not in accepted]
        lines += [finding.line() for finding in doubts[:_LISTED]]
        if len(doubts) > _LISTED:
            rest = doubts[_LISTED:]
            lines.append(
                f"WARNING: {counted(rest, 'further finding')} of {check}{_cases(rest)} (to insist: --accept {check})"
            )
        taken = [finding for finding in findings if finding.check == check and check in accepted]
        if taken:
            lines.append(f"accepted {check}: {counted(taken, 'finding')}{_cases(taken)}")
    return lines


def check_names(accepted: Collection[str]) -> None:
    """Refuse a name that is not a check."""
    unknown = [name for name in accepted if name not in CHECKS]
    if unknown:
        raise GdmError(
            "there is no such check to accept",
            found=", ".join(unknown),
            expected=f"any of {', '.join(CHECKS)}",
            remedy="take the name from the message of the finding",
        )


def together(problems: Sequence[GdmError]) -> GdmError:
    """One error for several problems of a data set, each with its place and remedy."""
    if len(problems) == 1:
        return problems[0]
    texts = [str(problem) for problem in problems[:_IN_FULL]]
    if rest := problems[_IN_FULL:]:
        names = names_of(list(dict.fromkeys(str(problem.case or problem.file) for problem in rest)))
        texts.append(f"{counted(rest, 'further problem')}: {names}")
    return GdmError(
        f"the data set has {counted(problems, 'problem')}\n\n" + "\n\n".join(texts) + "\n",
        remedy="mend each of them as it says",
    )


def names_of(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _cases(findings: Sequence[Finding]) -> str:
    names = list(dict.fromkeys(finding.case for finding in findings if finding.case))
    return f" ({names_of(names)})" if names else ""
