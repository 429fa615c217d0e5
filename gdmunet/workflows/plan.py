"""Planning from folder to folder: fingerprint and data set in, plans.json out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gdmunet import commands
from gdmunet.atomic import move
from gdmunet.dataset import Case, Fold, list_cases, load_descriptor
from gdmunet.errors import GdmError
from gdmunet.plans import FINGERPRINT_FILE, Plans
from gdmunet.plausibility.findings import settle
from gdmunet.preprocessing.doubts import find_outliers
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.folds import make_folds
from gdmunet.preprocessing.group_names import group_findings
from gdmunet.preprocessing.planner import plan_experiment
from gdmunet.preprocessing.planning_options import PlanningOptions
from gdmunet.progress import say
from gdmunet.quantities import counted
from gdmunet.serialization import load_json, read_json, save_json
from gdmunet.splits import check_folds, held_out_twice, left_out, named, read_splits

# End of the name of a plans file that could not be read, and that planning has put aside.
DAMAGED = ".damaged"


def run_planning(dataset_folder: Path, preprocessed_dataset_folder: Path, options: PlanningOptions) -> Plans:
    """Plan a data set and write ``<plans name>.json`` into its preprocessed folder, replacing the plans of that name.

    Parameters
    ----------
    dataset_folder, preprocessed_dataset_folder
        ``DatasetXXX_Name`` in the raw and in the preprocessed folder; the latter holds the fingerprint.

    Raises
    ------
    GdmError
        No fingerprint, one of other cases, plans of another data set in the way, folds that overlap, planning is
        impossible, or a case is not what it claims to be.
    """
    preprocessed = Path(preprocessed_dataset_folder)
    descriptor = load_descriptor(dataset_folder)
    cases = list_cases(dataset_folder, descriptor)
    file = preprocessed / FINGERPRINT_FILE
    fingerprint = _load_fingerprint(file, {case.identifier for case in cases}, len(descriptor.channels))
    dataset_name = Path(dataset_folder).resolve().name
    destination = preprocessed / f"{options.plans_name}.json"
    _check_destination(destination, dataset_name)
    folds = make_folds(cases) if options.splits is None else own_folds(options.splits, cases)
    findings = [
        *fingerprint.findings,
        *group_findings(Path(dataset_folder), descriptor),
        *find_outliers(fingerprint, descriptor),
    ]
    settle(findings, options.accepted)
    plans = plan_experiment(
        fingerprint,
        dataset_name,
        descriptor,
        folds,
        options,
        hashlib.sha256(file.read_bytes()).hexdigest(),
        findings,
    )
    save_json(plans, destination)
    return plans


def own_folds(file: Path, cases: list[Case]) -> tuple[Fold, ...]:
    """The user's folds, checked; says which cases no fold uses, and which several folds hold out.

    Raises
    ------
    GdmError
        The file does not hold folds, or these overlap, are empty or name unknown cases.
    """
    folds = read_splits(file)
    check_folds(folds, cases, file)
    unused, twice = left_out(folds, cases), held_out_twice(fold.validation for fold in folds)
    if unused:
        say(f"note: {counted(unused, 'case')} of {len(cases)} are in no fold of {file.name}: {named(unused)}")
    if twice:
        say(f"note: {counted(twice, 'case')} are held out by several folds of {file.name}: {named(twice)}")
    return folds


def _load_fingerprint(file: Path, identifiers: set[str], channels: int) -> Fingerprint:
    command = commands.extract_fingerprint(file.parent.name)
    if not file.is_file():
        raise GdmError("the data set has no fingerprint yet", file=file, command=command)
    fingerprint = load_json(Fingerprint, file)
    differing = sorted(identifiers ^ set(fingerprint.cases))
    expected_keys = {*map(str, range(channels)), "target"}
    if differing or set(fingerprint.intensities) != expected_keys:
        raise GdmError(
            "the fingerprint does not fit the cases or channels of the data set",
            file=file,
            found=f"{counted(fingerprint.cases, 'case')}, intensities of {', '.join(sorted(fingerprint.intensities))}"
            + (f"; differing: {', '.join(differing[:5])}" if differing else ""),
            expected=f"{counted(identifiers, 'case')}, intensities of {', '.join(sorted(expected_keys))}",
            command=command,
        )
    return fingerprint


def _check_destination(destination: Path, dataset_name: str) -> None:
    """Plans of another data set are never overwritten; earlier plans of this one, of any version, are."""
    if destination.name == FINGERPRINT_FILE:
        raise GdmError(
            "this plans name is taken by the fingerprint",
            found=destination.stem,
            remedy="give another -overwrite_plans_name",
        )
    if not destination.is_file():
        return
    try:
        earlier = read_json(destination)
    except GdmError as error:
        aside = destination.with_name(destination.name + DAMAGED)
        move(destination, aside)
        say(f"note: {destination.name} could not be read ({error.found}); it lies beside as {aside.name}")
        return
    owner = earlier.get("dataset_name") if isinstance(earlier, dict) else None
    if owner != dataset_name:
        raise GdmError(
            "a file of that plans name belongs to another data set",
            file=destination,
            found=owner or "no plans at all",
            expected=dataset_name,
            remedy="choose another plans name, or remove the file",
        )
