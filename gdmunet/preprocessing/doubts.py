"""What planning makes of the fingerprint's measures: outliers, rows for the table of reasons, and ranges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from gdmunet.dataset import DatasetDescriptor
from gdmunet.plans import Reason
from gdmunet.plausibility.cases import TARGET, CaseMeasures
from gdmunet.plausibility.findings import Finding, names_of
from gdmunet.plausibility.numbers import CASE_NUMBERS, numbers_of, outlier_numbers, values_of
from gdmunet.plausibility.outliers import outliers
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.plausibility.ranges import ranges_over
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.quantities import counted

# Rows of one check before the others are counted.
_LISTED = 10


def find_outliers(fingerprint: Fingerprint, descriptor: DatasetDescriptor) -> list[Finding]:
    """The cases that stand apart from the others, in every number of the fingerprint; none if it holds no measures."""
    measures = _measures(fingerprint)
    found: list[Finding] = []
    for name, number in CASE_NUMBERS.items():
        found += outliers({case: one.case[name] for case, one in measures.items()}, number, "")
    for key, word in _volumes(descriptor).items():
        what = f"the target ({word})" if key == TARGET else f"channel {key} ({word})"
        numbers = outlier_numbers(word, target=key == TARGET)
        values = {case: values_of(numbers, one.volumes[key]) for case, one in measures.items() if key in one.volumes}
        for name, number in numbers.items():
            found += outliers({case: row[name] for case, row in values.items() if name in row}, number, what)
    return found


def ranges_of(fingerprint: Fingerprint, descriptor: DatasetDescriptor, accepted: Collection[str]) -> RangeSpec | None:
    """The ranges of the training cases; None if the fingerprint is of an earlier version and holds no measures."""
    measures = list(_measures(fingerprint).values())
    if not measures:
        return None
    by_volume = {
        key: ranges_over(
            values_of(numbers_of(word, target=key == TARGET), one.volumes[key])
            for one in measures
            if key in one.volumes
        )
        for key, word in _volumes(descriptor).items()
    }
    channels = tuple(by_volume[str(channel)] for channel in range(len(descriptor.channels)))
    case = ranges_over(one.case for one in measures)
    return RangeSpec(len(measures), case, channels, by_volume[TARGET], tuple(sorted(set(accepted))))


def warning_rows(findings: Iterable[Finding], accepted: Collection[str]) -> tuple[Reason, ...]:
    """Rows for the table of reasons: ten of each check, and the number of the others."""
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding)
    rows: list[Reason] = []
    for check, doubts in by_check.items():
        if check in accepted:
            cases = _cases(doubts)
            rows.append(Reason(f"accepted {check}", counted(doubts, "finding"), f"--accept {check}; {cases}"))
            continue
        rows += [
            Reason(
                f"WARNING {check}", finding.place or "data set", f"{finding.statement} (to insist: --accept {check})"
            )
            for finding in doubts[:_LISTED]
        ]
        if rest := doubts[_LISTED:]:
            rows.append(Reason(f"WARNING {check}", counted(rest, "further finding"), _cases(rest)))
    return tuple(rows)


def _measures(fingerprint: Fingerprint) -> dict[str, CaseMeasures]:
    known = {name: case.measures for name, case in fingerprint.cases.items() if case.measures is not None}
    return known if len(known) == len(fingerprint.cases) else {}


def _volumes(descriptor: DatasetDescriptor) -> dict[str, str]:
    """Key of each volume to its modality."""
    return {**descriptor.channel_names, TARGET: descriptor.target_name}


def _cases(findings: Sequence[Finding]) -> str:
    return names_of(list(dict.fromkeys(finding.case for finding in findings if finding.case))) or "the data set"
