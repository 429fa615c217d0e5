"""The plans of a data set as commands find them, and the command to run if there are none yet."""

from __future__ import annotations

from gdmunet import commands
from gdmunet.dataset import find_dataset, matching_datasets
from gdmunet.errors import GdmError
from gdmunet.paths import Folders
from gdmunet.plan_folder import find_plans
from gdmunet.plan_names import planning_flags
from gdmunet.plans import Plans


def find_planned(folders: Folders, dataset: str, plans: str | None) -> Plans:
    """The plans of that name of a data set; without a name the only ones, or gdmPlans.

    Raises
    ------
    GdmError
        Unknown data set, one that is not planned yet, or unknown plans.
    """
    if matching_datasets(folders.raw, dataset) and not matching_datasets(folders.preprocessed, dataset):
        raise GdmError(
            f"data set {dataset} is not planned yet",
            file=folders.preprocessed.resolve(),
            found="raw data alone",
            command=commands.plan_and_preprocess(dataset, *(() if plans is None else planning_flags(plans))),
        )
    return find_plans(find_dataset(folders.preprocessed, dataset), plans)
