"""Raw data sets: ``DatasetXXX_Name/`` with dataset.json, its cases and its folds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gdmunet.dataset_names import (
    DATASET_PATTERN,
    DESCRIPTOR_FILE,
    RawFolders,
    Split,
    condition_name,
    is_dataset,
)
from gdmunet.errors import GdmError
from gdmunet.hounsfield import canonical_modality, is_hounsfield, same_modality
from gdmunet.quantities import counted
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import load_json
from gdmunet.volume_formats.files import find_volumes
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of


@dataclass(frozen=True)
class DatasetDescriptor:
    """The content of dataset.json.

    Attributes
    ----------
    name
        Name of the data set without its number.
    channel_names
        Channel number (``"0"``, ``"1"``, ...) to modality word (CT, CBCT, MR, T1, T2, FLAIR, ...).
    target_name
        Modality word of the target. Spaces around a word are dropped, and CT and CBCT are in capitals, however the
        file spells them.
    file_ending
        One of those in `gdmunet.volume_formats`; the same for every file of the data set.
    numTraining
        Number of cases that ``imagesTr`` must hold.
    mask
        True where ``masksTr`` (and ``masksTs``) hold a body mask for every case.
    groups
        Case identifier to its patient (a text), or to several named groups (an object such as
        ``{"patient": "p07", "region": "AB"}``). Folds never split a patient; scores are given by every group.
    overwrite_image_reader_writer
        Name of the library that reads and writes the volumes.
    background
        Value of the target where there is no body, in its own unit; None: -1024 for CT and CBCT, else the
        smallest value that the training targets hold.
    simulation
        Settings with which the conditions were computed from the targets, for sparse-view CT; else None.
    info
        Anything else that is worth keeping (licence, source, how it was simulated); not interpreted.
    """

    channel_names: dict[str, str]
    target_name: str
    file_ending: str
    numTraining: int  # noqa: N815 - nnU-Net's spelling of the key
    name: str = ""
    mask: bool = False
    groups: dict[str, str | dict[str, str]] = field(default_factory=dict)
    overwrite_image_reader_writer: Literal["SimpleITK"] = "SimpleITK"
    background: float | None = None
    simulation: ScanSpec | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = [str(i) for i in range(len(self.channel_names))]
        if not self.channel_names or sorted(self.channel_names, key=lambda k: (len(k), k)) != expected:
            raise GdmError(
                "channel_names must count its channels from 0",
                found=list(self.channel_names),
                expected=expected,
                remedy=f'number the channels "0", "1" and so on in {DESCRIPTOR_FILE}',
            )
        if self.file_ending not in FILE_ENDINGS:
            raise GdmError(
                "the file ending is unknown",
                found=f"file_ending {self.file_ending!r}",
                expected=f"one of {', '.join(FILE_ENDINGS)}",
                remedy=f"correct file_ending in {DESCRIPTOR_FILE}",
            )
        # A frozen value is completed here, before anybody sees it.
        words = {number: canonical_modality(word) for number, word in self.channel_names.items()}
        object.__setattr__(self, "channel_names", words)
        object.__setattr__(self, "target_name", canonical_modality(self.target_name))

    @property
    def channels(self) -> tuple[str, ...]:
        """Modality words of the condition channels in order."""
        return tuple(self.channel_names[str(i)] for i in range(len(self.channel_names)))

    @property
    def hounsfield(self) -> bool:
        """Whether the target is in Hounsfield units."""
        return is_hounsfield(self.target_name)

    def in_unit_of_target(self, channel: int) -> bool:
        """Whether a condition channel and the target are in one unit: one modality, or both in Hounsfield units."""
        word = self.channels[channel]
        return same_modality(word, self.target_name) or (is_hounsfield(word) and self.hounsfield)


@dataclass(frozen=True)
class Case:
    """The files of one case; target and mask are None if the data set has none."""

    identifier: str
    conditions: tuple[Path, ...]
    target: Path | None = None
    mask: Path | None = None
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def patient(self) -> str:
        """The unit that folds never split: the group `patient`, else the case itself."""
        return self.groups.get("patient", self.identifier)


@dataclass(frozen=True)
class Fold:
    """Case identifiers of one fold."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def find_dataset(folder: Path, dataset: int | str) -> Path:
    """The ``DatasetXXX_Name`` folder of a number or name inside the raw, preprocessed or results folder.

    Raises
    ------
    GdmError
        Unknown (the known ones are listed) or ambiguous.
    """
    matches = matching_datasets(folder, dataset)
    if len(matches) == 1:
        return matches[0]
    raise GdmError(
        f"data set {dataset} names several folders" if matches else f"data set {dataset} is unknown",
        file=Path(folder).resolve(),
        found=", ".join(path.name for path in matches or _datasets(folder)) or "no Dataset folder at all",
        expected="one folder DatasetXXX_Name",
        remedy="check the number; the folder comes from the flag, the GDM_ variable, or the working folder",
    )


def matching_datasets(folder: Path, dataset: int | str) -> list[Path]:
    """The ``DatasetXXX_Name`` folders of that number or name."""
    return [path for path in _datasets(folder) if is_dataset(path.name, dataset)]


def _datasets(folder: Path) -> list[Path]:
    return sorted(path for path in Path(folder).glob(DATASET_PATTERN) if path.is_dir())


def load_descriptor(dataset_folder: Path) -> DatasetDescriptor:
    """Read and check ``dataset.json``."""
    return load_json(DatasetDescriptor, Path(dataset_folder) / DESCRIPTOR_FILE, DESCRIPTOR_FILE)


