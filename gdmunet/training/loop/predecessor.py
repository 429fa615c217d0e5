"""An earlier training of a fold while a new one replaces it: set aside, then let go or brought back.

Its folder is renamed as a whole, which is done or not done wherever a run is killed. The next run reads from the two
folders what has to be done; the state of the new training alone decides: a whole first checkpoint, or none.
"""

from __future__ import annotations

from pathlib import Path

from gdmunet.atomic import make_folder, move, remove, write_bytes
from gdmunet.disk_errors import writing_error
from gdmunet.results import FoldFolder, ModelFolder


def make_room(folder: FoldFolder) -> None:
    """Set a trained fold aside with a copy of the model's plans, and make its folder anew.

    What a training left that came to no checkpoint is removed.

    Raises
    ------
    GdmError
        The system refuses.
    """
    if not folder.trained_files():
        _remove(folder.made_by_training())
        return
    plans = ModelFolder(folder.path.parent).plans
    try:
        if plans.is_file():
            write_bytes(folder.path / plans.name, plans.read_bytes())
        move(folder.path, folder.previous.path)
    except OSError as error:
        raise writing_error("cannot set the earlier training aside", folder.path, error) from error
    make_folder(folder.path)


def settle(folder: FoldFolder) -> str | None:
    """Let an earlier training go if the new one has a whole checkpoint, else bring it back; text of what was done.

    Files of a fold that no training makes stay in either case. None: no earlier training is set aside.

    Raises
    ------
    GdmError
        The system refuses.
    """
    previous = folder.previous
    if not previous.path.is_dir():
        return None
    try:
        return _let_go(folder, previous) if folder.can_continue else _bring_back(folder, previous)
    except OSError as error:
        raise writing_error("cannot settle the earlier training that was set aside", previous.path, error) from error


def _let_go(folder: FoldFolder, previous: FoldFolder) -> str:
    _remove([*previous.made_by_training(), _plans_of(previous)])
    _move_rest(previous.path, folder.path)
    return f"{folder.path.name}: the earlier training is removed, since the one that replaces it has a checkpoint"


def _bring_back(folder: FoldFolder, previous: FoldFolder) -> str:
    if folder.path.is_dir():
        _remove(folder.made_by_training())
        _move_rest(folder.path, previous.path)
    if _plans_of(previous).is_file():
        model = ModelFolder(folder.path.parent)
        move(_plans_of(previous), model.plans)
    move(previous.path, folder.path)
    return (
        f"{folder.path.name}: the earlier training is back, since the one that was to replace it ended before its "
        "first checkpoint"
    )


def _plans_of(previous: FoldFolder) -> Path:
    return previous.path / ModelFolder(previous.path.parent).plans.name


def _remove(paths: list[Path]) -> None:
    for path in paths:
        remove(path)


def _move_rest(source: Path, target: Path) -> None:
    """Move what is left; a name that is there already keeps its file, and the other goes."""
    for path in source.iterdir():
        if not (target / path.name).exists():
            move(path, target / path.name)
    remove(source)
