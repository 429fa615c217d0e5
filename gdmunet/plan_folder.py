"""The plans in the preprocessed folder of a data set."""

from __future__ import annotations

from pathlib import Path

from gdmunet import commands
from gdmunet.errors import GdmError
from gdmunet.plan_names import DEFAULT_PLANS, planning_flags
from gdmunet.plans import FINGERPRINT_FILE, Plans, load_plans


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
    if name is None:
        name = known[0] if len(known) == 1 else DEFAULT_PLANS
    file = folder / f"{name}.json"
    if not file.is_file():
        raise GdmError(
            f"there are no plans {name} for {folder.name}",
            file=file,
            found=", ".join(known) or "no plans at all",
            remedy="choose plans with -p, or run {command}" if known else None,
            command=commands.plan_and_preprocess(folder.name, *planning_flags(name)),
        )
    return load_plans(file)
