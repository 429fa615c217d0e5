"""Toy convergence of the drift loss: small one-step generators trained by drift alone, and which options matter.

    python benchmarks/drift_toy.py documentation/pictures          # six minutes of processor time
    python benchmarks/drift_toy.py documentation/pictures --seeds 1 --iterations 200

Two targets. *Eight Gaussians* on a circle: noise of 4 dimensions to points of 2. *Fork*: a condition t in [-1, 1] has
two equally likely answers, +-(0.4 + |t|), so that regression can only answer 0; the drift compares pairs (condition,
answer), and its gradient reaches the answer alone. Generators start from a Gaussian of unit width, or collapsed: all
samples nearly at one point. Prints Markdown tables, writes drift_toy_*.png.

MMD is the unbiased estimate of the squared maximum mean discrepancy, mean over four Gaussian kernels, 1500 samples a
side that training never saw. Seconds are processor time of the training.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import nn

from gdmunet.training.drift.loss import drift_loss

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GENERATED, POSITIVES, HELD_OUT = 128, 128, 1500
PAPER_FLOOR = 1e-6  # the authors'; rows that say nothing of the floor have it
ANGLES = torch.arange(8) * (np.pi / 4)
MODES = 2.0 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
WIDTH = 0.15
SNAPSHOTS = (0, 30, 100, 400)


class Gaussians:
    """Eight Gaussians of standard deviation 0.15 on a circle of radius 2; no condition."""

    name, conditions, answers = "eight Gaussians", 0, 2

    def sample(self, count: int, random: torch.Generator) -> torch.Tensor:
        """(count, 2)."""
        which = torch.randint(8, (count,), generator=random)
        return MODES[which] + WIDTH * torch.randn(count, 2, generator=random)

    def covered(self, samples: torch.Tensor) -> float:
        """Share of the modes that hold at least half of their due."""
        return float((self.near(samples).sum(0) >= len(samples) / 16).float().mean())

    def astray(self, samples: torch.Tensor) -> float:
        """Share of the samples further than three standard deviations from every mode (target: 0.01)."""
        return float((~self.near(samples).any(1)).float().mean())

    def near(self, samples: torch.Tensor) -> torch.Tensor:
        return torch.cdist(samples, MODES) < 3 * WIDTH


class Fork:
    """Pairs (t, answer): two branches with noise of standard deviation 0.1."""

    name, conditions, answers = "fork", 1, 1

    def sample(self, count: int, random: torch.Generator) -> torch.Tensor:
        """(count, 2)."""
        t = 2 * torch.rand(count, 1, generator=random) - 1
        sign = 2.0 * torch.randint(2, (count, 1), generator=random) - 1
        return torch.cat([t, sign * (0.4 + t.abs()) + 0.1 * torch.randn(count, 1, generator=random)], dim=1)

    def covered(self, samples: torch.Tensor) -> float:
        """Share of ten ranges of the condition in which each branch gets at least a quarter of the answers."""
        place = ((samples[:, 0] + 1) * 5).long().clamp(0, 9)
        branch = torch.where(self.near(samples), samples[:, 1].sign(), 0)
        shares = [[(branch[place == i] == sign).float().mean() for sign in (-1, 1)] for i in range(10)]
        return float(np.mean([min(pair) >= 0.25 for pair in shares]))

    def astray(self, samples: torch.Tensor) -> float:
        """Share of the answers further than three standard deviations from both branches (target: 0.003)."""
        return float((~self.near(samples)).float().mean())

    def near(self, samples: torch.Tensor) -> torch.Tensor:
        return (samples[:, 1].abs() - 0.4 - samples[:, 0].abs()).abs() < 0.3


Target = Gaussians | Fork


class Generator(nn.Module):
    """Noise of 4 dimensions and the condition to the answer, in one pass; `spread`: noise plus what is learned."""

    def __init__(self, target: Target, spread: bool, width: int = 96) -> None:
        super().__init__()
        self.conditions, self.spread, self.answers = target.conditions, spread, target.answers
        sizes = (4 + target.conditions, width, width, width, target.answers)
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(before, after)] + [nn.SiLU()] * (i < len(sizes) - 2)
        self.layers = nn.Sequential(*layers)

    def forward(self, like: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Pairs (condition, answer) with the conditions of `like`."""
        conditions = like[:, : self.conditions]
        noise = torch.randn(len(like), 4, generator=random)
        answers = self.layers(torch.cat([noise, conditions], dim=1))
        return torch.cat([conditions, answers + noise[:, : self.answers] * self.spread], dim=1)


