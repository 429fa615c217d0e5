"""One case of a source, for a process that predicts it alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from gdmunet.dataset import Case
from gdmunet.imageio import CaseVolumes
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.prediction import Prediction


class OneCase(CaseSource):
    """One case; whoever gave it out prepares the run, and ends it.

    Parameters
    ----------
    source
        Source that knows the case.
    case
        The case, as the source lists it.
    """

    def __init__(self, source: CaseSource, case: Case) -> None:
        self._source, self._case, self._noted = source, case, len(source.notes)
        self.input_folder, self.mask_folder = source.input_folder, source.mask_folder

    def list_cases(self) -> list[Case]:
        """The one case."""
        return [self._case]

    def files_beside(self, identifier: str) -> list[Path]:
        """As the source."""
        return self._source.files_beside(identifier)

    def read(self, case: Case) -> CaseVolumes:
        """As the source."""
        return self._source.read(case)

    def reading(self) -> dict[str, str]:
        """As the source."""
        return self._source.reading()

    def check_output(self, identifiers: Sequence[str], replace: bool) -> None:
        """As the source; what is there is of a worker that died, and is replaced."""
        self._source.check_output(identifiers, replace=True)

    def has(self, identifier: str) -> bool:
        """As the source."""
        return self._source.has(identifier)

    def write(self, prediction: Prediction) -> None:
        """As the source."""
        self._source.write(prediction)

    def finish(self, cases: Sequence[Case], predicted: Collection[str], options: PredictionOptions) -> list[str]:
        """What the source has noted about the case."""
        return list(self._source.notes[self._noted :])
