"""Network family and length by the machine at hand."""

import pytest
import torch

from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.workflows.machine_choice import MachineChoice
from gdmunet.workflows.requests.planning import PlanExperimentRequest

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def choose(device=CPU, **options):
    request = PlanExperimentRequest(dataset=("600",), **options)
    choice = MachineChoice.of(request, device)
    length = None if device.type == "cuda" else choice.length(request, device, FidelityTrainer)
    return choice, length


def test_without_a_gpu_the_small_network_and_a_day_are_planned_with_the_reason():
    choice, length = choose()
    assert (choice.preset, length.hours, length.asked) == ("tiny", 24.0, False)
    assert "-pl plain" in choice.because


def test_with_a_gpu_nothing_changes():
    choice, _ = choose(GPU)
    assert (choice.preset, choice.because) == ("plain", None)


@pytest.mark.parametrize("options", [{"planner": "plain"}, {"gpu_memory_target": 8.0}, {"num_gpus": 2}])
def test_plans_for_a_gpu_elsewhere_stay_possible(options):
    choice, length = choose(**options)
    assert (choice.preset, length.hours) == ("plain", None)


def test_what_is_asked_for_wins():
    choice, length = choose(planner="M", hours=3.0)
    assert (choice.preset, length.hours, length.asked) == ("M", 3.0, True)
    request = PlanExperimentRequest(dataset=("600",))
    assert MachineChoice.of(request, CPU).length(request, CPU, GDMTrainer).drift is not None
