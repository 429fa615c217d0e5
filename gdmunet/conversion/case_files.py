"""Plain folders of files as cases: the files of one case have one identifier."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.volume_formats.files import find_volumes, left_out_of, unique_files
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of


@dataclass(frozen=True)
class SourceFolders:
    """Places of the files of a new data set.

    Attributes
    ----------
    images
        One folder per condition channel; or one folder for several channels, whose files then end in the
        four-digit channel number (``head_001_0000.nii.gz``, ``head_001_0001.nii.gz``).
    targets, masks
        One folder each; masks is None if there are no body masks.
    image_suffixes, target_suffix, mask_suffix
        Text that follows the case identifier in a file's name, before the ending: with ``_mr`` and ``_ct`` the files
        ``head_001_mr.nii.gz`` and ``head_001_ct.nii.gz`` are one case, ``head_001``. If a suffix is given, only
        files that carry it are taken, so images and targets may lie in one folder. One image suffix per folder.
    """

    images: tuple[Path, ...]
    targets: Path
    masks: Path | None = None
    image_suffixes: tuple[str, ...] = ()
    target_suffix: str = ""
    mask_suffix: str = ""


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case before they are laid out; target None for a test case whose target is unknown."""

    identifier: str
    conditions: tuple[Path, ...]
    target: Path | None
    mask: Path | None

    def as_case(self) -> Case:
        """The same files as a case that is read."""
        return Case(self.identifier, self.conditions, self.target, self.mask)


def check_channels(channels: Sequence[str]) -> None:
    """Refuse a data set without a condition channel."""
    if not channels:
        raise GdmError("a data set needs a condition channel", remedy="give its modality with --channel")


def collect_cases(sources: SourceFolders, channels: int) -> list[CaseFiles]:
    """Match the files of the folders by identifier; every case must have all of its files."""
    conditions = _collect_conditions(sources, channels)
    targets = _by_identifier(sources.targets, sources.target_suffix)
    masks = _by_identifier(sources.masks, sources.mask_suffix) if sources.masks else None
    for folder, files in ((sources.targets, targets), (sources.masks, masks)):
        if files is not None and folder is not None:
            _check_same(conditions[0], files, sources.images[0], folder)
    return [
        CaseFiles(name, tuple(channel[name] for channel in conditions), targets[name], masks[name] if masks else None)
        for name in sorted(conditions[0])
    ]


def left_out_files(sources: SourceFolders, cases: Sequence[CaseFiles]) -> list[str]:
    """A sentence for each folder about what is in no case; nothing for a folder of which everything is."""
    taken = {path for case in cases for path in (*case.conditions, case.target, case.mask) if path is not None}
    return left_out_of([*sources.images, sources.targets, sources.masks], taken)


def _collect_conditions(sources: SourceFolders, channels: int) -> list[dict[str, Path]]:
    folders, suffixes = sources.images, sources.image_suffixes or ("",) * len(sources.images)
    if len(suffixes) != len(folders) or len(folders) not in (1, channels):
        raise GdmError(
            "folders, suffixes and channels of the images do not match in number",
            found=f"{len(folders)} folder(s), {len(suffixes)} suffix(es), {channels} channel(s)",
            expected="one folder per channel (or one folder of files numbered _0000, ...), one suffix per folder",
            remedy="give --images, --image_suffix and --channel the same number of values",
        )
    if len(folders) == 1:
        files = _by_identifier(folders[0], suffixes[0])
        if channels > 1 or all(stem.endswith("_0000") for stem in files):
            return _split_channels(files, folders[0], channels)
        return [files]
    by_channel = [_by_identifier(folder, suffix) for folder, suffix in zip(folders, suffixes, strict=True)]
    for folder, files in zip(folders[1:], by_channel[1:], strict=True):
        _check_same(by_channel[0], files, folders[0], folder)
    return by_channel


def _split_channels(files: dict[str, Path], folder: Path, channels: int) -> list[dict[str, Path]]:
    by_channel: list[dict[str, Path]] = [{} for _ in range(channels)]
    for stem, path in files.items():
        match = re.fullmatch(r"(.+)_(\d{4})", stem)
        if match is None or int(match[2]) >= channels:
            raise GdmError(
                "a file of a folder with several channels lacks its channel number",
                case=stem,
                file=path,
                found=path.name,
                expected=f"CASE_0000 to CASE_{channels - 1:04d}",
                remedy="rename it, or give one folder (or one suffix) per channel",
            )
        by_channel[int(match[2])][match[1]] = path
    for files_of_channel in by_channel:
        _check_same(by_channel[0], files_of_channel, folder, folder)
        _check_same(files_of_channel, by_channel[0], folder, folder)
    return by_channel


def _by_identifier(folder: Path, suffix: str) -> dict[str, Path]:
    """Identifier to file, for the volumes of a folder that carry the suffix; other files are not looked at."""
    if not Path(folder).is_dir():
        raise GdmError("the folder is missing", file=folder, remedy="check the path")
    stems = find_volumes(Path(folder)).items()
    carrying = ((stem, path) for stem, path in stems if stem.endswith(suffix) and stem != suffix)
    volumes = unique_files((stem.removesuffix(suffix), path) for stem, path in carrying)
    if not volumes:
        raise GdmError(
            "there are no volumes",
            file=folder,
            found=f"no file CASE{suffix} with a known ending",
            expected=" ".join(f"CASE{suffix}{ending}" for ending in FILE_ENDINGS),
            remedy="check the folder and the suffix; convert DICOM series to volumes first",
        )
    return volumes


def _check_same(images: dict[str, Path], others: dict[str, Path], folder: Path, other_folder: Path) -> None:
    for known, lacking, where in ((images, others, other_folder), (others, images, folder)):
        for name in sorted(set(known) - set(lacking)):
            raise GdmError(
                "a case lacks a file",
                case=name,
                file=known[name],
                found=f"no file of the same identifier in {where}",
                expected="every identifier once in each folder",
                remedy="add or remove the file; where names end differently (001_mr, 001_ct), give the endings as "
                "--image_suffix, --target_suffix, --mask_suffix",
            )


def common_ending(cases: list[CaseFiles]) -> str:
    """The ending that all files share; two endings are an error."""
    first = cases[0].conditions[0]
    for case in cases:
        for path in (*case.conditions, *(path for path in (case.target, case.mask) if path)):
            if ending_of(path) != ending_of(first):
                raise GdmError(
                    "the files have different endings",
                    case=case.identifier,
                    file=path,
                    found=f"{ending_of(path)} and {ending_of(first)} ({first.name})",
                    expected="one ending for all files of a data set",
                    remedy="add --convert .nii.gz (or another ending) to convert them all",
                )
    return str(ending_of(first))