@dataclass
class Run:
    """What one training gave; MMD before and after, samples at some iterations."""

    before: float = 0.0
    after: float = 0.0
    covered: float = 0.0
    astray: float = 0.0
    seconds: float = 0.0
    values: list[float] = field(default_factory=list)
    pictures: dict[int, torch.Tensor] = field(default_factory=dict)


def squared_mmd(x: torch.Tensor, y: torch.Tensor) -> float:
    def mean(a: torch.Tensor, b: torch.Tensor, alike: bool) -> float:
        squares = torch.cdist(a, b).square()
        kernel = sum(torch.exp(squares * (-0.5 / width**2)).sum() for width in (0.1, 0.3, 1.0, 3.0)) / 4
        return float(kernel - len(a) * alike) / (len(a) * (len(b) - alike))

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def drift(generated: torch.Tensor, real: torch.Tensor, options: dict[str, Any], state: dict[str, Any]) -> torch.Tensor:
    options = {"temperatures": (0.02, 0.05, 0.2), "affinity_floor": PAPER_FLOOR} | options
    loss, found = drift_loss(generated[None], real[None], force_average=state.get("average"), **options)
    if options.get("normalisation") == "ema":
        state["average"] = found.force_average
    return loss.mean()


def regression(generated: torch.Tensor, real: torch.Tensor, _options: dict[str, Any], _state: Any) -> torch.Tensor:
    """L1 to the paired answer: what the drift is there to mend."""
    return (generated - real[: len(generated)]).abs().mean()


