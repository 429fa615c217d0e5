"""The plausibility step before a prediction: what cannot be right ends it, what may be is said once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gdmunet.dataset import Case, DatasetDescriptor
from gdmunet.imageio import CaseVolumes
from gdmunet.plausibility.cases import Expectation
from gdmunet.plausibility.findings import settle
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.preprocessing.checked import checked_case
from gdmunet.progress import say


class Admission:
    """Compares cases with what a model was trained on.

    Parameters
    ----------
    descriptor
        Description of the model's data set.
    ranges
        Ranges of its training cases; None: they are not known.
    accepted
        Checks whose findings are accepted, beside those that planning accepted.
    """

    def __init__(self, descriptor: DatasetDescriptor, ranges: RangeSpec | None, accepted: Collection[str]) -> None:
        self.ranges = ranges
        self._expected = Expectation(descriptor.channels, descriptor.target_name, ranges)
        self._accepted = {*accepted, *(ranges.accepted if ranges else ())}
        self._said: set[str] = set()

    def admit(self, volumes: CaseVolumes, case: Case | None = None) -> CaseVolumes:
        """The case with its body and without its target, which is not looked at.

        Raises
        ------
        GdmError
            The case cannot be what the model was trained on, or no body can be found.
        """
        known, checked = checked_case(replace(volumes, target=None), self._expected, case, self._accepted)
        for line in settle(checked.findings, self._accepted):
            if line not in self._said:
                self._said.add(line)
                say(line)
        return known
