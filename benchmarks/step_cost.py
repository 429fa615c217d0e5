"""Where the time and memory of a training step go: fidelity alone against the method, part by part.

usage: python benchmarks/step_cost.py [--patch 48] [--batch 2] [--preset tiny] [--encoder mini] [--device cpu]
           [--rounds 7] [--precision auto]

Both steps run alternately in one process; medians. Parts are timed inside the method's step.
"""

import argparse
import statistics
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from memory_model import DATASET, configuration_of

from gdmunet.device import find_device
from gdmunet.encoders.base import VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network
from gdmunet.plans import NormalizationSpec
from gdmunet.preprocessing.memory import LiveBytes
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.training.coordination.coordinator import Coordinator
from gdmunet.training.coordination.weightings import WeightingOptions
from gdmunet.training.drift.bank import FeatureBank
from gdmunet.training.drift.options import DriftOptions
from gdmunet.training.drift.sets import SetSamples, drift_of_sets
from gdmunet.training.drift.token_plan import plan_tokens
from gdmunet.training.drift.tokens import extract_tokens, token_sets
from gdmunet.training.loop.step_memory import StepMemory
from gdmunet.training.trainers.gdm import GDMTrainer


class Clock:
    """Seconds by part; waits for the device before and after."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.parts = device, {}

    @contextmanager
    def part(self, name: str):
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.parts.setdefault(name, []).append(time.perf_counter() - started)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Bench:
    """A generator, an encoder, a full bank and one batch."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = find_device(arguments.device)
        patch = (arguments.patch,) * 3
        preset = PRESETS[arguments.preset]
        topology = plan_topology((1.0,) * 3, patch, preset.max_poolings)
        self.spec: NetworkSpec = preset.network(topology, 1, 0)
        torch.manual_seed(0)
        self.network = build_network(self.spec).to(self.device)
        units = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), -80.0, 360.0), -1024.0, "CT")
        choice = choose_encoder(arguments.encoder, units, 3, EncoderOptions(Path("encoders")))
        assert choice.encoder is not None
        self.encoder_spec, self.encoder = choice.spec, choice.encoder.to(self.device)
        shape = (arguments.batch, 1, *patch)
        self.condition, self.target = (torch.randn(shape, device=self.device) for _ in range(2))
        self.mask = torch.ones(shape, device=self.device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.coordinator = Coordinator("adaptive", "none", options=WeightingOptions(beta=GDMTrainer.adaptive_weight))
        self.levels = GDMTrainer.used_levels(self.encoder.levels)
        self.encoder.stop_after(self.levels)
        sets = token_sets(self.levels, patch, GDMTrainer.families, GDMTrainer.tokens_per_patch)
        self.bank = FeatureBank(sets, GDMTrainer.bank_patches, self.device)
        self.precision = GDMTrainer.precision_on(self.device) if arguments.precision == "auto" else arguments.precision
        with torch.no_grad():
            real = extract_tokens(self.encoder(self.target), self.plan())
        while min(self.bank.sizes[k] for k in real) < 512 and not self.bank.full:
            self.bank.add(real, arguments.batch)

    def plan(self):
        return plan_tokens(self.mask, self.levels, GDMTrainer.families, GDMTrainer.tokens_per_patch)

    def drift(self, generated: dict, real: dict, banked: dict) -> torch.Tensor:
        """As the trainer's defaults: the bank on both sides, neither twins nor the tokens themselves."""
        samples = {
            key: SetSamples(tokens[None], real[key][None], None, shared=banked[key][None])
            for key, tokens in generated.items()
            if len(tokens) >= GDMTrainer.minimum_tokens
        }
        drifts = drift_of_sets(samples, DriftOptions(mask_twins=True), {})
        return torch.stack([drift.loss for drift in drifts.values()]).mean()

    def autocast(self):
        dtype = getattr(torch, self.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "float32")

    def fidelity_step(self, clock: Clock) -> None:
        with clock.part("fidelity step, all of it"):
            self.optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                prediction = self.network(self.condition)
            (prediction.float() - self.target).abs().mean().backward()
            self.optimizer.step()

    def method_step(self, clock: Clock) -> None:
        with clock.part("method step, all of it"):
            self.optimizer.zero_grad(set_to_none=True)
            with clock.part("generator forward"), self.autocast():
                prediction = self.network(self.condition)
            (first,) = torch.autograd.grad((prediction.float() - self.target).abs().mean(), prediction)
            with clock.part("encoder forward, real"), torch.no_grad(), self.autocast():
                maps = self.encoder(self.target)
            with clock.part("tokens and bank"):
                plan = self.plan()
                real = extract_tokens(maps, plan)
            with clock.part("encoder forward, generated"), self.autocast():
                leaf = prediction.detach().float().requires_grad_()
                maps = self.encoder(leaf)
            with clock.part("tokens and bank"):
                generated = extract_tokens(maps, plan)
                sizes = self.bank.sizes
                drawn = self.bank.sample({k: min(GDMTrainer.bank_tokens, sizes[k]) for k in real})
            with clock.part("drift"):
                loss = self.drift(generated, real, drawn)
                keys = list(generated)
                wanted = torch.autograd.grad(loss, [generated[k] for k in keys], allow_unused=True, retain_graph=True)
            with clock.part("encoder backward"):
                pairs = [(generated[k], g) for k, g in zip(keys, wanted, strict=True) if g is not None]
                (second,) = torch.autograd.grad([t for t, _ in pairs], leaf, [g for _, g in pairs])
            with clock.part("coordination"):
                direction = self.coordinator.combine([first.float(), second]).direction
            self.bank.add(real, len(self.mask))
            with clock.part("generator backward"):
                prediction.backward(gradient=direction.to(prediction.dtype))
            self.optimizer.step()


def part_seconds(bench: Bench, rounds: int) -> dict[str, float]:
    """Median seconds of both steps, taken in turn, and of the parts of the method's."""
    clock = Clock(bench.device)
    for number in range(rounds + 1):
        bench.fidelity_step(clock)
        bench.method_step(clock)
        if number == 0:
            clock.parts.clear()  # warm-up
    parts = {}
    for name, seconds in clock.parts.items():
        calls = len(seconds) // rounds
        parts[name] = statistics.median(sum(seconds[i : i + calls]) for i in range(0, len(seconds), calls))
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--preset", default="tiny", choices=sorted(PRESETS))
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--device")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1 if find_device(arguments.device).type == "cpu" else torch.get_num_threads())
    bench = Bench(arguments)
    parts = part_seconds(bench, arguments.rounds)
    whole = parts["method step, all of it"]
    print(f"{bench.device}, {bench.precision}, patch {arguments.patch}^3, batch {arguments.batch}, {arguments.preset}")
    for name, seconds in parts.items():
        print(f"| {name} | {1000 * seconds:.1f} ms | {100 * seconds / whole:.0f} % |")
    print(f"method / fidelity: {whole / parts['fidelity step, all of it']:.2f}")
    planned = replace(
        configuration_of(bench.spec, (arguments.patch,) * 3), batch_size=arguments.batch, encoder=bench.encoder_spec
    )
    predicted = {
        name: StepMemory(GDMTrainer)(PlannedStep(planned, DATASET, bench.precision, encoder))
        for name, encoder in (("fidelity", None), ("method", bench.encoder))
    }
    for name, step in (("fidelity", bench.fidelity_step), ("method", bench.method_step)):
        measured = _peak(bench, step)
        # The loop keeps averaged weights besides, which this bench does not.
        wanted = predicted[name].total - predicted[name].ema
        print(f"| {name} | {measured / 1e6:.1f} MB measured | {wanted / 1e6:.1f} MB predicted | "
              f"{100 * (wanted / measured - 1):+.1f} % |")  # fmt: skip


def _peak(bench: Bench, step) -> float:
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
        step(Clock(bench.device))
        return torch.cuda.max_memory_allocated(bench.device)
    with LiveBytes() as live:
        live.track([list(bench.network.parameters()), list(bench.network.buffers())])
        live.track(list(bench.optimizer.state.values()))
        live.track([bench.condition, bench.target, bench.mask])
        if step == bench.method_step:
            live.track([list(bench.encoder.parameters()), list(bench.encoder.buffers())])
            live.track(list(bench.bank._buffers.values()))
        step(Clock(bench.device))
    return live.peak


if __name__ == "__main__":
    main()