def train(
    target: Target,
    options: dict[str, Any],
    seed: int,
    iterations: int,
    loss_of: Callable[..., torch.Tensor] = drift,
    spread: bool = True,
) -> Run:
    torch.manual_seed(seed)
    network, random = Generator(target, spread), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    held_out = target.sample(HELD_OUT, torch.Generator().manual_seed(10_000))
    run, state = Run(), dict[str, Any]()

    def test() -> torch.Tensor:
        with torch.no_grad():
            return network(held_out, torch.Generator().manual_seed(20_000))

    run.before = squared_mmd(test(), held_out)
    start = time.process_time()
    for iteration in range(iterations):
        if iteration in SNAPSHOTS:
            run.pictures[iteration] = test()
        real = target.sample(POSITIVES, random)
        # The generated answers belong to the conditions of the first positives.
        loss = loss_of(network(real[:GENERATED], random), real, options, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.values.append(float(loss.detach()))
    run.seconds = time.process_time() - start
    run.pictures[iterations] = test()
    samples = run.pictures[iterations]
    run.after, run.covered, run.astray = squared_mmd(samples, held_out), target.covered(samples), target.astray(samples)
    return run


VARIANTS: dict[str, dict[str, Any]] = {
    "official": {},
    "field sharp": {"field": "sharp"},
    "field logkde": {"field": "logkde"},
    "field score": {"field": "score"},
    "field sinkhorn, 3 iterations": {"field": "sinkhorn"},
    "field mmd": {"field": "mmd"},
    "kernel gaussian": {"kernel": "gaussian"},
    "floor 0 (default)": {"affinity_floor": 0.0},
    "floor 1e-4": {"affinity_floor": 1e-4},
    "temperature 0.02": {"temperatures": (0.02,)},
    "temperature 0.2": {"temperatures": (0.2,)},
    "normalisation floored at 0.1": {"normalisation": "floored", "force_floor": 0.1},
    "self pairs not masked": {"mask_self": False},
}

COLLAPSED = ("official", "floor 0 (default)", "field logkde")
FORKED = ("official", "floor 0 (default)", "field sharp", "field logkde")


def tabulate(target: Target, variants: Sequence[str], arguments: Any, spread: bool = True) -> dict[str, list[Run]]:
    start = "" if spread else ", collapsed start"
    print(f"\n{target.name}{start}, {arguments.iterations} iterations, {arguments.seeds} seeds: mean (worst)\n")
    print("| drift | MMD before | MMD after | falls | modes covered | astray | s |\n|" + " --- |" * 7)
    every = {}
    for name in variants:
        options, seeds = VARIANTS[name], range(arguments.seeds)
        runs = [train(target, options, seed, arguments.iterations, spread=spread) for seed in seeds]
        before, after = np.mean([run.before for run in runs]), [max(run.after, 1e-5) for run in runs]
        worst = min(run.before / value for run, value in zip(runs, after, strict=True))
        covered, astray = [run.covered for run in runs], [run.astray for run in runs]
        cells = [
            name,
            f"{before:.3f}",
            f"{np.mean(after):.5f} ({max(after):.5f})",
            f"{before / np.mean(after):.0f} ({worst:.0f}) x",
            f"{np.mean(covered):.0%} ({min(covered):.0%})",
            f"{np.mean(astray):.1%} ({max(astray):.1%})",
            f"{np.mean([run.seconds for run in runs]):.1f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        every[name] = runs
    return every


def scatter(axes: Any, samples: torch.Tensor, title: str, colour: str, limit: tuple[float, float]) -> None:
    axes.scatter(samples[:800, 0], samples[:800, 1], s=1.2, c=colour, linewidths=0)
    axes.set(title=title, xticks=[], yticks=[], xlim=(-limit[0], limit[0]), ylim=(-limit[1], limit[1]))
    axes.title.set_fontsize(9)


def draw(file: Path, panels: Sequence[tuple[torch.Tensor, str, str]], columns: int, limit: tuple[float, float]) -> None:
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(2.0 * columns, 2.15 * rows), dpi=100, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        scatter(axes, *panel, limit)
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)


def real_samples(target: Target) -> tuple[torch.Tensor, str, str]:
    return target.sample(HELD_OUT, torch.Generator().manual_seed(10_000)), "target", "tab:gray"


def gaussians_case(arguments: Any) -> None:
    target, made = Gaussians(), "tab:blue"
    runs = tabulate(target, list(VARIANTS), arguments)
    collapsed = tabulate(target, COLLAPSED, arguments, spread=False)
    panels = [
        (samples, f"{name}, iteration {step}", made)
        for name in ("official", "floor 0 (default)", "field logkde")
        for step, samples in runs[name][0].pictures.items()
    ]
    limit = (3.0, 3.0)
    draw(arguments.pictures / "drift_toy_gaussians.png", panels, len(panels) // 3, limit)
    last = arguments.iterations
    panels = [(found[0].pictures[last], name.replace(", ", "\n"), made) for name, found in runs.items()]
    panels += [(found[0].pictures[last], f"collapsed start\n{name}", "tab:red") for name, found in collapsed.items()]
    panels.append(real_samples(target))
    draw(arguments.pictures / "drift_toy_options.png", panels, 6, limit)


def fork_case(arguments: Any) -> None:
    target, made, last = Fork(), "tab:blue", arguments.iterations
    runs = tabulate(target, FORKED, arguments)
    plain = train(target, {}, 0, last, regression)
    print(f"\nfork, L1 regression: MMD {plain.before:.3f} to {plain.after:.4f}, branches covered {plain.covered:.0%}")
    panels = [real_samples(target), (plain.pictures[last], "L1 regression", "tab:orange")]
    panels += [(runs[name][0].pictures[last], f"drift, {name}", made) for name in FORKED]
    draw(arguments.pictures / "drift_toy_fork.png", panels, 6, (1.1, 1.9))
    for name in ("official", "field logkde"):
        values = runs[name][0].values
        print(f"loss of {name}: {values[0]:.2f} at first, {np.mean(values[-20:]):.3f} over the last 20 iterations")


def main() -> None:
    parser = argparse.ArgumentParser(description="Toy convergence of the drift loss.")
    parser.add_argument("pictures", type=Path, help="folder for drift_toy_*.png")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=1200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start, clock = time.process_time(), time.perf_counter()
    for target in (Gaussians(), Fork()):
        sets = [target.sample(HELD_OUT, torch.Generator().manual_seed(10_000 + i)) for i in range(2)]
        noise, astray = squared_mmd(*sets), target.astray(sets[0])
        print(f"{target.name}: MMD between two sets of the target {noise:.5f}, astray {astray:.1%}")
    gaussians_case(arguments)
    fork_case(arguments)
    print(f"{time.process_time() - start:.0f} s of processor time, {time.perf_counter() - clock:.0f} s")


if __name__ == "__main__":
    main()
