"""What does a force buy for its price? Fields of the drift on textures that blur, in a minute or two.

usage: python benchmarks/transport_toy.py [--seeds 3] [--steps 300] [--more 150]

Slices of 32 x 32: smooth shapes with a grain whose strength depends on the tissue. The condition is the slice after a
blur that takes the grain away, so that regression can only give its mean. A small network is trained by L1; from there
each arm goes on by L1 and its own force, coordinated by the constant weight (``calibrated``), over local means and
deviations of a random encoder's features at strides 1 and 2. Scored on new slices: MAE, and the Frechet distance in
another random encoder. The price ratio is ((1 + dMAE)^2 - 1) / t^2, t = 1 - sqrt(FD / FD of L1): on the way from the
most accurate to the most plausible estimator it is constant and at most 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gdmunet.evaluation.distributions.distances import frechet_distance
from gdmunet.training.coordination.coordinator import Coordinator, output_gradient
from gdmunet.training.drift.loss import drift_loss
from gdmunet.training.drift.moving_transport import MomentOptions, MovingTransport
from gdmunet.training.drift.statistics import paired_losses
from gdmunet.training.drift.tokens import TokenSet

SIZE, BATCH, WINDOWS = 32, 8, (4, 8)
Tokens = Mapping[str, torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]


def slices(count: int, random: torch.Generator) -> Pair:
    """Conditions and targets (count, 1, 32, 32)."""
    rough = torch.randn(count, 1, SIZE, SIZE, generator=random)
    shape = 6 * smoothed(rough, 4.0)
    grain = smoothed(torch.randn(count, 1, SIZE, SIZE, generator=random), 0.7)
    target = shape.tanh() + (0.25 + 0.75 * (shape > 0)) * 0.5 * grain
    return smoothed(target, 1.5) + 0.01 * torch.randn(target.shape, generator=random), target


def smoothed(images: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma + 1)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = line / line.sum()
    padded = functional.pad(images, [reach] * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))


class Encoder(nn.Module):
    """Random filters at strides 1 and 2."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.fine = nn.Conv2d(1, 12, 5, padding=2)
        self.coarse = nn.Sequential(
            nn.SiLU(), nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(24, 24, 3, padding=1)
        )
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.fine(images)
        return {"fine": fine, "coarse": self.coarse(fine)}

    def tokens(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Local means and deviations, (S, C) by set."""
        found = {}
        for level, values in self(images).items():
            for window in WINDOWS:
                mean = functional.avg_pool2d(values, window)
                variance = functional.avg_pool2d(values.square(), window) - mean.square()
                for name, part in (("mean", mean), ("std", (variance.clamp(min=0) + 1e-6).sqrt())):
                    found[f"{level}/local{window}_{name}"] = part.transpose(0, 1).flatten(1).T
        return found


def generator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, padding=2), nn.SiLU(), nn.Conv2d(24, 24, 5, padding=2), nn.SiLU(),
        nn.Conv2d(24, 24, 5, padding=2), nn.SiLU(), nn.Conv2d(24, 1, 5, padding=2),
    )  # fmt: skip


class KernelForce:
    """The first version: one step of the official field, twins masked."""

    def prepare(self, draw: Callable[[], tuple[Tokens, Tokens]]) -> None:
        del draw

    def __call__(self, generated: Tokens, real: Tokens, step: int) -> list[torch.Tensor]:
        losses = []
        for key, x in generated.items():
            chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(step))[:256]
            loss, _ = drift_loss(x[chosen][None], real[key][chosen][None], mask_twins=True)
            losses.append(loss.mean())
        return [torch.stack(losses).mean()]


class TransportForce:
    """Gaussian optimal transport between running moments."""

    def prepare(self, draw: Callable[[], tuple[Tokens, Tokens]]) -> None:
        sets = [TokenSet(key, tokens.shape[1], len(tokens)) for key, tokens in draw()[0].items()]
        self.moving = MovingTransport(sets, MomentOptions(), torch.device("cpu"))
        for _ in range(self.moving.options.batches):
            self._add(*draw())

    def __call__(self, generated: Tokens, real: Tokens, step: int) -> list[torch.Tensor]:
        del step
        self.moving.renew()
        losses = self.moving.losses(generated)
        self._add(generated, real)
        return [torch.stack(list(losses.values())).mean()]

    def _add(self, generated: Tokens, real: Tokens) -> None:
        self.moving.moments.add(generated, real, {key: len(tokens) for key, tokens in real.items()})


class PairedForce(KernelForce):
    """Each local statistic against that of its own target."""

    def __call__(self, generated: Tokens, real: Tokens, step: int) -> list[torch.Tensor]:
        del step
        losses = paired_losses(generated, real, {key: len(tokens) for key, tokens in real.items()})
        return [torch.stack(list(losses.values())).mean()]


class BothForces(TransportForce):
    """Transport and paired statistics, an objective each."""

    def __call__(self, generated: Tokens, real: Tokens, step: int) -> list[torch.Tensor]:
        return [*super().__call__(generated, real, step), *PairedForce()(generated, real, step)]


ARMS: dict[str, type[KernelForce] | type[TransportForce] | None] = {
    "L1 alone": None,
    "kernel field (official)": KernelForce,
    "transport": TransportForce,
    "paired statistics": PairedForce,
    "transport and paired statistics": BothForces,
}


def train(network: nn.Module, steps: int, seed: int, arm: str, encoder: Encoder) -> None:
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    kind, coordinator = ARMS[arm], Coordinator("calibrated", "none")

    @torch.no_grad()
    def draw() -> tuple[Tokens, Tokens]:
        condition, target = slices(BATCH, random)
        return encoder.tokens(network(condition)), encoder.tokens(target)

    force = kind() if kind else None
    if force:
        force.prepare(draw)
    for step in range(steps):
        condition, target = slices(BATCH, random)
        output = network(condition)
        gradients = [output_gradient((output - target).abs().mean(), output, keep_graph=True)]
        if force:
            terms = force(encoder.tokens(output), encoder.tokens(target), step)
            gradients += [output_gradient(term, output, keep_graph=True) for term in terms]
        optimizer.zero_grad()
        output.backward(gradient=coordinator.combine(gradients).direction)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def scores(network: nn.Module, judge: Encoder) -> tuple[float, float]:
    """MAE, and the mean Frechet distance over the judge's levels, on 64 slices that training never saw."""
    condition, target = slices(64, torch.Generator().manual_seed(99_999))
    output = network(condition)
    maps = zip(judge(output).values(), judge(target).values(), strict=True)
    rows = [[part.transpose(0, 1).flatten(1).T.numpy() for part in pair] for pair in maps]
    return float((output - target).abs().mean()), float(np.mean([frechet_distance(*pair) for pair in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="steps by L1 alone")
    parser.add_argument("--more", type=int, default=150, help="steps of every arm after them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start, found = time.process_time(), {arm: [] for arm in ARMS}
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        first, encoder, judge = generator(), Encoder(100 + seed), Encoder(200 + seed)
        train(first, arguments.steps, seed, "L1 alone", encoder)
        for arm in ARMS:
            network = generator()
            network.load_state_dict(first.state_dict())
            train(network, arguments.more, 1000 + seed, arm, encoder)
            found[arm].append(scores(network, judge))
    print("| arm | MAE | Frechet distance (unseen encoder) | price ratio |\n| --- | --- | --- | --- |")
    for arm, rows in found.items():
        pairs = list(zip(rows, found["L1 alone"], strict=True))
        errors = [a / b - 1 for (a, _), (b, _) in pairs]
        distances = [a / b - 1 for (_, a), (_, b) in pairs]
        ratios = [((1 + error) ** 2 - 1) / max(1e-9, 1 - (1 + distance) ** 0.5) ** 2 if distance < 0 else float("inf")
                  for error, distance in zip(errors, distances, strict=True)]  # fmt: skip
        cells = [f"{100 * statistics.mean(errors):+.1f} %", f"{100 * statistics.mean(distances):+.0f} %"]
        cells.append("" if arm == "L1 alone" else f"{statistics.median(ratios):.2f}")
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
