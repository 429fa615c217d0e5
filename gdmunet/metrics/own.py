"""Metrics of the user's own: a described function of a file, which becomes a row of the table of metrics.

    from gdmunet.metrics import described

    @described("worst error", unit="target", best="low")
    def worst(pair):
        target, prediction = pair.values
        return abs(prediction - target).max()

The row travels in the files of the scores, without the code: whoever reads them knows its label, unit and direction.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gdmunet.consents import file_sha256, source_of
from gdmunet.errors import GdmError
from gdmunet.metrics.metric import ImagePair, Metric
from gdmunet.metrics.table import METRICS, enrol
from gdmunet.user_code import import_user_module

Score = Callable[[ImagePair], float | None]
_DESCRIPTION = "gdm_metric"
_HOW = 'put @described("label", unit="target", best="low") of gdmunet.metrics over the function'


@dataclass(frozen=True)
class OwnMetricSpec:
    """The row of a user's metric, as summary.json and comparison.json hold it.

    Attributes
    ----------
    name, label, unit, best, decimals, meaning
        Fields of the same names in `Metric`.
    source, sha256
        ``file.py:function`` or ``package.module:function`` that computed it, and the hash of its file. Readers of the
        scores run neither.
    """

    name: str
    label: str
    unit: str
    best: Literal["low", "high"] | float
    decimals: int
    meaning: str
    source: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        """Make the row known to every table (GdmError: its name is that of another metric)."""
        if not self.name.isidentifier() or not self.label or not 0 <= self.decimals <= 15:
            raise GdmError("a metric needs a name, a label and 0 to 15 decimals", found=self, remedy=_HOW)
        if self.best not in ("low", "high") and (isinstance(self.best, str) or not math.isfinite(self.best)):
            raise GdmError(
                f"the direction of the metric {self.name} is not known",
                found=self.best,
                expected="low, high, or the value at which a prediction is perfect",
                remedy=_HOW,
            )
        self.enrolled()

    def enrolled(self) -> Metric:
        """The row, in the table of this process: a value that came from another process is new to it.

        Raises
        ------
        GdmError
            Its name is that of another metric.
        """
        return enrol(
            Metric(
                name=self.name,
                label=self.label,
                unit=self.unit,
                best=self.best,
                decimals=self.decimals,
                meaning=self.meaning,
                main=True,
                basis="own",
            )
        )


@dataclass(frozen=True)
class _Description:
    label: str
    unit: str
    best: Literal["low", "high"] | float
    decimals: int


def described(
    label: str, *, unit: str = "ratio", best: Literal["low", "high"] | float, decimals: int = 2
) -> Callable[[Score], Score]:
    """Describe a function of an `ImagePair` as a metric; the first line of its docstring is its meaning.

    Parameters
    ----------
    label
        Name for people, without the unit.
    unit
        ``target`` (the unit of the target), ``ratio`` or ``distance`` (none), or the text of a unit, such as ``mm``.
    best
        ``low``, ``high``, or the value at which a prediction is perfect.
    decimals
        Decimals for people; files hold every digit.
    """

    def describe(function: Score) -> Score:
        setattr(function, _DESCRIPTION, _Description(label, unit, best, decimals))
        return function

    return describe


def own_metrics(places: Sequence[str]) -> tuple[OwnMetricSpec, ...]:
    """The rows of the functions that the user names; their files are run.

    Raises
    ------
    GdmError
        A file or function that is missing, one without a description, or a name that another metric has.
    """
    return tuple(_spec(place) for place in places)


def own_score(spec: OwnMetricSpec, pair: ImagePair) -> float | None:
    """The value of a pair of volumes; runs in each worker process, which imports the function itself.

    Raises
    ------
    GdmError
        The function failed, or gave something else than a number or None; names it.
    """
    function = _function(spec.source)
    try:
        value = function(pair)
        return None if value is None else float(value)
    except GdmError:
        raise
    except Exception as error:
        raise GdmError(
            f"the metric {spec.source} failed",
            found=f"{type(error).__name__}: {error}",
            expected="a number, or None if it is undefined",
            remedy="correct the function, or omit --metric",
        ) from error


def _spec(place: str) -> OwnMetricSpec:
    function = _function(place)
    description = getattr(function, _DESCRIPTION, None)
    if not isinstance(description, _Description):
        raise GdmError(f"the metric {place} has no label, unit and direction", file=place, remedy=_HOW)
    name = place.rpartition(":")[2]
    if name in METRICS and METRICS[name].basis != "own":
        raise GdmError("a metric of this name is known already", found=name, file=place, remedy="rename the function")
    meaning = (inspect.getdoc(function) or description.label).splitlines()[0]
    return OwnMetricSpec(
        name,
        description.label,
        description.unit,
        description.best,
        description.decimals,
        meaning,
        place,
        file_sha256(source_of(place.rpartition(":")[0])),
    )


@functools.cache
def _function(place: str) -> Score:
    module_name, colon, name = place.rpartition(":")
    if not colon:
        raise GdmError(
            f"{place} does not name a function of a file",
            expected="file.py:function or package.module:function",
            remedy="add the function's name behind a colon",
        )
    function = getattr(import_user_module(module_name, "metric"), name, None)
    if not callable(function):
        raise GdmError(f"there is no function {name}", file=module_name, remedy="check its name")
    return function  # type: ignore[no-any-return]
