"""From plain folders of files to a raw data set: the work of ``gdm_new_dataset``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gdmunet.atomic import atomic_folder, make_folder
from gdmunet.claims import Claim
from gdmunet.conversion.case_files import (
    CaseFiles,
    SourceFolders,
    check_channels,
    collect_cases,
    common_ending,
    left_out_files,
)
from gdmunet.conversion.held_out import SplitOptions, choose_test, split_in_words
from gdmunet.dataset import DatasetDescriptor, list_cases
from gdmunet.dataset_names import DESCRIPTOR_FILE, SPLITS, RawFolders, dataset_name
from gdmunet.errors import GdmError
from gdmunet.imageio import check_headers
from gdmunet.parts import WHOLE, PartOptions
from gdmunet.progress import say, track
from gdmunet.promises import check_promised
from gdmunet.serialization import save_json
from gdmunet.volume_formats.table import ending_of, format_of

Transfer = Literal["copy", "hardlink", "symlink"]


@dataclass(frozen=True)
class NewDatasetOptions:
    """Kinds of the files of a new data set, and their layout.

    Attributes
    ----------
    channels, target
        Modality words (CT, CBCT, MR, T1, ...) of the condition channels in order, and of the target.
    split
        Choice of the cases that are held out.
    transfer
        Way of copying the files, or linking them (hard links need one file system; symbolic links need the originals to
        stay).
    file_ending
        Ending that every file is converted to; None keeps theirs, which must then be the same for all.

    Raises
    ------
    GdmError
        No condition channel.
    """

    channels: tuple[str, ...]
    target: str
    split: SplitOptions = field(default_factory=SplitOptions)
    transfer: Transfer = "copy"
    file_ending: str | None = None

    def __post_init__(self) -> None:
        check_channels(self.channels)


def new_dataset(raw_folder: Path, number: int, name: str, sources: SourceFolders, options: NewDatasetOptions) -> Path:
    """Build ``DatasetXXX_Name`` inside `raw_folder`; it appears whole or not at all.

    Returns
    -------
    The new folder.

    Raises
    ------
    GdmError
        The number is taken, an image without target (or mask) or the reverse, duplicate identifiers,
        a file that is not a volume, grids that differ within a case, mixed endings, an unknown test case, or
        groups that do not fit the cases.
    """
    cases = collect_cases(sources, len(options.channels))
    destination = free_folder(Path(raw_folder), number, name)
    for line in left_out_files(sources, cases):
        say(line)
    for case in cases:
        check_headers(case.as_case())
    ending = options.file_ending or common_ending(cases)
    identifiers = [case.identifier for case in cases]
    held_out = choose_test(identifiers, options.split)
    descriptor = DatasetDescriptor(
        channel_names={str(i): word for i, word in enumerate(options.channels)},
        target_name=options.target,
        file_ending=ending,
        numTraining=len(cases) - len(held_out),
        name=name,
        mask=sources.masks is not None,
        groups=options.split.groups_of(identifiers),
    )
    build_dataset(destination, descriptor, cases, held_out, options.transfer)
    say(split_in_words(identifiers, held_out))
    return destination


def build_dataset(
    destination: Path,
    descriptor: DatasetDescriptor,
    cases: Sequence[CaseFiles],
    held_out: Collection[str],
    transfer: Transfer = "copy",
    show_progress: bool = False,
) -> None:
    """Lay the cases' files and dataset.json out as a data set that appears whole or not at all.

    Parameters
    ----------
    destination
        The new folder, as `free_folder` gives it.
    held_out
        Identifiers of the cases that go to ``imagesTs``.
    """
    with atomic_folder(destination) as building:
        for case in track(f"building {destination.name}", list(cases), show_progress):
            folders = RawFolders(building, "Ts" if case.identifier in held_out else "Tr")
            _lay_out(case, folders, descriptor.file_ending, transfer)
        save_json(descriptor, building / DESCRIPTOR_FILE)
        for split in SPLITS:
            if RawFolders(building, split).images.is_dir():
                list_cases(building, descriptor, split)
    check_promised(_files_of(cases, held_out, destination, descriptor.file_ending))


def _files_of(cases: Sequence[CaseFiles], held_out: Collection[str], folder: Path, ending: str) -> list[Path]:
    """The files of a data set of these cases."""
    files = [folder / DESCRIPTOR_FILE]
    for case in cases:
        name = case.identifier
        folders = RawFolders(folder, "Ts" if name in held_out else "Tr")
        files += [folders.image(name, ending, channel) for channel in range(len(case.conditions))]
        files += [folders.target(name, ending)] if case.target else []
        files += [folders.mask(name, ending)] if case.mask else []
    return files


def named_folder(raw_folder: Path, number: int, name: str) -> Path:
    """The folder of the data set of a number and a name, if these are allowed."""
    if not 0 < number < 1000 or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise GdmError(
            "not a number and name of a data set",
            found=f"{number} and {name!r}",
            expected="1 to 999, and letters, digits, _ and -",
            remedy="choose another -d and -n",
        )
    return raw_folder / dataset_name(number, name)


def claim_number(raw_folder: Path, number: int, part: PartOptions = WHOLE) -> Claim:
    """The claim on a number of a data set, for whoever builds one of that number, or a part of its cases."""
    file = raw_folder / f".running_{dataset_name(number, '').rstrip('_')}.json"
    return Claim(file, "building a data set", f"another process builds data set {number}", part)


def free_folder(raw_folder: Path, number: int, name: str) -> Path:
    """The folder of a new data set; an error where the number is taken, or number or name cannot be a data set's."""
    folder = named_folder(raw_folder, number, name)
    taken = sorted(raw_folder.glob(dataset_name(number, "*")))
    if taken:
        raise GdmError(
            f"data set {number} is there already",
            file=taken[0],
            remedy="choose another number, or remove that folder first",
        )
    return folder


