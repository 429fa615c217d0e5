"""Preprocessing from folder to folder; finished cases whose sources and plans are unchanged are not done again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet import commands
from gdmunet.claims import Claim
from gdmunet.dataset import Case, DatasetDescriptor, list_cases, load_descriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case
from gdmunet.plan_names import planning_flags
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.casestore import CaseOrigin, CaseStore
from gdmunet.preprocessing.fingerprint import known_bodies, source_files
from gdmunet.preprocessing.known_body import KnownBody
from gdmunet.preprocessing.preprocessor import CroppedCase, crop_case, prepare_cropped, with_body
from gdmunet.provenance import cases_hash
from gdmunet.workers import run_in_workers


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

    @property
    def files(self) -> list[Path]:
        """The files of every case, made by this run or an earlier one."""
        return [file for name in (*self.prepared, *self.unchanged) for file in self.store.files(name)]


def preprocess(
    dataset_folder: Path,
    preprocessed_dataset_folder: Path,
    plans: Plans,
    configurations: Sequence[str],
    processes: int = 1,
    show_progress: bool = True,
    clean: bool = False,
) -> list[PreparedFolder]:
    """Prepare every training case for some configurations; each case is read once for all of them.

    Parameters
    ----------
    configurations
        Names of configurations of the plans.
    clean
        Whether all cases are prepared again.

    Returns
    -------
    What was done, for each configuration.

    Raises
    ------
    GdmError
        Plans of another data set, or a case that cannot be prepared; finished cases stay.
    """
    descriptor = load_descriptor(dataset_folder)
    _check_plans(plans, descriptor, Path(dataset_folder))
    cases = list_cases(dataset_folder, descriptor)
    orders = [
        _order(plans.configuration(name), CaseStore(preprocessed_dataset_folder, plans.name, name), cases, descriptor)
        for name in configurations
    ]
    with contextlib.ExitStack() as claims:
        stores = sorted(order.store.folder for order in orders)
        held = [claims.enter_context(Claim.on_folder(folder, "preprocessing")) for folder in stores]
        done = _prepare_all(
            orders, _Task(cases, descriptor, Path(preprocessed_dataset_folder), clean), processes, show_progress
        )
        for claim in held:
            claim.check()
        return done


@dataclass(frozen=True)
class _Task:
    """What a run prepares: cases of a data set, where, and whether all are done again."""

    cases: Sequence[Case]
    descriptor: DatasetDescriptor
    folder: Path
    clean: bool


def _prepare_all(orders: Sequence[_Order], task: _Task, processes: int, show_progress: bool) -> list[PreparedFolder]:
    cases, descriptor = task.cases, task.descriptor
    removed = [_tidy(order) for order in orders]
    todo = [order.todo(task.clean) for order in orders]
    bodies = known_bodies(task.folder, cases, descriptor)
    items = []
    for case in cases:
        name = case.identifier
        wanted = tuple(
            (order.configuration, order.store, order.origins[name])
            for order, names in zip(orders, todo, strict=True)
            if name in names
        )
        if wanted:
            items.append((name, (case, descriptor, bodies.get(name), wanted)))
    names_of = ", ".join(order.configuration.name for order in orders)
    run_in_workers(_prepare, items, processes, show_progress, f"preprocessing {names_of}")
    return [
        PreparedFolder(order.store, names, tuple(name for name in order.origins if name not in set(names)), gone)
        for order, names, gone in zip(orders, todo, removed, strict=True)
    ]


@dataclass(frozen=True)
class _Order:
    """A configuration to prepare, where, and what each of its cases is made from."""

    configuration: Configuration
    store: CaseStore
    origins: dict[str, CaseOrigin]

    def todo(self, clean: bool) -> tuple[str, ...]:
        """The cases that are not there as they should be, or all."""
        return tuple(name for name, origin in self.origins.items() if clean or self.store.origin(name) != origin)


def _order(
    configuration: Configuration, store: CaseStore, cases: Sequence[Case], descriptor: DatasetDescriptor
) -> _Order:
    recipe = cases_hash(configuration, descriptor)
    return _Order(configuration, store, {case.identifier: CaseOrigin(recipe, source_files(case)) for case in cases})


def _tidy(order: _Order) -> tuple[str, ...]:
    """Delete cases that the data set has no more; gives them."""
    removed = tuple(name for name in order.store.identifiers() if name not in order.origins)
    for name in removed:
        order.store.remove(name)
    return removed


def _prepare(
    case: Case,
    descriptor: DatasetDescriptor,
    body: KnownBody | None,
    wanted: Sequence[tuple[Configuration, CaseStore, CaseOrigin]],
) -> None:
    """Read a case once and prepare it for each configuration, so that one axis order is cut once."""
    volumes = read_case(case)
    volumes = with_body(body.given_to(volumes) if body else volumes, descriptor.channels)
    cropped: dict[tuple[int, ...], CroppedCase] = {}
    for configuration, store, origin in wanted:
        if configuration.transpose not in cropped:
            cropped = {configuration.transpose: crop_case(volumes, descriptor.channels, configuration.transpose)}
        one = cropped[configuration.transpose]
        # Without a name: the first configuration's volumes are gone when those of the next one are made.
        store.write(
            prepare_cropped(one, case.identifier, volumes.geometry, configuration, descriptor),
            configuration.window_size,
            origin,
        )


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
