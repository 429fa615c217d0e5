"""What bfloat16 costs in HU: the whole network's error, and the part that the output layer makes.

    python benchmarks/output_rounding.py

Networks of the presets `tiny` and `plain` with random weights and an output of +-2 network units at 500 HU each, as
bone and air have them. Errors are means against the same network in float32 (whole network) and against a float64
product of the same features (output layer). "Before" rounds the output to bfloat16, as the layer within autocast did.
"""

from __future__ import annotations

import torch
from torch import nn

from gdmunet.networks import build_network
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology

HU = 500.0
EDGE = 32


def main() -> None:
    """Print one row for each network."""
    print("| network | whole network before / after (HU) | output layer before / after (HU) | largest before (HU) |")
    print("|---|---|---|---|")
    for preset in ("tiny", "plain"):
        for residual in (None, 0):
            print(row(preset, residual), flush=True)


@torch.no_grad()
def row(preset: str, residual: int | None) -> str:
    """Errors of one network on noise."""
    torch.manual_seed(0)
    topology = plan_topology((1.0,) * 3, (EDGE,) * 3, PRESETS[preset].max_poolings)  # type: ignore[index]
    network = build_network(PRESETS[preset].network(topology, 1, residual)).eval()  # type: ignore[index]
    head, seen = network.unet.decoder.seg_layers[-1], []
    nn.init.normal_(head.weight)
    condition = 0.5 * torch.randn(1, 1, EDGE, EDGE, EDGE)
    base = 0 if residual is None else condition
    change = network(condition) - base
    head.weight.mul_(2 / change.std())
    exact = network(condition)
    head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16):
        after = network(condition)
    product = torch.einsum("oc,bczyx->bozyx", head.weight.flatten(1).double(), seen[0].double())
    product = product + head.bias.double()
    before = product.bfloat16().float() + base
    parts = (product.bfloat16().double() - product).abs(), ((after - base).double() - product).abs()
    name = f"{preset}, {'no residual channel' if residual is None else 'residual channel'}"
    whole = HU * (before - exact).abs().mean(), HU * (after - exact).abs().mean()
    return (
        f"| {name} | {whole[0]:.2f} / {whole[1]:.2f} | {HU * parts[0].mean():.2f} / {HU * parts[1].mean():.4f} | "
        f"{HU * parts[0].max():.1f} |"
    )


if __name__ == "__main__":
    main()
