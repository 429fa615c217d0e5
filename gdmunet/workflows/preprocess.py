"""Preprocessing from folder to folder; finished cases whose sources and plans are unchanged are not done again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from gdmunet import commands
from gdmunet.dataset import Case, DatasetDescriptor, list_cases, load_descriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case
from gdmunet.plan_names import planning_flags
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.casestore import CaseOrigin, CaseStore
from gdmunet.preprocessing.fingerprint import source_files
from gdmunet.preprocessing.preprocessor import prepare_case
from gdmunet.serialization import to_json
from gdmunet.workers import run_in_workers

# The second number is raised whenever preparing gives other numbers than before.
RECIPE_VERSIONS = (1, 1)


@dataclass(frozen=True)
class PreparedFolder:
    """Result of a run: cases that were prepared, those that were there already, and those that were removed."""

    store: CaseStore
    prepared: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The folder of the cases."""
        return self.store.folder


def preprocess(
    dataset_folder: Path,
    preprocessed_dataset_folder: Path,
    plans: Plans,
    configuration_name: str,
    processes: int = 1,
    show_progress: bool = True,
    clean: bool = False,
) -> PreparedFolder:
    """Prepare every training case for one configuration.

    Parameters
    ----------
    clean
        Whether all cases are prepared again.

    Raises
    ------
    GdmError
        Plans of another data set, or a case that cannot be prepared; finished cases stay.
    """
    descriptor = load_descriptor(dataset_folder)
    _check_plans(plans, descriptor, Path(dataset_folder))
    configuration = plans.configuration(configuration_name)
    cases = list_cases(dataset_folder, descriptor)
    store = CaseStore(preprocessed_dataset_folder, plans.name, configuration_name)
    recipe = recipe_hash(configuration, descriptor)
    origins = {case.identifier: CaseOrigin(recipe, source_files(case)) for case in cases}
    removed = [name for name in store.identifiers() if name not in origins]
    for name in removed:
        store.remove(name)
    for leftover in store.folder.glob(".tmp-*"):  # of a run that was killed
        leftover.unlink(missing_ok=True)
    todo = [case for case in cases if clean or store.origin(case.identifier) != origins[case.identifier]]
    items = [(case.identifier, (case, configuration, descriptor, store, origins[case.identifier])) for case in todo]
    run_in_workers(_prepare, items, processes, show_progress, f"preprocessing {configuration_name}")
    done = tuple(case.identifier for case in todo)
    return PreparedFolder(store, done, tuple(name for name in origins if name not in set(done)), tuple(removed))


def recipe_hash(configuration: Configuration, descriptor: DatasetDescriptor) -> str:
    """sha256 of everything but the files that decides how a prepared case looks."""
    recipe = {
        "versions": RECIPE_VERSIONS,
        "channels": descriptor.channels,
        "mask": descriptor.mask,
        "transpose": configuration.transpose,
        "spacing": configuration.spacing,
        "normalization": [*configuration.condition_normalization, configuration.target_normalization],
        "order": configuration.order,
        "window": configuration.window_size,
    }
    return hashlib.sha256(json.dumps(to_json(recipe), sort_keys=True).encode()).hexdigest()


def _prepare(
    case: Case, configuration: Configuration, descriptor: DatasetDescriptor, store: CaseStore, origin: CaseOrigin
) -> None:
    prepared = prepare_case(read_case(case), configuration, descriptor)
    store.write(prepared, configuration.window_size, origin)


def _check_plans(plans: Plans, descriptor: DatasetDescriptor, dataset_folder: Path) -> None:
    name = dataset_folder.resolve().name
    planned = (plans.dataset_name, plans.dataset.channels, plans.dataset.target_name)
    if planned != (name, descriptor.channels, descriptor.target_name):
        raise GdmError(
            f"the plans are of another data set, or {DESCRIPTOR_FILE} has changed since",
            file=dataset_folder,
            found=f"plans of {plans.dataset_name}, {', '.join(planned[1])} to {planned[2]}",
            expected=f"{name}, {', '.join(descriptor.channels)} to {descriptor.target_name}",
            command=commands.plan_and_preprocess(name, *planning_flags(plans.name)),
        )
