"""Every trainer takes several steps in two processes on a planned network of three stages: one pair of them for all."""

import dataclasses
import traceback

import pytest
import torch
from short_trainers import CPU, without_norm
from toy_fixture import prepared_toy
from toy_segmenter import toy_for

from gdmunet.paths import find_processes
from gdmunet.training import distributed
from gdmunet.training.crew import run_crew
from gdmunet.training.loop.ema import weights_of
from gdmunet.training.loop.epoch import EpochMeter
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.trainers.gdm import DriftTrainer
from gdmunet.training.trainers.registry import named_trainers

STEPS = 3
SHORT = {"iterations": str(STEPS), "iterations_per_epoch": str(STEPS), "warmup_share": "0.0"}
# All tokens of every patch, so that nothing is drawn; no bank, of which each process has a share of its own.
UNDRAWN = {"bank_patches": "0", "tokens_per_patch": "100000", "families": "local", "feature_start": "0.25"}
EVERY_TRAINER = [(name, "3d_fullres", {}) for name in named_trainers()]
EVERY_TRAINER += [(name, "2d", {}) for name in ("AdversarialTrainer", "FlowMatchingTrainer", "GDMTrainer")]
# Step 0 trains the faithful part alone, and the others the change beside it.
IN_TURNS = {"feature_start": "0.34", "moment_batches": "2"}
EVERY_TRAINER += [("GDMTrainerDial", "3d_fullres", IN_TURNS | {"faithful_rate": rate}) for rate in ("0.0", "0.1")]
# Those that promise the numbers of one process, on networks whose patches do not know each other.
EXACT = [
    ("FidelityTrainer", "3d_fullres", {"accumulation": "2", "gradient_weight": "0.5"}),
    ("PerceptualTrainer", "3d_fullres", {"feature_start": "0.25"}),
    ("AdversarialTrainer", "3d_fullres", {"r1_weight": "0.1", "adversarial_weight": "0.5"}),
    ("GDMTrainer", "3d_fullres", UNDRAWN),
    ("GDMTrainerMGDA", "2d", UNDRAWN),
    ("GDMTrainerTransport", "3d_fullres", UNDRAWN | {"feature_every": "1", "moment_batches": "2"}),
    ("GDMTrainer", "2d", UNDRAWN | {"gramian_ema": "0.5", "accumulation": "2"}),
]


def steps_of(job, toy):
    """The losses of some steps, mean over the processes, and the weights after them."""
    name, configuration, changes = job
    plans, folders = without_norm(toy) if job in EXACT else toy
    kind = named_trainers()[name]
    plans, folders = toy_for(kind, (plans, folders))
    small = {"bank_patches": "2"} if issubclass(kind, DriftTrainer) and kind.bank_patches else {}
    data = FoldData.of(plans, configuration, "all", folders.preprocessed)
    loop = open_loop(kind.derive(SHORT | small | changes), data, folders, CPU, show_progress=False)
    stream, reports = loop._open_stream(0), []
    for _ in range(STEPS):
        report = loop.train_step([next(stream) for _ in range(loop.trainer.accumulation)])
        loop.state.iteration += 1
        every = distributed.gather(report)
        reports.append({name: sum(one[name] for one in every) / len(every) for name in report})
    return reports, {name: value.clone() for name, value in weights_of(loop.state.network).items()}


def in_a_process(toy, folder):
    place = find_processes()
    with distributed.member(place, "cpu"):
        torch.save(found_by(toy), f"{folder}/{place.number}.pt")


def found_by(toy):
    found = {}
    for number, job in enumerate([*EVERY_TRAINER, *EXACT]):
        try:
            found[number] = steps_of(job, toy)
        except Exception:  # the group has lost its step: the rest is not run
            found[number] = traceback.format_exc()
            break
    return found


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    return prepared_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def results(toy_data, tmp_path_factory):
    """Of both processes."""
    folder = tmp_path_factory.mktemp("ranks")
    run_crew(in_a_process, (toy_data, str(folder)), 2)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


def result_of(results, number):
    """Losses and weights of a job, which both processes must have in common."""
    (reports, weights), (others, other_weights) = (one.get(number, "not run") for one in results)
    assert reports == others
    changing = [name for name in weights if "running" not in name]
    for name in changing:
        assert torch.equal(weights[name], other_weights[name]), name
    return reports, weights


@pytest.mark.parametrize("number", range(len(EVERY_TRAINER)), ids=["-".join(job[:2]) for job in EVERY_TRAINER])
def test_every_trainer_takes_steps_in_two_processes(results, number):
    failed = [one[number] for one in results if isinstance(one.get(number, "not run"), str)]
    assert failed == []
    reports, _ = result_of(results, number)
    assert all(torch.tensor(list(report.values())).isfinite().all() for report in reports)
    assert all(report["gradient_norm"] > 0 for report in reports)


@pytest.mark.parametrize("number", range(len(EXACT)), ids=["-".join(job[:2]) for job in EXACT])
def test_two_processes_give_the_numbers_of_one(results, toy_data, number):
    job = EXACT[number]
    reports, weights = result_of(results, len(EVERY_TRAINER) + number)
    expected, expected_weights = steps_of(job, toy_data)
    for number, (report, wanted) in enumerate(zip(reports, expected, strict=True)):
        assert report.keys() == wanted.keys()
        for name in ("gradient_norm", *(name for name in wanted if name.startswith("loss_"))):
            assert report[name] == pytest.approx(wanted[name], rel=1e-5, abs=1e-6), (number, name)
    # A weight whose gradient is almost nothing moves by the sign of its round-off: such are few.
    apart = torch.cat([((weights[name] - value).abs() > 5e-5).flatten() for name, value in expected_weights.items()])
    assert apart.float().mean() < 1e-3


def test_gradients_of_accumulated_batches_are_sent_once():
    """Inside, every batch but the last keeps its gradients to itself."""

    class Shared(torch.nn.parallel.DistributedDataParallel):
        def __init__(self):  # no group: only what the step asks for
            torch.nn.Module.__init__(self)
            self.require_backward_grad_sync = True

    network = Shared()
    with distributed.unsynchronised(network, True):
        assert not network.require_backward_grad_sync
    with distributed.unsynchronised(network, False):
        assert network.require_backward_grad_sync


def test_meters_of_several_processes_are_those_of_one():
    meters = [
        EpochMeter({"loss": 3, "drift": 1}, {"loss": 6.0, "drift": 1.0}, 2.0),
        EpochMeter({"loss": 3}, {"loss": 12.0}, 5.0),
    ]
    both = EpochMeter.merged(meters)
    assert both.means() == {"loss": 3.0, "drift": 1.0}
    assert (both.counts, both.waited) == ({"loss": 3, "drift": 1}, 5.0)
    assert dataclasses.asdict(EpochMeter.merged(meters[:1])) == dataclasses.asdict(meters[0])
