"""A step's memory is compared with the device's before training, and the lack of it is explained."""

import dataclasses

import pytest
import torch
from short_trainers import loop_of

from gdmunet.device_memory import DeviceMemory
from gdmunet.errors import GdmError
from gdmunet.training.loop import memory_check
from gdmunet.training.loop.memory_check import check_memory
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer

GPU = torch.device("cuda", 0)


def never(*_):
    raise AssertionError("the step was counted")


def planned_for(loop, gigabytes, trainer="FidelityTrainer"):
    """The loop's data, as if planned with such a peak for that trainer."""
    data = loop.data
    memory = dataclasses.replace(data.configuration.predicted_memory, activations=round(1e9 * gigabytes))
    configuration = dataclasses.replace(data.configuration, predicted_memory=memory)
    plans = dataclasses.replace(data.plans, trainer=trainer, configurations={configuration.name: configuration})
    return dataclasses.replace(data, plans=plans, configuration=configuration)


def gpu(free):
    return DeviceMemory(round(1e9 * free), round(8e9))


def on_gpu(toy, kind=FidelityTrainer):
    loop = loop_of(toy, type("Kind", (kind,), {"__module__": __name__, "precision": "float32"}))
    loop.trainer.device = GPU
    return loop


def test_a_step_that_fits_as_planned_is_not_counted(toy, monkeypatch):
    monkeypatch.setattr(memory_check, "StepMemory", never)
    loop = on_gpu(toy)
    check_memory(loop.trainer, planned_for(loop, 6.4), never, gpu(8))


def test_a_step_that_does_not_fit_is_refused_with_numbers_and_the_planning_command(toy, monkeypatch):
    loop = on_gpu(toy)
    monkeypatch.setattr(memory_check, "_needed", lambda *_: round(6.4e9))
    with pytest.raises(GdmError) as raised:
        check_memory(loop.trainer, planned_for(loop, 6.4), never, gpu(5))
    error = raised.value
    assert "more memory than is free on cuda:0" in error.problem
    assert (error.found, error.expected) == ("5 GB free of 8 GB", "6.4 GB as predicted, and a reserve")
    plans = loop.data.plans
    words = error.command.words
    assert words[:3] == ("gdm_plan_and_preprocess", "-d", plans.dataset_name)
    assert words[words.index("-gpu_memory_target") + 1] == "3.5"
    assert words[words.index("-pl") + 1] == plans.planner


def test_a_step_without_reserve_is_warned_of(toy, monkeypatch):
    loop, said = on_gpu(toy), []
    monkeypatch.setattr(memory_check, "_needed", lambda *_: round(6.4e9))
    check_memory(loop.trainer, planned_for(loop, 6.4), said.append, gpu(7))
    assert "leaves no reserve" in said[0]
    assert "-gpu_memory_target 5.5" in said[0]


def test_where_nothing_is_usable_no_plans_are_proposed(toy, monkeypatch):
    loop = on_gpu(toy)
    monkeypatch.setattr(memory_check, "_needed", lambda *_: round(6.4e9))
    with pytest.raises(GdmError, match="end other programs") as raised:
        check_memory(loop.trainer, planned_for(loop, 6.4), never, gpu(1))
    assert raised.value.command is None


def test_a_cpu_is_only_warned(toy, monkeypatch):
    loop, said = loop_of(toy, FidelityTrainer), []
    monkeypatch.setattr(memory_check, "_needed", lambda *_: round(6.4e9))
    check_memory(loop.trainer, planned_for(loop, 6.4), said.append, gpu(1))
    assert len(said) == 1


def test_a_step_smaller_than_planned_is_counted_and_trained(toy):
    """Fidelity alone, with plans that hold an encoder too."""
    loop = on_gpu(toy)
    check_memory(loop.trainer, planned_for(loop, 6.4, "GDMTrainer"), never, gpu(4))


def test_a_step_larger_than_planned_is_counted_and_refused(toy):
    loop = on_gpu(toy, GDMTrainer)
    needed = memory_check._needed(loop.trainer, planned_for(loop, 0.001), gpu(8))
    assert needed > 2e6
    with pytest.raises(GdmError, match="more memory than is free"):
        check_memory(loop.trainer, planned_for(loop, 0.001), never, DeviceMemory(needed - 1, round(8e9)))


class Hungry(FidelityTrainer):
    """The device has no memory left at its second step."""

    def generate(self, batch):
        if self.step.iteration == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().generate(batch)


def test_a_training_that_runs_out_of_memory_says_what_to_do(toy, monkeypatch):
    monkeypatch.setattr(memory_check, "device_memory", lambda _: gpu(5))
    loop = loop_of(toy, short_of(Hungry))
    loop.data = planned_for(loop, 2)
    with pytest.raises(GdmError, match="ran out of memory while training") as raised:
        loop.train(0)
    error = raised.value
    assert error.expected == "2 GB as predicted, and a reserve"
    assert error.command.words[5:7] == ("-gpu_memory_target", "1.6")


def short_of(kind):
    return type("Short", (kind,), {"__module__": __name__, "epochs": 1, "iterations_per_epoch": 3})


def test_a_network_that_does_not_fit_says_so_too(toy, monkeypatch):
    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(TrainingState, "fresh", fail)
    with pytest.raises(GdmError, match="ran out of memory while training"):
        loop_of(toy, FidelityTrainer)
