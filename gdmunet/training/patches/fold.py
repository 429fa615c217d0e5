"""Which cases a fold trains on, which it holds out, and the patches that can be drawn of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdmunet.dataset import Fold
from gdmunet.errors import GdmError
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.quantities import counted
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
        store = CaseStore(preprocessed / plans.dataset_name, plans.name, configuration)
        cases = cases_of_fold(plans, store, str(fold))
        return cls(plans, planned, str(fold), store, cases.training, cases.validation)

    @property
    def unit(self) -> str:
        """Unit of the errors that are reported: that of the target."""
        dataset = self.plans.dataset
        return "HU" if dataset.hounsfield else f"{dataset.target_name} units"

    def source(self, cases: tuple[str, ...], body_share: float, seed: int) -> PatchSource:
        """Where patches of those cases come from; `seed` names the stream."""
        configuration = self.configuration
        return PatchSource(
            self.store, cases, configuration.window_size, configuration.dimensions, configuration.background,
            body_share, seed,
        )  # fmt: skip


def cases_of_fold(plans: Plans, store: CaseStore, fold: str) -> Fold:
    """The cases of fold ``"0"``, ``"1"``, ...; ``"all"`` trains and validates on every prepared case.

    Raises
    ------
    GdmError
        The plans have no such fold; names those that they have.
    """
    if fold == "all":
        everything = tuple(store.identifiers())
        return Fold(training=everything, validation=everything)
    if not fold.isdigit() or int(fold) >= len(plans.folds):
        known = ", ".join([*map(str, range(len(plans.folds))), "all"])
        raise GdmError(
            f"fold {fold} does not exist",
            found=f"the plans have {counted(plans.folds, 'fold')}",
            expected=known,
            remedy="one case or one patient alone cannot be split: train on fold all",
        )
    return plans.folds[int(fold)]
