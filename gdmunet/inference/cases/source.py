"""The interface through which prediction gets its cases."""

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
    """Lists the cases of a prediction, reads one, and writes the files beside a prediction.

    A new kind of input derives from it and defines `list_cases` and `read`; the other methods do nothing by default.

    Attributes
    ----------
    input_folder, mask_folder
        Folders that the cases and their body masks are read from, or the one mask; None: there is no such folder.
    notes
        Lines for people about the cases that were read and written.
    """

    input_folder: Path | None = None
    mask_folder: Path | None = None
    notes: Sequence[str] = ()

    @abstractmethod
    def list_cases(self) -> list[Case]:
        """All cases in order, before anything is read."""

    def left_out(self) -> list[str]:
        """Sentences about files that are in no case, said before the first case is read."""
        return []

    def files_beside(self, identifier: str) -> list[Path]:
        """Files, or folders, that `write` promises beside the prediction of a case."""
        return []

    @abstractmethod
    def read(self, case: Case) -> CaseVolumes:
        """The volumes of one case; runs in a thread that reads ahead."""

    def place_of(self, folder: Path | None) -> str | None:
        """Text that prediction_settings.json holds for one of the source's folders."""
        return None if folder is None else str(folder)

    def reading(self) -> dict[str, str]:
        """Choices that change what is read, by name; prediction_settings.json holds them."""
        return {}

    def check_output(self, identifiers: Sequence[str], replace: bool) -> None:
        """Refuse cases whose output exists already; with `replace`, only if it may not be replaced."""
        return

    def prepare(self, cases: Sequence[Case], options: PredictionOptions) -> None:
        """Write files that are read later; called once, before the first case is read."""
        return

    def has(self, identifier: str) -> bool:
        """Whether all files beside the prediction of a case are there."""
        return True

    def write(self, prediction: Prediction) -> None:
        """Write the files beside a prediction; runs in a thread that writes behind."""
        return

    def finish(self, cases: Sequence[Case], predicted: Collection[str], options: PredictionOptions) -> list[str]:
        """End the run over `cases`, of which `predicted` are new; gives lines for people."""
        return []
