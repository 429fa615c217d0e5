"""The plans in the preprocessed folder of a data set."""

from __future__ import annotations

from pathlib import Path

from gdmunet import commands
from gdmunet.dataset import Case, groups_of
from gdmunet.errors import GdmError
from gdmunet.model_names import check_name
from gdmunet.plan_names import DEFAULT_PLANS, planning_flags
from gdmunet.plans import FINGERPRINT_FILE, Plans, load_plans
from gdmunet.splits import check_folds


def find_plans(preprocessed_dataset_folder: Path, name: str | None = None) -> Plans:
    """Read the plans of that name in the preprocessed folder of a data set; without a name the only ones, or gdmPlans.

    Raises
    ------
    GdmError
        There are no plans of that name, or several to choose from; lists those that there are.
    """
    folder = Path(preprocessed_dataset_folder)
    known = sorted(path.stem for path in folder.glob("*.json") if path.name != FINGERPRINT_FILE)
    if name is None and len(known) > 1 and DEFAULT_PLANS not in known:
        raise GdmError(
            f"{folder.name} has several plans", file=folder, found=", ".join(known), remedy="choose plans with -p"
        )
    flags = () if name is None else planning_flags(name)
    if name is None:
        name = known[0] if len(known) == 1 else DEFAULT_PLANS
    file = folder / f"{name}.json"
    if not file.is_file():
        raise GdmError(
            f"there are no plans {name} for {folder.name}",
            file=file,
            found=", ".join(known) or "no plans at all",
            remedy="choose plans with -p, or run {command}" if known else None,
            command=commands.plan_and_preprocess(folder.name, *flags),
        )
    plans = load_plans(file)
    check_plans(plans, file)
    return plans


def unused_name(preprocessed_dataset_folder: Path, name: str) -> str:
    """A name for new plans beside those of this name: the same with the first number from 2 on that is not taken."""
    number = 2
    while (Path(preprocessed_dataset_folder) / f"{name}_{number}.json").exists():
        number += 1
    return f"{name}_{number}"


def check_plans(plans: Plans, file: Path) -> None:
    """Refuse plans, also such as were written by hand, that cannot be trained on as they are.

    Raises
    ------
    GdmError
        A name that is not that of the file, or with which a model is not found again; folds that overlap.
    """
    if plans.name != file.stem:
        raise GdmError(
            "the plans call themselves by another name than their file",
            file=file,
            found=f"name: {plans.name}",
            expected=file.stem,
            remedy="correct name in the file: results are kept by that name",
        )
    check_name("plans", plans.name, f"choose another name in {file}, and for the file")
    for name in plans.configurations:
        check_name("a configuration", name, f"choose another name in {file}")
    named = dict.fromkeys(name for fold in plans.folds for name in (*fold.training, *fold.validation))
    check_folds(plans.folds, [Case(name, (), groups=groups_of(plans.dataset, name)) for name in named], file)
