"""The groups of a data set against its cases: a misspelt case would be a patient of its own, in another fold."""

from __future__ import annotations

from pathlib import Path

from gdmunet.dataset import DatasetDescriptor, groups_of, list_images
from gdmunet.dataset_names import DESCRIPTOR_FILE, SPLITS, RawFolders
from gdmunet.plausibility.findings import Finding
from gdmunet.plausibility.names import check_distinct, check_groups, leftovers


def group_findings(dataset_folder: Path, descriptor: DatasetDescriptor) -> list[Finding]:
    """Cases without a group, and groups without a case.

    Raises
    ------
    GdmError
        Names of cases or groups that differ in case, space or Unicode form alone.
    """
    folders = [RawFolders(dataset_folder, split).images for split in SPLITS]
    names = [name for folder in folders if folder.is_dir() for name in list_images(folder, descriptor)]
    check_distinct(names, "cases", str(dataset_folder))
    check_groups({name: groups_of(descriptor, name) for name in descriptor.groups}, DESCRIPTOR_FILE)
    return leftovers(names, descriptor.groups, f"groups in {DESCRIPTOR_FILE}")
