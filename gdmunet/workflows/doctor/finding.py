"""One finding about the machine, and the text of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["good", "note", "bad"]
_MARKS: dict[State, str] = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    area
        Heading under which it is listed.
    name
        A few words on the thing.
    found
        Text of the finding.
    state
        ``bad`` if work will fail or give wrong results, ``note`` if it is slow or something optional is missing.
    advice
        Remedy; empty if there is nothing to do.
    """

    area: str
    name: str
    found: str
    state: State = "good"
    advice: str = ""


def findings_text(findings: Sequence[Finding]) -> str:
    """A list for people, by area; advice stands below its finding."""
    width = max(len(one.name) for one in findings)
    lines: list[str] = []
    for area in dict.fromkeys(one.area for one in findings):
        lines += ["", area] if lines else [area]
        for one in findings:
            if one.area == area:
                lines.append(f"  {_MARKS[one.state]}  {one.name.ljust(width)}  {one.found}")
                lines += [f"        {' ' * width}  -> {one.advice}"] if one.advice else []
    return "\n".join(lines)


def pasteable(findings: Sequence[Finding]) -> str:
    """The findings for a bug report: a fenced block without advice, and without the name of the user's folder."""
    home = str(Path.home())
    lines = [f"{one.area} | {one.name}: {one.found} [{one.state}]" for one in findings]
    return "\n".join(["```text", *(line.replace(home, "~") for line in lines), "```"])


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as JSON holds them."""
    worst = [state for state in ("bad", "note", "good") if any(one.state == state for one in findings)]
    return {"state": worst[0], "findings": [asdict(one) for one in findings]}
