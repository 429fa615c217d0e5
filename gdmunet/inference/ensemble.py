"""The mean of several folders of predictions, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.imageio import read_volume, write_volume
from gdmunet.inference.export import whole_numbers
from gdmunet.inference.prediction_settings import SETTINGS_FILE
from gdmunet.progress import say, track
from gdmunet.promises import check_promised
from gdmunet.quantities import counted
from gdmunet.serialization import read_json, save_json
from gdmunet.version import __version__
from gdmunet.volume_formats.files import find_volumes, left_out_of
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of, format_of


@dataclass(frozen=True)
class EnsembleSpec:
    """The content of ensemble_settings.json.

    `realism` has the place of the dial of each folder's predictions; None: the model has none, or nothing is known.
    """

    folders: tuple[str, ...]
    as_float: bool
    realism: tuple[float | None, ...] = ()
    gdmunet_version: str = __version__


def ensemble_folders(
    folders: Sequence[Path], output_folder: Path, *, as_float: bool = False, show_progress: bool = True
) -> list[Path]:
    """Average the predictions of the same cases voxel by voxel.

    Whole numbers (CT) stay whole numbers where all inputs are, unless `as_float`.

    Parameters
    ----------
    folders
        At least two folders, each with the same ``CASE.ext`` files.
    output_folder
        Folder that gets ``CASE.ext``, in the first folder's ending.

    Raises
    ------
    GdmError
        Cases, grids, or places of a dial for realism that differ; the output folder is one of the inputs.
    """
    inputs = [Path(folder) for folder in folders]
    output = Path(output_folder)
    _check(inputs, output)
    listed = [_list_predictions(folder) for folder in inputs]
    for folder, files in zip(inputs[1:], listed[1:], strict=True):
        _check_same_cases(inputs[0], listed[0], folder, files)
    realism = tuple(map(_realism, inputs))
    _check_one_place(inputs, realism)
    for line in left_out_of(inputs):
        say(line)
    written = []
    for identifier in track("averaging", sorted(listed[0]), show_progress):
        paths = [files[identifier] for files in listed]
        target = output / f"{identifier}{ending_of(paths[0])}"
        write_mean(identifier, paths, target, as_float)
        written.append(target)
    save_json(EnsembleSpec(tuple(map(str, inputs)), as_float, realism), output / "ensemble_settings.json")
    check_promised(written)
    return written


def write_mean(identifier: str, paths: Sequence[Path], target: Path, as_float: bool = False) -> None:
    """Write the mean of one case's predictions; files on different grids are an error."""
    first = read_volume(paths[0], identifier, constant=True)
    total = first.array.astype(np.float32)
    for path in paths[1:]:
        volume = read_volume(path, identifier, constant=True)
        difference = volume.geometry.difference(first.geometry)
        if difference:
            raise GdmError(
                "the predictions of a case lie on different grids",
                case=identifier,
                file=path,
                found=difference.found,
                expected=f"{difference.expected}, as {paths[0]}",
                remedy="predict both from the same images",
            )
        total += volume.array
    total /= len(paths)
    whole = not as_float and all(format_of(path).holds_whole_numbers(path) for path in paths)
    write_volume(target, whole_numbers(total) if whole else total, first.geometry)


def _realism(folder: Path) -> float | None:
    """The place of the dial that the folder's settings name."""
    file = folder / SETTINGS_FILE
    settings = read_json(file) if file.is_file() else None
    found = settings.get("realism") if isinstance(settings, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _check_one_place(folders: Sequence[Path], realism: Sequence[float | None]) -> None:
    """Refuse known places that differ: what lies between them is a place of the dial, and sharper than their mean."""
    known = {folder: place for folder, place in zip(folders, realism, strict=True) if place is not None}
    if len(set(known.values())) > 1:
        raise GdmError(
            "the folders were predicted at different places of the dial for realism",
            file=next(iter(known)),
            found="; ".join(f"{place:g} in {folder}" for folder, place in known.items()),
            expected="one place in all folders",
            remedy="predict them anew with one --realism; a place in between is a prediction of its own",
        )


def _check(inputs: list[Path], output: Path) -> None:
    if len(inputs) < 2:
        raise GdmError("an ensemble needs two folders of predictions", found=len(inputs), remedy="give more with -i")
    for folder in inputs:
        if not folder.is_dir():
            raise GdmError("the input folder is not there", file=folder, remedy="check the path")
        if folder.resolve() == output.resolve():
            raise GdmError(
                "the output folder is one of the input folders", file=output, remedy="give another folder with -o"
            )


def _list_predictions(folder: Path) -> dict[str, Path]:
    """Identifier to file; other files (settings, summaries) are not listed."""
    predictions = find_volumes(folder)
    if not predictions:
        raise GdmError(
            "there are no predictions",
            file=folder,
            expected=f"files that end in {', '.join(FILE_ENDINGS)}",
            remedy="check the path, or predict first",
        )
    return predictions


def _check_same_cases(first: Path, expected: dict[str, Path], folder: Path, predictions: dict[str, Path]) -> None:
    for identifier in sorted(set(expected) ^ set(predictions)):
        lacking = folder if identifier in expected else first
        raise GdmError(
            "a case is missing in one of the folders",
            case=identifier,
            file=lacking,
            found=f"{counted(expected, 'case')} in {first}, {len(predictions)} in {folder}",
            expected="the same cases in all folders",
            remedy="predict the missing case, or remove it from the others",
        )
