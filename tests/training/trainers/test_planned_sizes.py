"""Sizes of the drift come from the plans, are at most a tenth of a step, and give way to a setting."""

import dataclasses

import pytest
from short_trainers import loop_of, short
from toy import HU, toy_configuration

from gdmunet.drift_spec import DriftSpec
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.mini import random_mini
from gdmunet.errors import GdmError
from gdmunet.plans import PLANS_FORMAT
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.battery import GDMTrainerTransportBattery
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.planned_sizes import LARGEST_SHARE, TOKENS, PlanDrift, as_planned
from gdmunet.training.trainers.transport import GDMTrainerTransport
from gdmunet.training.trainers.variants import GDMTrainerFreshEncoder

SIZES = DriftSpec(tokens_per_patch=64, bank_patches=16, bank_tokens=48, battery=3)
ROOMY = 10**11
UNITS = VolumeUnits(HU, -1024.0, "CT")


def configuration_of(preset="tiny", edge=48, batch=2):
    topology = plan_topology((1.0,) * 3, (edge,) * 3, PRESETS[preset].max_poolings)
    network = PRESETS[preset].network(topology, 1, None)
    return dataclasses.replace(toy_configuration(), patch_size=topology.patch_size, batch_size=batch, network=network)


def with_drift(sizes, **changes):
    return dataclasses.replace(toy_configuration(), drift=sizes, **changes)


@pytest.fixture(scope="module")
def encoder():
    return random_mini(UNITS, 3)


def test_a_trainer_takes_the_sizes_of_its_plans():
    kind = as_planned(GDMTrainer, with_drift(SIZES))
    assert (kind.tokens_per_patch, kind.bank_patches, kind.bank_tokens) == (64, 16, 48)
    assert kind.__name__ == "GDMTrainer"
    assert kind.settings()["tokens_per_patch"] == 64
    assert as_planned(GDMTrainerTransportBattery, with_drift(SIZES)).battery == 3


def test_a_setting_of_the_user_or_of_the_class_is_kept():
    kind = as_planned(GDMTrainer.derive({"tokens_per_patch": "128"}), with_drift(SIZES))
    assert (kind.tokens_per_patch, kind.bank_tokens) == (128, 48), "also where it is the trainer's constant"
    assert GDMTrainerFreshEncoder.bank_patches == 0
    assert as_planned(GDMTrainerFreshEncoder, with_drift(SIZES)).bank_patches == 0


def test_earlier_plans_and_trainers_without_a_drift_are_left_alone():
    assert as_planned(GDMTrainer, with_drift(None)) is GDMTrainer
    assert as_planned(FidelityTrainer, with_drift(SIZES)) is FidelityTrainer
    content = {"version": 3, "configurations": {"2d": {"name": "2d"}}}
    assert PLANS_FORMAT.upgrade(content)["configurations"]["2d"]["drift"] is None


def test_a_planned_length_is_that_of_the_training_unless_one_is_asked_for():
    planned = with_drift(None, iterations=1000)
    kind = as_planned(GDMTrainer, planned)
    assert (kind.length(), kind.iterations_per_epoch, kind.__name__) == (1000, 50, "GDMTrainer")
    assert as_planned(FidelityTrainer, with_drift(None, iterations=7)).iterations_per_epoch == 1
    for asked in ({"epochs": "4"}, {"iterations": "1000"}, {"iterations": "30"}):
        given = GDMTrainer.derive(asked)
        assert as_planned(given, planned) is given
    content = {"version": 4, "configurations": {"2d": {"name": "2d"}}}
    assert PLANS_FORMAT.upgrade(content)["configurations"]["2d"]["iterations"] is None


def test_a_training_and_its_memory_have_the_sizes_of_the_plans(toy):
    plans, folders = toy
    sized = {name: dataclasses.replace(one, drift=SIZES) for name, one in plans.configurations.items()}
    trainer = loop_of((dataclasses.replace(plans, configurations=sized), folders), GDMTrainer).trainer
    assert (trainer.tokens_per_patch, trainer.force.options.mask_twins) == (64, True)
    assert max(one.per_patch for one in trainer._sets) == 64
    bank = trainer.force.bank
    assert bank.capacities == {one.key: 16 * one.per_patch for one in trainer._sets}
    planned = PlannedStep(trainer.configuration, plans.dataset, "float32", trainer.encoder)
    assert StepMemory(GDMTrainer)(planned).bank == bank.bytes()
    assert loop_of(toy, short(GDMTrainer)).trainer.tokens_per_patch == 32


def test_the_most_tokens_whose_drift_is_a_tenth_of_the_step(encoder):
    plan = PlanDrift(GDMTrainer)
    # Fewer than the last of the ladder were not compared in quality.
    small = plan(configuration_of(), encoder, "float32", ROOMY)
    assert small.operations > LARGEST_SHARE
    assert small.spec.tokens_per_patch == TOKENS[-1]
    large = plan(configuration_of("M", 128), encoder, "float32", ROOMY)
    tokens = large.spec.tokens_per_patch
    assert max(large.operations, large.memory) <= LARGEST_SHARE
    assert large.spec.bank_tokens == 4 * tokens
    assert tokens > TOKENS[-1]
    assert large.spec.battery > small.spec.battery
    half = plan(configuration_of("M", 128), encoder, "bfloat16", ROOMY)
    assert half.spec.tokens_per_patch < tokens
    transport = PlanDrift(GDMTrainerTransport)(configuration_of(), encoder, "float32", ROOMY)
    assert transport.operations <= LARGEST_SHARE
    assert transport.spec.tokens_per_patch >= small.spec.tokens_per_patch


def test_memory_bounds_tokens_and_bank_too(encoder):
    plan = PlanDrift(GDMTrainer)
    roomy = configuration_of("M", 128)
    found = plan(roomy, encoder, "float32", 2 * 10**7)
    assert found.spec.tokens_per_patch < plan(roomy, encoder, "float32", ROOMY).spec.tokens_per_patch
    assert found.spec.bank_patches < plan(roomy, encoder, "float32", ROOMY).spec.bank_patches


def test_impossible_sizes_are_refused():
    with pytest.raises(GdmError, match="sizes of the drift are impossible"):
        DriftSpec(0, 1, 1, 1)
