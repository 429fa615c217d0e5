"""Seconds of one drift, and how much of its affinity is floor, by the size of the sets (Gaussian features).

usage: python benchmarks/drift_cost.py [--repeats 25]
"""

import argparse
import time

import torch

from gdmunet.training.drift.loss import drift_loss

SIZES = ((64, 128, 64), (256, 512, 64), (512, 1024, 64), (512, 1024, 256), (1024, 2048, 64), (1024, 2048, 256))
TEMPERATURES = (0.02, 0.05, 0.2)
FLOOR = 1e-6  # the authors'


def seconds(generated: torch.Tensor, real: torch.Tensor, repeats: int) -> tuple[float, float]:
    """Forward, and forward with backward: the best of `repeats`."""
    best = [float("inf")] * 2
    for _ in range(repeats):
        query = generated[None].clone().requires_grad_()
        started = time.perf_counter()
        loss, _ = drift_loss(query, real[None], temperatures=TEMPERATURES, affinity_floor=FLOOR)
        forward = time.perf_counter() - started
        loss.sum().backward()
        best = [min(a, b) for a, b in zip(best, (forward, time.perf_counter() - started), strict=True)]
    return best[0], best[1]


def floor_share(generated: torch.Tensor, real: torch.Tensor, temperature: float) -> float:
    """Part of the affinities' sum that stands at the floor; generated tokens do not meet themselves."""
    distances = torch.cdist(generated, torch.cat([generated, real]))
    itself = torch.eye(len(generated), len(distances[0]), dtype=torch.bool)
    scaled = distances / distances[~itself].mean() / temperature
    logits = -scaled.masked_fill(itself, float("inf"))
    product = logits.softmax(1) * logits.softmax(0)
    affinity = product.clamp(min=FLOOR).sqrt()[~itself]
    return float(affinity[product[~itself] <= FLOOR].sum() / affinity.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(
        "| generated + real | D | forward ms | with backward ms | floor at 0.02 | 0.05 | 0.2 |\n" + "| --- " * 7 + "|"
    )
    for queries, targets, width in SIZES:
        generated, real = torch.randn(queries, width), torch.randn(targets, width)
        times = " | ".join(f"{1000 * one:.1f}" for one in seconds(generated, real, repeats))
        shares = " | ".join(f"{100 * floor_share(generated, real, t):.0f} %" for t in TEMPERATURES)
        print(f"| {queries} + {targets} | {width} | {times} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
