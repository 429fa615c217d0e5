"""The one thing that prediction knows of where its cases come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from gdmunet.dataset import Case
from gdmunet.imageio import CaseVolumes
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.prediction import Prediction


class CaseSource(Protocol):
    """Lists the cases of a prediction, reads one, and writes what belongs beside a prediction.

    A new kind of input derives from it and writes `list_cases` and `read`; the rest does nothing unless it is written.

    Attributes
    ----------
    input_folder, mask_folder
        Folders that the cases and their body masks are read from; None where there is no such folder.
    """

    input_folder: Path | None = None
    mask_folder: Path | None = None

    @abstractmethod
    def list_cases(self) -> list[Case]:
        """All cases in order, before anything is read."""

    @abstractmethod
    def read(self, case: Case) -> CaseVolumes:
        """The volumes of one case; runs in a thread that reads ahead."""

    def check_output(self, identifiers: Sequence[str], replace: bool) -> None:
        """Refuse these cases where something lies in the way; with `replace`, only what may not be replaced."""
        return

    def prepare(self, cases: Sequence[Case], options: PredictionOptions) -> None:
        """Write what is read later; called once, before the first case is read."""
        return

    def has(self, identifier: str) -> bool:
        """Whether all that belongs beside the prediction of a case is there."""
        return True

    def write(self, prediction: Prediction) -> None:
        """Write what belongs beside a prediction; runs in a thread that writes behind."""
        return

    def finish(self, cases: Sequence[Case], predicted: Collection[str], options: PredictionOptions) -> list[str]:
        """End the run over `cases`, of which `predicted` are new; gives lines for people."""
        return []