def list_cases(dataset_folder: Path, descriptor: DatasetDescriptor, split: Split = "Tr") -> list[Case]:
    """All cases of ``imagesTr`` (with targets) or ``imagesTs`` (targets optional), sorted by identifier.

    Raises
    ------
    GdmError
        Missing channel, image without target, target without image, missing mask, duplicate identifiers,
        a wrong number of cases, or none.
    """
    folders = RawFolders(Path(dataset_folder), split)
    images = list_images(folders.images, descriptor)
    targets = _list_volumes(folders.targets, descriptor.file_ending)
    masks = _list_volumes(folders.masks, descriptor.file_ending) if descriptor.mask else {}
    if split == "Tr" or targets:
        _check_partners(images, targets, "target", folders.targets)
    if descriptor.mask and (split == "Tr" or masks):
        _check_partners(images, masks, "mask", folders.masks)
    if split == "Tr" and len(images) != descriptor.numTraining:
        raise GdmError(
            f"the number of training cases is not what {DESCRIPTOR_FILE} says",
            file=folders.dataset / DESCRIPTOR_FILE,
            found=f"{counted(images, 'case')} in {folders.images.name}",
            expected=f"numTraining {descriptor.numTraining}",
            remedy="correct numTraining, or add the missing files",
        )
    return [
        Case(name, paths, targets.get(name), masks.get(name), groups_of(descriptor, name))
        for name, paths in images.items()
    ]


def list_images(folder: Path, descriptor: DatasetDescriptor) -> dict[str, tuple[Path, ...]]:
    """Identifier to condition files in channel order, for a folder of ``CASE_0000.ext`` files.

    Raises
    ------
    GdmError
        No files, a file without a channel number, or a missing or surplus channel.
    """
    ending = descriptor.file_ending
    volumes = _list_volumes(folder, ending)
    if not volumes:
        raise GdmError(
            "there are no cases",
            file=folder,
            found=f"no file that ends in {ending}",
            expected=f"CASE_0000{ending}",
            remedy=f"check the folder and file_ending in {DESCRIPTOR_FILE}",
        )
    return channels_of_cases(volumes, descriptor)


def channels_of_cases(
    volumes: Mapping[str, Path],
    descriptor: DatasetDescriptor,
    remedy: str = f"add the file, or correct channel_names in {DESCRIPTOR_FILE}",
) -> dict[str, tuple[Path, ...]]:
    """Identifier to condition files in channel order, of files by their stems ``CASE_0000``; sorted by identifier.

    Parameters
    ----------
    remedy
        Advice about a missing or surplus channel.

    Raises
    ------
    GdmError
        A file without a channel number, or a missing or surplus channel.
    """
    ending = descriptor.file_ending
    files_of_cases: dict[str, dict[int, Path]] = {}
    for stem, path in volumes.items():
        match = re.fullmatch(r"(.+)_(\d{4})", stem)
        if match is None:
            raise GdmError(
                "a condition file lacks its four-digit channel number",
                case=stem,
                file=path,
                found=path.name,
                expected=f"{condition_name(stem)}{ending}",
                remedy="rename it, or build a new data set from the folder",
            )
        files_of_cases.setdefault(match[1], {})[int(match[2])] = path
    channels = range(len(descriptor.channels))
    for name, by_channel in files_of_cases.items():
        if sorted(by_channel) != list(channels):
            missing = [f"{condition_name(name, i)}{ending}" for i in channels if i not in by_channel]
            folder = next(iter(by_channel.values())).parent
            raise GdmError(
                "missing channel" if missing else f"more channels than {DESCRIPTOR_FILE} names",
                case=name,
                file=folder / (missing[0] if missing else by_channel[max(by_channel)].name),
                found=f"channels {sorted(by_channel)}",
                expected=f"channels {list(channels)} ({', '.join(descriptor.channels)})",
                remedy=remedy,
            )
    return {name: tuple(files_of_cases[name][i] for i in channels) for name in sorted(files_of_cases)}


def groups_of(descriptor: DatasetDescriptor, identifier: str) -> dict[str, str]:
    """Named groups of a case; a plain text in dataset.json is its patient."""
    value = descriptor.groups.get(identifier, {})
    return {"patient": value} if isinstance(value, str) else dict(value)


def _list_volumes(folder: Path, ending: str) -> dict[str, Path]:
    """Stem to path for every volume of `folder`; one of another ending is an error, other files are not seen."""
    if not folder.is_dir():
        return {}
    volumes = find_volumes(folder)
    for stem, path in volumes.items():
        if ending_of(path) != ending:
            raise GdmError(
                "a file has a different ending from the data set",
                case=stem,
                file=path,
                found=path.name,
                expected=f"files that end in {ending}",
                remedy=f"convert or move the file, or correct file_ending in {DESCRIPTOR_FILE}",
            )
    return volumes


def _check_partners(images: dict[str, tuple[Path, ...]], partners: dict[str, Path], kind: str, folder: Path) -> None:
    for name, paths in images.items():
        if name not in partners:
            raise GdmError(
                f"image without {kind}",
                case=name,
                file=paths[0],
                found=f"no file for it in {folder}",
                expected=f"{name}{paths[0].name.removeprefix(condition_name(name))}",
                remedy=f"add the {kind}, or remove the image",
            )
    for name, path in partners.items():
        if name not in images:
            raise GdmError(
                f"{kind} without image",
                case=name,
                file=path,
                found="no condition file for it",
                expected=f"{condition_name(name)}{path.name.removeprefix(name)}",
                remedy=f"add the image, or remove the {kind}",
            )
