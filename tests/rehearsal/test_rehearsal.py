"""Every hot path on a GPU that is not there: mixed devices raise, waits, uploads and kernels keep to their budgets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import stand_in
from budgets import budget_of
from filelock import FileLock
from part_cases import ENCODERS, SAMPLERS, part_cases
from training_cases import training_cases

from gdmunet.encoders.registry import FAMILIES
from gdmunet.sampler_spec import SamplerSpec

HERE = Path(__file__).parent
# All cases are one process, which on a busy machine takes minutes.
pytestmark = pytest.mark.timeout(1800)
NAMES = [*training_cases(), *part_cases()]


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory) -> dict:
    """What all cases counted: one process rehearses them all, whichever worker of a test run asks first."""
    if reason := stand_in.obstacle():
        pytest.skip(reason)
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    out = shared / "rehearsal.json"
    with FileLock(shared / "rehearsal.lock"):
        if not out.is_file():
            paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
            command = [sys.executable, str(HERE / "rehearse.py"), "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
            assert out.is_file(), done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_could_run_it_within_its_budget(rehearsed, name):
    found, budget = rehearsed[name], budget_of(name)
    assert found["error"] is None, found["error"]
    over = []
    for what in ("waits", "uploads", "kernels"):
        count, most = sum(found[what].values()), getattr(budget, what)
        if most is not None and count > most:
            places = sorted(found[what].items(), key=lambda item: -item[1])[:20]
            lines = "".join(f"\n  {number} {place}" for place, number in places)
            over.append(f"{count} {what}, at most {most}:{lines}")
    assert not over, f"{name} asks more of a GPU than tests/rehearsal/budgets.py allows: " + "\n".join(over)


def test_every_encoder_and_sampler_is_rehearsed():
    assert set(ENCODERS) == set(FAMILIES)
    assert {spec.name for spec in SAMPLERS.values()} == set(get_args(get_type_hints(SamplerSpec)["name"]))


def test_products_of_the_drift_are_float32_and_those_of_the_generator_half(rehearsed):
    dtypes = rehearsed["trainer GDMTrainer"]["dtypes"]
    assert {"bmm float32", "baddbmm float32", "convolution bfloat16"} <= set(dtypes)
    assert not {"bmm bfloat16", "baddbmm bfloat16", "convolution float32"} & set(dtypes)
