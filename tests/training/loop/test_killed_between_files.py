"""A run that is killed between two files of an epoch: the resume state is first, and the others are made of it."""

import contextlib

import pytest
import torch
from short_trainers import loop_of

from gdmunet.checkpoint import load_weights
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.predecessor import make_room
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.trainers.fidelity import FidelityTrainer

NAMES = ("best", "latest", "final")


class Short(FidelityTrainer):
    epochs = 2
    iterations_per_epoch = 2
    learning_rate = 2e-3
    validation_patches = 2


class Killed(BaseException):
    """What no part of the loop catches."""


def files_of(loop):
    stored = {name: load_weights(loop.folder.checkpoint(name)) for name in NAMES}
    return {name: (one.state_dict, one.metadata) for name, one in stored.items()}


def kill_before(monkeypatch, number):
    """End the run before its file of that number is written; gives the files that were begun."""
    begun = []

    def count(name, write):
        def counted(*given):
            if len(begun) == number:
                raise Killed(name)
            begun.append(name)
            return write(*given)

        return counted

    monkeypatch.setattr(TrainingState, "save", count("resume", TrainingState.save))
    monkeypatch.setattr(Loop, "save", lambda self, name, save=Loop.save: count(name, save)(self, name))
    return begun


@pytest.mark.parametrize("number", range(8))
def test_a_run_goes_on_wherever_it_was_killed_between_two_files(toy, monkeypatch, number):
    whole = loop_of(toy, Short)
    with monkeypatch.context() as context:
        all_files = kill_before(context, -1)
        whole.train(0)
    expected = files_of(whole)
    with monkeypatch.context() as context:
        begun = kill_before(context, number)
        stopped = loop_of(toy, type("Stopped", (Short,), {}))
        with pytest.raises(Killed) if number < len(all_files) else contextlib.nullcontext():
            stopped.train(0)
    assert begun[:3] == ["resume", "latest", "best"][:number]
    again = loop_of(toy, type("Stopped", (Short,), {}))
    trained = again.folder.trained_files()
    assert again.folder.resume.is_file() or not trained, "files that nothing can be continued from"
    if trained:
        again.resume()
    else:
        make_room(again.folder)  # as gdm_train does: what came to no checkpoint goes
    again.train(0)
    for name, (weights, metadata) in files_of(again).items():
        assert metadata.iteration == expected[name][1].iteration, name
        assert metadata.validation_mae == expected[name][1].validation_mae, name
        for key, value in weights.items():
            assert torch.equal(value, expected[name][0][key]), (name, key)
    assert [row["epoch"] for row in again.journal.rows()] == [0, 1]
