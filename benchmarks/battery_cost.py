"""Does one grouped network of K random encoders cost less than K encoders one after another?

usage: python benchmarks/battery_cost.py [--battery 4] [--patch 48] [--rounds 7]

The layers that a battery of `mini` reads by default (the level at stride 1, the stages at strides 2 and 4) as
plain convolutions with their activations: once with K groups of channels, once K times. Forward pass and the gradient
of the input, which is all that a frozen encoder needs. Processor time of one thread, by turns, medians; the numbers of
both are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.nn import functional

FINE, WIDTHS = 8, (16, 48)


class Layers:
    """K encoders: weights (K, out, in, kernel ...) of each convolution, in their order, and their strides."""

    def __init__(self, count: int) -> None:
        draws = torch.Generator().manual_seed(0)

        def weight(out: int, into: int, edge: int) -> torch.Tensor:
            scale = (into * edge**3) ** -0.5
            return scale * torch.randn(count, out, into, edge, edge, edge, generator=draws)

        first, second = WIDTHS
        self.count = count
        self.fine = weight(FINE * 8, 8, 3)
        self.stem = weight(first, 1, 2)
        self.stages = [weight(first, first, 3) for _ in range(2)]
        self.down = weight(second, first, 2)
        self.deep = [weight(second, second, 3) for _ in range(2)]

    def maps(self, volume: torch.Tensor, members: range) -> list[torch.Tensor]:
        """Maps of those members, of (B, members, ...) copies of the volume, by convolutions of as many groups."""
        groups = len(members)

        def convolve(values: torch.Tensor, weights: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
            chosen = weights[members.start : members.stop].flatten(0, 1)
            return functional.conv3d(values, chosen, stride=stride, padding=padding, groups=groups)

        blocks = volume.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).unflatten(6, (-1, 2))
        blocks = blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
        found = [convolve(blocks, self.fine, 1, 1)]
        values = convolve(volume, self.stem, 2, 0)
        for weights in self.stages:
            values = values + convolve(functional.silu(values), weights, 1, 1)
        found.append(values)
        values = convolve(functional.silu(values), self.down, 2, 0)
        for weights in self.deep:
            values = values + convolve(functional.silu(values), weights, 1, 1)
        return [*found, values]


def gradient(layers: Layers, volume: torch.Tensor, grouped: bool) -> torch.Tensor:
    """Gradient (B, K, ...) of a sum over all maps at K copies of the volume."""
    copies = volume.expand(-1, layers.count, -1, -1, -1).detach().clone().requires_grad_()
    each = [range(layers.count)] if grouped else [range(k, k + 1) for k in range(layers.count)]
    maps = [one for members in each for one in layers.maps(copies[:, members.start : members.stop], members)]
    (slope,) = torch.autograd.grad(torch.stack([one.square().mean() * one.shape[1] for one in maps]).sum(), copies)
    return slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battery", type=int, default=4)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    volume = torch.randn(2, 1, *[arguments.patch] * 3, generator=torch.Generator().manual_seed(1))
    layers = Layers(arguments.battery)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    slopes = {}
    for number in range(arguments.rounds + 1):
        for grouped, found in seconds.items():
            start = time.process_time()
            slopes[grouped] = gradient(layers, volume, grouped)
            if number:
                found.append(time.process_time() - start)
    error = float((slopes[True] - slopes[False]).abs().max() / slopes[False].abs().max())
    grouped, apart = (statistics.median(seconds[way]) for way in (True, False))
    print(f"battery of {arguments.battery}, patch {arguments.patch}^3, batch 2, float32, one thread")
    print(f"one after another {apart:.3f} s, grouped {grouped:.3f} s: {grouped / apart:.2f} times; "
          f"largest difference {error:.1e} of the largest gradient")  # fmt: skip


if __name__ == "__main__":
    main()
