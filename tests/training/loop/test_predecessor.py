"""An earlier training that is replaced: wherever a run ends, one whole training is left."""

import pytest

from gdmunet.results import ResultsFolder
from gdmunet.training.loop.predecessor import make_room, settle

OLD = {
    "checkpoint_final.safetensors": "old weights", "checkpoint_latest.safetensors": "old", "resume.pt": "old",
    "journal.jsonl": "old rows", "validation/summary.json": "old scores", "notes.txt": "mine", "settings.json": "old",
}  # fmt: skip


@pytest.fixture
def fold(tmp_path):
    model = ResultsFolder(tmp_path).model("Dataset001_A", "T", "plans", "3d_fullres")
    folder = model.fold(0)
    write(folder.path, OLD)
    model.plans.write_text("old plans")
    return folder


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def begin_anew(fold):
    make_room(fold)
    (fold.path.parent / "plans.json").write_text("new plans")
    write(fold.path, {"journal.jsonl": "new row", "settings.json": "new"})


def test_a_fold_that_nobody_replaces_is_left_alone(fold):
    assert settle(fold) is None
    assert files(fold.path) == OLD


@pytest.mark.parametrize("written", [{}, {"checkpoint_best.safetensors": "new"}, {"resume.pt": "new"}])
def test_a_training_that_never_got_to_a_checkpoint_gives_its_place_back(fold, written):
    begin_anew(fold)
    write(fold.path, written)
    assert fold.previous.path.name == "previous_fold_0"
    assert "earlier training is back" in settle(fold)
    assert files(fold.path) == OLD
    assert (fold.path.parent / "plans.json").read_text() == "old plans"
    assert sorted(path.name for path in fold.path.parent.iterdir()) == ["fold_0", "plans.json"]
    assert settle(fold) is None


def test_a_training_with_a_checkpoint_takes_the_place(fold):
    begin_anew(fold)
    new = {"checkpoint_latest.safetensors": "new", "resume.pt": "new"}
    write(fold.path, new)
    assert "earlier training is removed" in settle(fold)
    expected = new | {"journal.jsonl": "new row", "settings.json": "new", "notes.txt": "mine"}
    assert files(fold.path) == expected
    assert (fold.path.parent / "plans.json").read_text() == "new plans"
    assert not fold.previous.path.exists()


@pytest.mark.parametrize("killed_in", ["remove", "replace"])
def test_a_run_that_is_killed_while_it_brings_back_is_taken_up_by_the_next(fold, monkeypatch, killed_in):
    """Whatever step it stood before: the folders alone say what is left to do."""
    import gdmunet.training.loop.predecessor as predecessor

    begin_anew(fold)
    write(fold.path, {"validation/case.nii.gz": "new"})

    class KilledError(BaseException):
        pass

    def killed(*_):
        raise KilledError

    place = predecessor if killed_in == "remove" else predecessor.Path
    monkeypatch.setattr(place, killed_in, killed)
    with pytest.raises(KilledError):
        settle(fold)
    monkeypatch.undo()
    settle(fold)
    found = files(fold.path)
    assert {name: found[name] for name in OLD} == OLD
    assert (fold.path.parent / "plans.json").read_text() == "old plans"
    assert not fold.previous.path.exists()


def test_what_came_to_no_checkpoint_is_not_set_aside(fold):
    for file in fold.trained_files():
        file.unlink()
    make_room(fold)
    assert files(fold.path) == {"notes.txt": "mine"}
    assert not fold.previous.path.exists()
