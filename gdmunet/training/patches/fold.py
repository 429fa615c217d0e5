"""The cases that a fold trains on, those that it holds out, and the patches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdmunet.dataset import Fold
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.training.patches.source import PatchSource


@dataclass(frozen=True)
class FoldData:
    """The prepared cases of one fold.

    Attributes
    ----------
    fold
        Number of the fold, or ``all``.
    training, validation
        Identifiers of the cases.
    """

    plans: Plans
    configuration: Configuration
    fold: str
    store: CaseStore
    training: tuple[str, ...]
    validation: tuple[str, ...]

    @classmethod
    def of(cls, plans: Plans, configuration: str, fold: int | str, preprocessed: Path) -> FoldData:
        """The fold of those plans in the folder of prepared data sets.

        Raises
        ------
        GdmError
            The plans have no such configuration or fold; names those that they have.
        """
        planned = plans.configuration(configuration)
        store = CaseStore.of(preprocessed, plans, configuration)
        cases = plans.fold(str(fold), store.identifiers())
        return cls(plans, planned, str(fold), store, cases.training, cases.validation)

    @property
    def split(self) -> Fold:
        """The cases on both sides."""
        return Fold(self.training, self.validation)

    @property
    def unit(self) -> str:
        """Unit of the errors that are reported: that of the target."""
        dataset = self.plans.dataset
        return "HU" if dataset.hounsfield else f"{dataset.target_name} units"

    def source(self, cases: tuple[str, ...], body_share: float, seed: int) -> PatchSource:
        """The source of patches of those cases; `seed` names the stream."""
        configuration = self.configuration
        return PatchSource(
            self.store, cases, configuration.window_size, configuration.dimensions, configuration.background,
            body_share, seed,
        )  # fmt: skip
