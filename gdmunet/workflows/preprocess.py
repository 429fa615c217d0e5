"""Preprocessing from folder to folder; finished cases whose sources and plans are unchanged are not done again."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet import commands
from gdmunet.claims import Claim
from gdmunet.dataset import Case, DatasetDescriptor, list_cases, load_descriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.host_memory import planned_memory
from gdmunet.imageio import CaseVolumes, read_case
from gdmunet.parts import WHOLE, OpenParts, PartOptions
from gdmunet.plan_names import planning_flags
from gdmunet.plans import Configuration, Plans
from gdmunet.preprocessing.case_fingerprint import source_files
from gdmunet.preprocessing.case_record import CaseOrigin
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.fingerprint import known_bodies
from gdmunet.preprocessing.known_body import KnownBody
from gdmunet.preprocessing.preprocessor import CroppedCase, crop_case, prepare_cropped, with_body
from gdmunet.progress import say
from gdmunet.provenance import cases_hash
from gdmunet.workers import run_in_workers


@dataclass(frozen=True)
class PreparedFolder:
    """Result of a run: cases that were prepared, those that were there already, and those that were removed.

    `missing` are the parts whose cases are not there; None: all are, or the run was not a part.
    """

    store: CaseStore
    prepared: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    missing: OpenParts | None = None

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
    part: PartOptions = WHOLE,
) -> list[PreparedFolder]:
    """Prepare the training cases, or a part, for some configurations; each case is read once for all of them.

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
        held = [claims.enter_context(Claim.on_folder(folder, "preprocessing", part)) for folder in stores]
        task = _Task(cases, descriptor, Path(preprocessed_dataset_folder), clean, part)
        done = _prepare_all(orders, task, processes, show_progress)
        for claim in held:
            claim.check()
        return done


@dataclass(frozen=True)
class _Task:
    """What a run prepares: which of the cases of a data set, where, and whether they are done again."""

    cases: Sequence[Case]
    descriptor: DatasetDescriptor
    folder: Path
    clean: bool
    part: PartOptions


def _prepare_all(orders: Sequence[_Order], task: _Task, processes: int, show_progress: bool) -> list[PreparedFolder]:
    cases, descriptor = task.cases, task.descriptor
    removed = [_tidy(order) for order in orders]
    mine = task.part.part_of([case.identifier for case in cases])
    todo = [order.todo(mine, task.clean) for order in orders]
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
    widened = run_in_workers(_prepare, items, processes, show_progress, f"preprocessing {names_of}")
    for (name, _), lines in zip(items, widened, strict=True):
        for line in lines:
            say(f"note: {name}, {line}")
    return [
        PreparedFolder(order.store, names, tuple(sorted({*mine} - {*names})), gone, order.missing(task.part))
        for order, names, gone in zip(orders, todo, removed, strict=True)
    ]


@dataclass(frozen=True)
class _Order:
    """A configuration to prepare, where, and what each of its cases is made from."""

    configuration: Configuration
    store: CaseStore
    origins: dict[str, CaseOrigin]

    def todo(self, names: Collection[str], clean: bool = False) -> tuple[str, ...]:
        """Those of the cases that are not there as they should be, or all of them."""
        return tuple(name for name in names if clean or self.store.origin(name) != self.origins[name])

    def missing(self, part: PartOptions) -> OpenParts | None:
        """The parts whose cases are not there; None: all are, or there are no parts."""
        lacking = () if part.is_whole else self.todo(self.origins)
        return OpenParts.of(part, list(self.origins), set(lacking)) if lacking else None


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
) -> list[str]:
    """Read a case once and prepare it for each configuration, so that one axis order is cut once.

    Returns what is remarkable: channels that are stored in a wider type than the plans want.
    """
    volumes = read_case(case)
    with planned_memory(volumes.crop_bytes, "preparing the case", case.identifier):
        return _prepare_each(
            with_body(body.given_to(volumes) if body else volumes, descriptor.channels), descriptor, wanted
        )


def _prepare_each(
    volumes: CaseVolumes, descriptor: DatasetDescriptor, wanted: Sequence[tuple[Configuration, CaseStore, CaseOrigin]]
) -> list[str]:
    names = [*(f"channel {number} ({word})" for number, word in enumerate(descriptor.channels)), "target"]
    lines: list[str] = []
    cropped: dict[tuple[int, ...], CroppedCase] = {}
    for configuration, store, origin in wanted:
        if configuration.transpose not in cropped:
            cropped = {configuration.transpose: crop_case(volumes, descriptor.channels, configuration.transpose)}
        one = cropped[configuration.transpose]
        # Without a name: the first configuration's volumes are gone when those of the next one are made.
        widened = store.write(
            prepare_cropped(one, volumes.identifier, volumes.geometry, configuration, descriptor),
            configuration.window_size,
            origin,
            configuration.storage,
        )
        which = ", ".join(names[number] for number in widened)
        lines += [f"{configuration.name}: {which} stored as float32, values do not fit the plans' type"] * bool(widened)
    return lines


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
