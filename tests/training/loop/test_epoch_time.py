"""The time of an epoch counts what an interrupted process had spent on it."""

import torch
from short_trainers import loop_of

from gdmunet.training.loop.epoch import EpochMeter
from gdmunet.training.loop.state import RESUME_FORMAT
from gdmunet.training.trainers.fidelity import FidelityTrainer


def test_the_time_before_an_interruption_is_counted(toy):
    loop = loop_of(toy, FidelityTrainer)
    loop.state.meter.started -= 100.0
    loop.state.meter.add({"loss": 1.0}, 7.0)
    loop.state.save(loop.folder.resume, loop.trainer)
    other = loop_of(toy, FidelityTrainer)
    other.state.load(loop.folder.resume, other.trainer)
    assert 100 <= other.state.meter.seconds < 200
    assert other.state.meter.waited == 7.0


def test_between_two_epochs_nothing_is_kept(toy):
    loop = loop_of(toy, FidelityTrainer)
    loop.state.meter.started -= 100.0
    loop.state.save(loop.folder.resume, loop.trainer)
    assert torch.load(loop.folder.resume, weights_only=True)["epoch_seconds"] == 0.0


def test_a_state_of_an_earlier_version_begins_anew():
    assert RESUME_FORMAT.upgrade({"version": 2})["epoch_seconds"] == 0.0
    assert EpochMeter().before == 0.0
