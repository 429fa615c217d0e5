"""The planned length of a training: a time is kept, the trainer's own length stays where it fits."""

from dataclasses import replace

import pytest
import torch
from prediction_samples import make_configuration

from gdmunet.preprocessing import planned_length
from gdmunet.preprocessing.operations import every_level
from gdmunet.preprocessing.planned_length import PlanLength, with_lengths

CPU = torch.device("cpu")


def choice(**changes) -> PlanLength:
    return replace(PlanLength(CPU, "float32", every_level, own=100_000, hours=24.0), **changes)


@pytest.fixture
def step_of(monkeypatch):
    """Sets the seconds that a step takes."""

    def set_seconds(seconds):
        monkeypatch.setattr(PlanLength, "step_seconds", lambda *_: seconds)

    return set_seconds


def test_a_long_training_is_cut_to_a_day_with_the_reason(step_of):
    step_of(120.0)
    configurations, reasons = with_lengths({"3d_fullres": make_configuration()}, {}, choice())
    iterations = configurations["3d_fullres"].iterations
    assert iterations * 120 <= 24 * 3600
    assert iterations == 570
    assert "ends within a day" in reasons[0].because
    assert "139 days" in reasons[0].because


def test_a_training_that_fits_keeps_the_trainer_s_own_length(step_of):
    step_of(0.1)
    configurations, reasons = with_lengths({"3d_fullres": make_configuration()}, {}, choice())
    assert configurations["3d_fullres"].iterations is None
    assert reasons[0].value == "100,000 iterations"


def test_hours_that_are_asked_for_win_over_the_trainer_s_own_length(step_of):
    step_of(1.0)
    assert choice(hours=2.0, asked=True)(make_configuration(), None)[0] == 5700
    assert choice(hours=200.0, asked=True)(make_configuration(), None)[0] == 570_000


def test_without_a_limit_the_time_is_said_alone(step_of):
    step_of(120.0)
    chosen, reason = choice(hours=None)(make_configuration(), None)
    assert chosen is None
    assert "about 139 days" in reason.because


def test_no_choice_changes_nothing():
    assert with_lengths({"a": make_configuration()}, {}, None) == ({"a": make_configuration()}, [])


def test_a_step_is_measured_on_a_small_patch_first(monkeypatch):
    probed = []

    def probe(_, step, *__):
        probed.append(step.patch_size)
        return 1e-4

    monkeypatch.setattr(PlanLength, "_probe", probe)
    configuration = replace(make_configuration(), patch_size=(32, 32, 32))
    fast = choice(hours=10_000.0).step_seconds(configuration, None)
    assert len(probed) == 1  # far within the time: no larger patch is needed
    choice(hours=1e-3).step_seconds(configuration, None)
    assert probed[-1] == (32, 32, 32)
    assert fast > 0


def test_a_small_patch_that_is_slow_out_of_proportion_does_not_decide(monkeypatch):
    """As on a busy machine, where waiting for other programs is all that a step of a small patch does."""
    monkeypatch.setattr(PlanLength, "_probe", lambda *_: 1.0)
    configuration = replace(make_configuration(), patch_size=(32, 32, 32))
    assert choice().step_seconds(configuration, None) < 20.0


def test_planning_does_not_wait_for_steps_of_minutes(monkeypatch):
    probed = []
    monkeypatch.setattr(PlanLength, "_probe", lambda _, step, *__: probed.append(step.patch_size) or 40.0)
    choice().step_seconds(replace(make_configuration(), patch_size=(32, 32, 32)), None)
    assert len(probed) == 1


@pytest.mark.parametrize("busy", ["load 15 on 2 cores", ""])
def test_a_busy_machine_is_said(step_of, monkeypatch, busy):
    step_of(120.0)
    monkeypatch.setattr(planned_length, "other_work", lambda: busy)
    assert ("load 15 on 2 cores" in choice()(make_configuration(), None)[1].because) == bool(busy)


def test_a_real_step_has_a_time_and_draws_no_random_number():
    before = torch.get_rng_state()
    assert choice(hours=1e6).step_seconds(make_configuration(), None) > 0
    assert torch.equal(torch.get_rng_state(), before)
