"""Folders of the training cases' body masks: beside the data, or derived when its fingerprint was taken."""

from __future__ import annotations

from pathlib import Path

from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import RawFolders

DERIVED_MASKS = "derived_masks"


def given_masks(dataset_folder: Path, descriptor: DatasetDescriptor) -> Path | None:
    """The masks that the user gave; None where a body is derived from the condition."""
    return RawFolders(Path(dataset_folder)).masks if descriptor.mask else None


def scored_masks(dataset_folder: Path, preprocessed_folder: Path, descriptor: DatasetDescriptor) -> Path:
    """The masks that training cases are scored in: the given ones, else the derived ones.

    Parameters
    ----------
    dataset_folder, preprocessed_folder
        ``DatasetXXX_Name`` in the raw and in the preprocessed folder.
    """
    return given_masks(dataset_folder, descriptor) or Path(preprocessed_folder) / DERIVED_MASKS
