"""The estimated end of a whole training."""

import pytest

from gdmunet.training.loop import forecast as module
from gdmunet.training.loop.forecast import Forecast


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(module.time, "time", lambda: 1_700_000_000.0)
    return Clock


def steps(forecast, clock, count, seconds, start=0):
    for iteration in range(start, start + count + 1):
        forecast.mark(iteration)
        clock.now += seconds


def test_the_end_of_the_whole_run_is_estimated_after_a_few_steps(clock):
    forecast = Forecast(100_000)
    assert (forecast.seconds_left(), forecast.short(), forecast.first_words()) == (None, "", "")
    steps(forecast, clock, 5, 120.0)
    assert forecast.seconds_left() == pytest.approx(120 * 99_995)
    words = forecast.first_words()
    assert "in 139 days" in words
    assert "a day allows about 720 steps here: train with --iterations N, or plan with --hours H" in words
    assert forecast.first_words() == ""
    assert forecast.short().startswith("ends about 2024-04-")


def test_a_short_run_needs_no_advice(clock):
    forecast = Forecast(100)
    steps(forecast, clock, 30, 1.0)
    assert "note" not in forecast.first_words()


def test_slower_steps_ahead_are_said_and_the_pace_is_then_taken_anew(clock):
    forecast = Forecast(1000, slower_from=600)
    steps(forecast, clock, 40, 1.0)
    assert "steps take longer from iteration 600 on" in forecast.first_words()
    steps(forecast, clock, 10, 1.0, start=590)
    steps(forecast, clock, 10, 5.0, start=601)
    assert forecast.step_seconds == pytest.approx(5.0, rel=0.2)
    assert "longer" not in forecast.sentence()


def test_a_continued_run_has_an_estimate_before_its_first_step():
    forecast = Forecast(1000)
    rows = [{"iteration": 100, "seconds": 50.0}, {"iteration": 200, "seconds": 80.0, "validation_seconds": 20.0}]
    forecast.continue_from(rows)
    forecast.mark(200)
    assert forecast.seconds_left() == pytest.approx(800.0)
