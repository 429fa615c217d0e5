"""Training cases that stand apart from the others, by median and median absolute deviation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.numbers import Number
from gdmunet.quantities import counted

# Fewer others do not say what is usual.
_FEWEST_OTHERS = 2
# Deviations (of a normal distribution) from the median of the others that stand apart, if the others are many.
_DEVIATIONS = 6.0
# Few cases know their own spread badly: added over the number of the others.
_FOR_FEW = 24.0
_TO_SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation


def outliers(values: Mapping[str, float], number: Number, what: str) -> list[Finding]:
    """The cases whose number stands apart from that of the others.

    A case is compared with the median and the median absolute deviation of all *other* cases, so that it cannot widen
    the spread that it is measured by. It stands apart by ``6 + 24 / others`` deviations, and by no less than the
    number's own smallest distance.

    Parameters
    ----------
    values
        Case to the value of the number.
    what
        The volume, such as ``target (CT)``, or a text for whole cases.
    """
    places = {name: number.place(value) for name, value in values.items()}
    found = []
    for name, place in places.items():
        others = np.array([other for case, other in places.items() if case != name])
        if others.size < _FEWEST_OTHERS:
            return []
        middle = float(np.median(others))
        sigma = _TO_SIGMA * float(np.median(np.abs(others - middle)))
        if abs(place - middle) <= max(number.margin, (_DEVIATIONS + _FOR_FEW / others.size) * sigma):
            continue
        rest = [value for case, value in values.items() if case != name]
        found.append(
            Finding(
                "outliers",
                wrong=False,
                problem=f"{number.label} of {what} stands apart" if what else f"{number.label} stands apart",
                found=number.text(values[name]),
                expected=f"{number.text(float(np.median(rest)))}, the median of the {counted(rest, 'other case')} "
                f"({number.range_text(min(rest), max(rest))})",
                case=name,
            )
        )
    return found
