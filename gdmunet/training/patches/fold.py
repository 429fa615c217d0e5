"""Which cases a fold trains on, and which it holds out."""

from __future__ import annotations

from gdmunet.dataset import Fold
from gdmunet.errors import GdmError
from gdmunet.plans import Plans
from gdmunet.preprocessing.casestore import CaseStore


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
            found=f"the plans have {len(plans.folds)} folds",
            expected=known,
            remedy="one case or one patient alone cannot be split: train on fold all",
        )
    return plans.folds[int(fold)]
