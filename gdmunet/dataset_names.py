"""Names of the folder of a data set (raw, preprocessed, results), of its description and of its raw files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

# Training and test cases.
Split = Literal["Tr", "Ts"]
SPLITS: tuple[Split, ...] = get_args(Split)

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


def condition_name(identifier: str, channel: int = 0) -> str:
    """``CASE_0000``: the name of a condition file without its ending."""
    return f"{identifier}_{channel:04d}"


@dataclass(frozen=True)
class RawFolders:
    """The folders of one split of a raw data set, whether they are there or not.

    Attributes
    ----------
    dataset
        ``DatasetXXX_Name`` in the raw folder.
    split
        ``Tr``: training cases; ``Ts``: test cases.
    """

    dataset: Path
    split: Split = "Tr"

    @property
    def images(self) -> Path:
        """The conditions, a file for each channel of a case."""
        return self.dataset / f"images{self.split}"

    @property
    def targets(self) -> Path:
        """The targets, a file for each case."""
        return self.dataset / f"targets{self.split}"

    @property
    def masks(self) -> Path:
        """The body masks, a file for each case."""
        return self.dataset / f"masks{self.split}"

    @property
    def sinograms(self) -> Path:
        """The simulated scans, a file for each case."""
        return self.dataset / f"sinograms{self.split}"

    def image(self, identifier: str, ending: str, channel: int = 0) -> Path:
        """The condition file of a channel of a case."""
        return self.images / f"{condition_name(identifier, channel)}{ending}"

    def target(self, identifier: str, ending: str) -> Path:
        """The target file of a case."""
        return self.targets / f"{identifier}{ending}"

    def mask(self, identifier: str, ending: str) -> Path:
        """The body mask of a case."""
        return self.masks / f"{identifier}{ending}"


def split_of(folder: Path) -> RawFolders | None:
    """The split that a folder of images or of targets belongs to, by their names; None for another folder."""
    for split in SPLITS:
        folders = RawFolders(folder.parent, split)
        if folder in (folders.images, folders.targets):
            return folders
    return None
