"""Training cases that stand apart from the others, by median and median absolute deviation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.numbers import Number
from gdmunet.quantities import counted

# Fewer others do not say what is usual.
_FEWEST_OTHERS = 2
_TO_SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation


def deviations_apart(others: int) -> float:
    """Deviations from the median of the others that stand apart: 6 if these are many.

    Few cases know their own spread badly. The values keep the share of normally distributed data sets in which any case
    is named at about 2 %.
    """
    if others <= 3:
        return 140.0
    return 25.0 if others <= 5 else 6 + 200 / others**2


def outliers(values: Mapping[str, float], number: Number, what: str) -> list[Finding]:
    """The cases whose number stands apart from that of the others.

    A case is compared with the median and the median absolute deviation of all *other* cases, so that it cannot widen
    the spread that it is measured by. It stands apart by more deviations than
    `deviations_apart`, and by no less than the number's own smallest distance.

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
        if abs(place - middle) <= max(number.margin, deviations_apart(others.size) * sigma):
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
