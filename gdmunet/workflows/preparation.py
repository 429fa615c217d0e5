"""Fingerprints and preprocessing of data sets: the commands' steps that need neither torch nor a trainer."""

from __future__ import annotations

from pathlib import Path

from gdmunet.dataset import find_dataset
from gdmunet.dataset_names import SPLITS, RawFolders
from gdmunet.parts import OpenParts
from gdmunet.paths import Folders
from gdmunet.plan_folder import find_plans
from gdmunet.plans import Plans
from gdmunet.preprocessing import fingerprint as fingerprints
from gdmunet.preprocessing.fingerprint_parts import FingerprintingOptions, extract_part
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.quantities import counted
from gdmunet.volume_formats.files import left_out_of
from gdmunet.workflows import preprocess as preparation
from gdmunet.workflows.parts import has_scheduler, say_missing, share_of
from gdmunet.workflows.requests.planning import (
    ExtractFingerprintRequest,
    PlanAndPreprocessRequest,
    PreprocessRequest,
)


def extract_fingerprint(
    request: ExtractFingerprintRequest, folders: Folders
) -> list[fingerprints.Fingerprint | OpenParts]:
    """Measure the training cases of each data set, or a part of them.

    Raises
    ------
    GdmError
        Unknown data set, or cases that cannot be read or do not fit together.
    """
    return [fingerprint_of(dataset, request, folders) for dataset in request.dataset]


def preprocess(request: PreprocessRequest, folders: Folders) -> list[preparation.PreparedFolder]:
    """Prepare the training cases of each data set for its planned configurations.

    Raises
    ------
    GdmError
        Unknown data set or plans, or a case that cannot be prepared; finished cases stay.
    """
    done = []
    for dataset in request.dataset:
        dataset_folder = find_dataset(folders.raw, dataset)
        name = dataset_folder.name
        say_left_out(dataset_folder)
        done += prepared_by(find_plans(folders.preprocessed / name, request.plans), request, folders)
    return done


def fingerprint_of(
    dataset: str, request: ExtractFingerprintRequest | PlanAndPreprocessRequest, folders: Folders
) -> fingerprints.Fingerprint | OpenParts:
    """Measure the training cases of one data set, or a part of them, and say how many they are."""
    dataset_folder, part = find_dataset(folders.raw, dataset), share_of(request)
    say_left_out(dataset_folder)
    preprocessed = folders.preprocessed / dataset_folder.name
    options = FingerprintingOptions(
        request.processes, request.show_progress, request.verify_dataset_integrity, request.accept
    )
    fingerprint: fingerprints.Fingerprint | OpenParts
    if part.is_whole and not has_scheduler(request):
        fingerprint = fingerprints.extract_fingerprint(
            dataset_folder,
            preprocessed,
            options.processes,
            options.show_progress,
            verify=options.verify,
            accepted=options.accepted,
        )
    else:
        fingerprint = extract_part(dataset_folder, preprocessed, part, options)
    if isinstance(fingerprint, OpenParts):
        say_missing(fingerprint, request, folders)
        return fingerprint
    say(f"{dataset_folder.name}: fingerprint of {counted(fingerprint.cases, 'training case')}")
    return fingerprint


def say_left_out(dataset_folder: Path) -> None:
    """Name the files of a raw data set that are in no case."""
    for split in SPLITS:
        raw = RawFolders(dataset_folder, split)
        for line in left_out_of([raw.images, raw.targets, raw.masks]):
            say(line)


def prepared_by(
    plans: Plans, request: PreprocessRequest | PlanAndPreprocessRequest, folders: Folders
) -> list[preparation.PreparedFolder]:
    """Prepare the cases for the wanted configurations, and say how many were done."""
    wanted = request.configuration or plans.configurations
    prepared = preparation.preprocess(
        folders.raw / plans.dataset_name,
        folders.preprocessed / plans.dataset_name,
        plans,
        [name for name in wanted if name in plans.configurations],
        request.processes,
        request.show_progress,
        request.clean,
        share_of(request),
    )
    for done in prepared:
        check_promised(done.files)
        say(
            f"{done.store.configuration}: {counted(done.prepared, 'case')} prepared, {len(done.unchanged)} unchanged: "
            f"{done.folder}"
        )
        if done.missing:
            say_missing(done.missing, request, folders)
    return prepared
