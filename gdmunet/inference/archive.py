"""A trained model as one zip, to share: plans and weights, no code, no pickles, no training state."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gdmunet.atomic import atomic_file, make_folder, move
from gdmunet.claims import check_unclaimed
from gdmunet.disk_errors import writing_error
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.inference.archive_limits import BoundedFile, check_limits, is_plain
from gdmunet.inference.trained_models import choose_folds, folds_with, load_model
from gdmunet.model_names import NAME_PATTERN
from gdmunet.owners import sweep, temporary_beside
from gdmunet.plain_text import one_line
from gdmunet.promises import check_promised
from gdmunet.results import (
    CHECKPOINT_FILES,
    FOLD_PREFIX,
    MODEL_LAYOUT,
    PLANS_FILE,
    SETTINGS_FILE,
    SPLIT_FILE,
    CheckpointName,
    FoldFolder,
    ModelFolder,
    join_name,
)
from gdmunet.serialization import read_json

# The only names that an archive may hold. None of them leads out of the results folder.
_FOLD_FILES = "|".join(re.escape(name) for name in (*CHECKPOINT_FILES.values(), SETTINGS_FILE, SPLIT_FILE))
_MEMBER = re.compile(
    rf"(?P<model>Dataset\d{{3}}_{NAME_PATTERN}/{join_name(*(NAME_PATTERN,) * 3)})/"
    rf"({re.escape(PLANS_FILE)}|{FOLD_PREFIX}\w+/({_FOLD_FILES}))"
)


def export_model(
    model_folder: Path,
    zip_path: Path,
    folds: Sequence[str | int] | str | None = None,
    checkpoint: CheckpointName = "best",
) -> Path:
    """Pack plans, weights and settings of some folds (None: all that have the checkpoint), and check them first.

    Raises
    ------
    GdmError
        The model cannot be loaded, or the disk is full.
    """
    folder = Path(model_folder).resolve()
    files = packed_files(folder, folds, checkpoint)
    with atomic_file(Path(zip_path)) as stream, zipfile.ZipFile(stream, "w") as archive:
        for file in files:
            # Weights do not shrink; packing them would only take time.
            kind = zipfile.ZIP_STORED if file.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
            archive.write(file, file.relative_to(folder.parents[1]).as_posix(), compress_type=kind)
    return Path(zip_path)


def packed_files(folder: Path, folds: Sequence[str | int] | str | None, checkpoint: CheckpointName) -> list[Path]:
    """The files of a model that travel: plans, weights, settings and split of some folds, which are loaded to check.

    Raises
    ------
    GdmError
        The model cannot be loaded.
    """
    model = ModelFolder(folder)
    packed = folds_with(model, checkpoint) if folds is None else choose_folds(folder, folds, checkpoint)
    load_model(folder, packed or None, checkpoint)
    files = [model.plans]
    for fold in map(model.fold, packed):
        files.append(fold.checkpoint(checkpoint))
        files += _texts_of(fold)
    return files


def import_model(zip_path: Path, results_folder: Path, overwrite: bool = False) -> Path:
    """Unpack a model into the results folder and check that it loads; returns its folder.

    Raises
    ------
    GdmError
        Not a zip, a file in it that no exported model has (nothing is unpacked then), a damaged model, or a model of
        that name that is there already.
    """
    results = Path(results_folder)
    if not Path(zip_path).is_file():
        raise GdmError("the archive is missing", file=zip_path, remedy="check the path")
    # Beside the place it will take, so that the last step is a rename.
    sweep(results)
    staging = temporary_beside(results / "import")
    try:
        with BoundedFile(Path(zip_path)) as stream:
            name = _checked_and_unpacked(stream, Path(zip_path), staging, overwrite)
        target = results / name
        _check_loads(staging / name)
        _move_into_place(staging, name, target)
    except OSError as error:
        raise writing_error("cannot unpack the model", results, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _checked_and_unpacked(stream: BoundedFile, zip_path: Path, staging: Path, overwrite: bool) -> str:
    """Unpack an archive that passes every check; gives the model's folder inside it."""
    damaged, results = "the archive is damaged, or it is not a zip file", staging.parent
    with reading(damaged, zip_path, remedy="copy it again"):
        archive = zipfile.ZipFile(stream)
    with archive:
        name = _check_members(archive, zip_path)
        check_limits(archive, zip_path, results)
        if (results / name).exists() and not overwrite:
            raise GdmError(
                "a model of this name is there already",
                file=results / name,
                remedy="remove or rename it, or import with --overwrite, which replaces it with all its folds",
            )
        for fold in ModelFolder(results / name).folds():
            check_unclaimed(fold.running, "a fold of the model that would be replaced is in use")
        with reading(damaged, zip_path, remedy="copy it again"):
            _unpack(archive, staging)
    return name


def _check_members(archive: zipfile.ZipFile, zip_path: Path) -> str:
    """The model's folder inside the archive, if everything in it belongs to one model."""
    models, names = set(), set()
    for member in archive.infolist():
        match = _MEMBER.fullmatch(member.filename)
        if match is None or member.filename in names or not is_plain(member):
            raise GdmError(
                "the archive holds a file that no exported model has; nothing was unpacked",
                file=zip_path,
                found=one_line(repr(member.filename), 200),
                expected=f"{MODEL_LAYOUT}/{{{PLANS_FILE}, {FOLD_PREFIX}k/*.safetensors}}",
                remedy="use the zip of an exported model",
            )
        names.add(member.filename)
        models.add(match["model"])
    if len(models) != 1:
        raise GdmError(
            "the archive must hold one model",
            file=zip_path,
            found=", ".join(sorted(models)[:5]) or "none",
            remedy="use the zip of an exported model",
        )
    return models.pop()


def _unpack(archive: zipfile.ZipFile, staging: Path) -> None:
    for member in archive.infolist():
        file = staging.joinpath(*PurePosixPath(member.filename).parts)
        make_folder(file.parent)
        try:
            with archive.open(member) as source, open(file, "xb") as destination:
                shutil.copyfileobj(source, destination, 1 << 20)
        except OSError as error:
            raise writing_error("cannot unpack the model", file, error) from error


def _check_loads(folder: Path) -> None:
    """Every checkpoint fits the plans; the errors speak of the archive's files."""
    checkpoints = {name for names in ModelFolder(folder).trained_folds().values() for name in names}
    if not checkpoints:
        raise GdmError("the archive holds no checkpoint", file=folder, remedy="use the zip of an exported model")
    for name in sorted(checkpoints):
        load_model(folder, folds_with(ModelFolder(folder), name), name)
    for fold in ModelFolder(folder).folds():
        _texts_of(fold)


def _texts_of(fold: FoldFolder) -> list[Path]:
    """Settings and split of a fold as far as they are there, read once: a damaged one does not travel (GdmError)."""
    files = [file for file in (fold.settings, fold.split) if file.is_file()]
    for file in files:
        read_json(file)
    return files


def _move_into_place(staging: Path, name: str, target: Path) -> None:
    files = [path.relative_to(staging / name) for path in (staging / name).rglob("*") if path.is_file()]
    make_folder(target.parent)
    replaced = staging / "replaced"
    if target.exists():
        move(target, replaced)
    try:
        move(staging / name, target)
    except GdmError:
        if replaced.exists():
            move(replaced, target)
        raise
    check_promised(target / file for file in files)
