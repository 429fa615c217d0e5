"""What the folder of a data set (raw, preprocessed, results) and its description are called."""

from __future__ import annotations

DESCRIPTOR_FILE = "dataset.json"
# Folders of data sets, ``DatasetXXX_Name``, as glob sees them.
DATASET_PATTERN = "Dataset[0-9][0-9][0-9]_*"


def dataset_name(number: int, name: str) -> str:
    """``Dataset600_Heads`` of 600 and ``Heads``; of 600 and ``*`` the glob pattern of every data set of that number."""
    return f"Dataset{number:03d}_{name}"


def is_dataset(folder_name: str, wanted: int | str) -> bool:
    """Whether ``DatasetXXX_Name`` is the data set of that number or name."""
    if str(wanted).isdigit():
        return folder_name.startswith(dataset_name(int(wanted), ""))
    return wanted in (folder_name, folder_name.split("_", 1)[1])


def dataset_number(folder_name: str) -> str:
    """``"600"`` of ``Dataset600_Heads``."""
    return folder_name.removeprefix("Dataset").split("_")[0]
