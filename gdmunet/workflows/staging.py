"""Prepared cases on a disk of this machine: those behind a URL, and those that ``--stage`` copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gdmunet.atomic import atomic_path
from gdmunet.dataset_names import is_dataset
from gdmunet.errors import GdmError
from gdmunet.file_sources import LocalSource, RemoteSource
from gdmunet.paths import Folders
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.mirrored_store import MirroredStore
from gdmunet.promises import take_back
from gdmunet.training.patches.fold import FoldData
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.training import TrainRequest


def fetch_plans(request: TrainRequest, folders: Folders) -> None:
    """Copy plans and records of cases if they lie behind a URL.

    Raises
    ------
    GdmError
        The URL cannot be opened or read, or holds no such data set.
    """
    url = folders.preprocessed_url
    if url is None:
        return
    there = RemoteSource(url).folders()
    matching = [name for name in there if is_dataset(name, request.dataset)]
    if len(matching) != 1:
        raise GdmError(
            f"data set {request.dataset} {'names several folders' if matching else 'is unknown'} behind this address",
            file=url,
            found=", ".join(matching or there) or "no folder",
            expected="one folder DatasetXXX_Name",
            remedy="check the number and the address; upload the folder of the prepared data set",
        )
    dataset = matching[0]
    _copy_json(RemoteSource(f"{url.rstrip('/')}/{dataset}"), folders.preprocessed / dataset)
    plans = find_planned(folders, request.dataset, request.plans)
    store = CaseStore(folders.preprocessed / dataset, plans.name, request.configuration)
    _copy_json(RemoteSource(f"{url.rstrip('/')}/{dataset}/{store.folder.name}"), store.folder)


def _copy_json(source: RemoteSource, folder: Path) -> None:
    """Make the JSON files of a folder those of the source; each is whole or the earlier one."""
    names = source.names("", ".json")
    for old in folder.glob("*.json"):
        if old.name not in names and not old.name.startswith("."):
            old.unlink(missing_ok=True)
    for name in names:
        content, file = source.read(name), folder / name
        if not file.is_file() or file.read_bytes() != content:
            with atomic_path(file) as path:
                path.write_bytes(content)
            take_back(file)  # a copy, which may be removed when it has been used


def mirrored(data: FoldData, request: TrainRequest, folders: Folders) -> FoldData:
    """The fold with a store that copies its cases to this machine, if they lie behind a URL or are to be staged."""
    store, url = data.store, folders.preprocessed_url
    place = f"{store.dataset}/{store.folder.name}"
    if url is not None:
        source: RemoteSource | LocalSource = RemoteSource(f"{url.rstrip('/')}/{place}")
    elif request.stage is not None and not request.validate:
        source = LocalSource(store.folder)
    else:
        return data
    folder = store.folder if request.stage is None else Path(request.stage) / place
    return replace(data, store=MirroredStore(store, source, folder))


def stage(data: FoldData, request: TrainRequest) -> None:
    """Copy all cases of the fold to this machine, if that was asked for."""
    if request.stage is not None and isinstance(data.store, MirroredStore):
        data.store.stage(dict.fromkeys((*data.training, *data.validation)), request.show_progress)