def _lay_out(case: CaseFiles, folders: RawFolders, ending: str, transfer: Transfer) -> None:
    for channel, path in enumerate(case.conditions):
        _transfer(path, folders.image(case.identifier, ending, channel), case, transfer)
    if case.target:
        _transfer(case.target, folders.target(case.identifier, ending), case, transfer)
    if case.mask:
        _transfer(case.mask, folders.mask(case.identifier, ending), case, transfer)


def _transfer(source: Path, destination: Path, case: CaseFiles, transfer: Transfer) -> None:
    make_folder(destination.parent)
    same_ending = destination.name.endswith(ending_of(source) or "/")
    # A header holds the name of its file of voxels, so both can only be written anew.
    if not same_ending or _is_detached(source, case):
        if transfer != "copy":
            raise GdmError(
                "a file that must be rewritten cannot be linked",
                case=case.identifier,
                file=source,
                expected="linked files of one ending, each of which is a whole volume",
                remedy="copy the files (--link copy)",
            )
        _rewrite(source, destination, case)
    elif transfer == "hardlink":
        destination.hardlink_to(source.resolve())
    elif transfer == "symlink":
        destination.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, destination)


def _is_detached(source: Path, case: CaseFiles) -> bool:
    try:
        return len(format_of(source).parts(source)) > 1
    except GdmError as error:
        error.located(case=case.identifier, file=source)
        raise


def _rewrite(source: Path, destination: Path, case: CaseFiles) -> None:
    try:
        reader, writer = format_of(source), format_of(destination)
        if reader is writer:
            reader.rewrite(source, destination)
        else:
            writer.write(destination, *reader.read(source))
    except GdmError as error:
        error.located(case=case.identifier, file=source)
        raise
    except RuntimeError as error:
        raise GdmError(
            "the file cannot be converted",
            case=case.identifier,
            file=source,
            found=str(error).strip().splitlines()[-1],
            remedy="export it again, or convert it with another tool",
        ) from error
