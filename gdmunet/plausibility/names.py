"""Names that belong together: both sides of a join are counted, and what is left over is named."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping

from gdmunet.errors import GdmError
from gdmunet.plausibility.findings import Finding, names_of
from gdmunet.quantities import counted


def plain_name(name: str) -> str:
    """The name without what an eye does not tell apart: upper and lower case, spaces, the form of Unicode."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_distinct(names: Iterable[str], what: str, file: str | None = None) -> None:
    """Refuse two names that differ in case, space or Unicode form alone.

    Raises
    ------
    GdmError
        Two such names; names both.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(plain_name(name), name)
        if other != name:
            raise GdmError(
                f"two names of {what} differ in case, space or Unicode form alone",
                file=file,
                found=f"{_shown(other)} and {_shown(name)}",
                expected="one spelling for each name",
                remedy="write both in one way if they mean one thing, else rename one",
            )


def check_groups(groups: Mapping[str, Mapping[str, str]], file: str | None = None) -> None:
    """Refuse cases, kinds of group and groups whose names differ in case, space or Unicode form alone.

    Parameters
    ----------
    groups
        Case to kind of group to group.
    """
    check_distinct(groups, "cases", file)
    check_distinct(dict.fromkeys(kind for row in groups.values() for kind in row), "kinds of group", file)
    by_kind: dict[str, dict[str, None]] = {}
    for row in groups.values():
        for kind, group in row.items():
            by_kind.setdefault(kind, {})[group] = None
    for kind, names in by_kind.items():
        check_distinct(names, f"the group {kind}", file)


def leftovers(cases: Collection[str], table: Collection[str], where: str, *, partial: bool = False) -> list[Finding]:
    """Findings about cases that a table of groups does not name, and about names that are not cases.

    Parameters
    ----------
    where
        Name of the table, such as ``groups in dataset.json``.
    partial
        Whether the table may name cases that are not here (a whole data set's table for some of its cases): they are
        then only a finding if a case lacks its line.

    Raises
    ------
    GdmError
        A name of the table and a case differ in case, space or Unicode form alone.
    """
    unnamed, unknown = sorted(set(cases) - set(table)), sorted(set(table) - set(cases))
    plain = {plain_name(name): name for name in unnamed}
    for name in unknown:
        if (meant := plain.get(plain_name(name))) is not None:
            check_distinct((meant, name), f"cases ({where})")
    if not table or (not unnamed and (partial or not unknown)):
        return []
    parts = [f"{counted(unnamed, 'case')} without a line: {names_of(unnamed)}"] if unnamed else []
    parts += [f"{counted(unknown, 'line')} without a case: {names_of(unknown)}"] if unknown else []
    return [
        Finding(
            "groups",
            wrong=False,
            problem=f"{where} and the cases do not name the same",
            found=f"{counted(cases, 'case')} and {counted(table, 'line')}; {'; '.join(parts)}",
            expected="a line for each case",
        )
    ]


def _shown(name: str) -> str:
    """The name in quotes; with the code points if it is not plain ASCII, since the eye may not see a difference."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"
