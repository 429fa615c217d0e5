"""The conditions of each case among the files and folders that a user names for a prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gdmunet.dataset import DatasetDescriptor, channels_of_cases
from gdmunet.dataset_names import condition_name
from gdmunet.errors import GdmError
from gdmunet.quantities import counted, listed
from gdmunet.volume_formats.files import find_volumes, unique_files
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of, stem_of

_FIRST = "_0000"
Conditions = dict[str, tuple[Path, ...]]
# The volumes of a folder, by identifier.
FindVolumes = Callable[[Path], dict[str, Path]]


def find_conditions(
    inputs: Sequence[Path], descriptor: DatasetDescriptor, volumes_of: FindVolumes = find_volumes
) -> Conditions:
    """Identifier to condition files in channel order, by identifier.

    One channel: ``CASE.ext``, or ``CASE_0000.ext`` as in a raw data set. Several channels: ``CASE_0000.ext``,
    ``CASE_0001.ext`` and so on; or one folder of ``CASE.ext`` for each channel; or the files of one case in channel
    order.

    Parameters
    ----------
    inputs
        One folder, one folder for each channel, or files.
    descriptor
        Description of the model's data set, with its channels.
    volumes_of
        Lists a folder; default: as it lies on the disk.

    Raises
    ------
    GdmError
        No volume, a mixture of names with and without a channel number, a missing or surplus channel, folders beside
        files.
    """
    folders = [path for path in inputs if path.is_dir()]
    if folders and len(folders) < len(inputs):
        raise GdmError(
            "folders and files are named together",
            file=folders[0],
            found=f"{counted(folders, 'folder')} and {counted(len(inputs) - len(folders), 'file')}",
            expected="one folder, or files",
            remedy="give the files alone, or a folder that holds them all",
        )
    if len(folders) > 1:
        return _by_folder(folders, descriptor, volumes_of)
    volumes = volumes_of(folders[0]) if folders else _given_files(inputs)
    if not volumes:
        raise GdmError(
            "there are no cases",
            file=folders[0],
            found="no volume",
            expected=f"{expected_names(descriptor)}; known endings are {', '.join(FILE_ENDINGS)}",
            remedy="check -i",
        )
    if not folders and len(inputs) == len(descriptor.channels) > 1 and not _numbered(volumes):
        return {next(iter(volumes)): tuple(volumes.values())}
    if len(descriptor.channels) == 1 and not any(stem.endswith(_FIRST) for stem in volumes):
        return {stem: (path,) for stem, path in sorted(volumes.items())}
    _check_names(volumes, descriptor)
    remedy = "give the channels that the model was trained with: add the file, or remove the surplus one"
    return channels_of_cases(volumes, descriptor, remedy)


def expected_names(descriptor: DatasetDescriptor) -> str:
    """The names that a case's files must have, such as ``CASE_0000.nii.gz (T1), CASE_0001.nii.gz (T2)``."""
    ending, channels = descriptor.file_ending, descriptor.channels
    if len(channels) == 1:
        return f"CASE{ending} or CASE{_FIRST}{ending} ({channels[0]})"
    return ", ".join(f"{condition_name('CASE', i)}{ending} ({word})" for i, word in enumerate(channels))


def _given_files(files: Sequence[Path]) -> dict[str, Path]:
    for path in files:
        if not path.is_file():
            raise GdmError("the input is not there", file=path, remedy="check -i")
        if ending_of(path) is None:
            raise GdmError(
                "the input is not a volume that is read here",
                file=path,
                found=path.name,
                expected=f"a file that ends in {', '.join(FILE_ENDINGS)}, or a folder",
                remedy="convert the file; of a DICOM series give the folder",
            )
    return unique_files((stem_of(path), path) for path in files)


def _by_folder(folders: Sequence[Path], descriptor: DatasetDescriptor, volumes_of: FindVolumes) -> Conditions:
    """The cases of one folder for each channel; every case must be in each."""
    channels = descriptor.channels
    if len(folders) != len(channels):
        raise GdmError(
            "the number of folders is not that of the model's channels",
            found=counted(folders, "folder"),
            expected=f"one folder for each channel ({', '.join(channels)}), or one for all",
            remedy="give one folder for each channel in this order",
        )
    by_channel = [volumes_of(folder) for folder in folders]
    names = sorted({name for files in by_channel for name in files})
    for name in names:
        for folder, files in zip(folders, by_channel, strict=True):
            if name not in files:
                raise GdmError(
                    "missing channel",
                    case=name,
                    file=folder,
                    found="no file of this identifier",
                    expected="every identifier once in each folder",
                    remedy="add the file, or give the same identifiers in each folder",
                )
    return {name: tuple(files[name] for files in by_channel) for name in names}


def _numbered(volumes: dict[str, Path]) -> bool:
    return any(stem.endswith(_FIRST) for stem in volumes)


def _check_names(volumes: dict[str, Path], descriptor: DatasetDescriptor) -> None:
    """Refuse names without a channel number beside others, or for several channels."""
    plain = [stem for stem in volumes if not _has_number(stem)]
    if not plain:
        return
    one = len(descriptor.channels) == 1
    remedy = f"rename the files that end in {_FIRST} or those that do not, so that all names are of one kind"
    if not one:
        remedy = "name the files so; or give one folder for each channel, or the files of one case, in this order"
    raise GdmError(
        "some files carry a channel number and some do not" if one else "a file lacks its four-digit channel number",
        case=plain[0],
        file=volumes[plain[0]],
        found=listed(volumes[stem].name for stem in plain),
        expected=expected_names(descriptor),
        remedy=remedy,
    )


def _has_number(stem: str) -> bool:
    head, _, number = stem.rpartition("_")
    return bool(head) and len(number) == 4 and number.isdigit()
