"""A data set that is being made in place: described under a name that no command reads until all cases are there."""

from __future__ import annotations

from pathlib import Path

from gdmunet.atomic import move
from gdmunet.conversion.folders import named_folder
from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE, SPLITS, RawFolders, dataset_name
from gdmunet.errors import GdmError
from gdmunet.owners import sweep
from gdmunet.serialization import load_json, save_json

UNFINISHED_FILE = f"unfinished_{DESCRIPTOR_FILE}"


def growing_folder(raw_folder: Path, number: int, name: str) -> Path:
    """The folder of the data set, new or begun; an error where the number is taken by another name."""
    folder = named_folder(raw_folder, number, name)
    others = [path for path in sorted(raw_folder.glob(dataset_name(number, "*"))) if path != folder]
    if others:
        raise GdmError(
            f"data set {number} is there already",
            file=others[0],
            remedy="choose another number, or the same --name to go on with it",
        )
    return folder


def begin(folder: Path, descriptor: DatasetDescriptor) -> None:
    """Describe the data set under a name that no command reads, so that half a data set is never taken for a whole one.

    A whole one takes the other name until all cases are there.
    """
    there = _described(folder)
    if there is None:
        save_json(descriptor, folder / UNFINISHED_FILE)
        return
    if there.name == DESCRIPTOR_FILE:
        move(there, folder / UNFINISHED_FILE)
    for split in SPLITS:
        folders = RawFolders(folder, split)
        for part in (folders.images, folders.targets, folders.masks, folders.sinograms):
            sweep(part)


def complete(folder: Path) -> None:
    """Give the description its name; another process may have done so."""
    if (folder / UNFINISHED_FILE).is_file():
        move(folder / UNFINISHED_FILE, folder / DESCRIPTOR_FILE)


def check_description(folder: Path, descriptor: DatasetDescriptor) -> None:
    """Refuse a folder whose description does not say the same."""
    there = _described(folder)
    if there is not None and load_json(DatasetDescriptor, there) != descriptor:
        raise GdmError(
            "the folder holds a data set of other cases or settings",
            file=there,
            expected="the same cases, held-out cases and flags as before, to go on with it",
            remedy="choose another number or name, or remove the folder",
        )


def _described(folder: Path) -> Path | None:
    """The description of an earlier run, whole or not."""
    files = (folder / DESCRIPTOR_FILE, folder / UNFINISHED_FILE)
    return next((file for file in files if file.is_file()), None)
