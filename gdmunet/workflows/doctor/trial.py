"""A few training steps of a planned network: does the machine compute, and how long would a training take?"""

from __future__ import annotations

import time

import torch
from torch.nn import functional

from gdmunet.device import default_precision, find_device, mixed_precision
from gdmunet.errors import GdmError
from gdmunet.networks import build_network
from gdmunet.plan_names import PresetName
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology
from gdmunet.workflows.doctor.finding import Finding

_AREA = "trial"
_SECONDS = 5.0
_BATCH = 2
_DAY = 86400


def trial_finding(device_name: str | None, iterations: int, seconds: float = _SECONDS) -> Finding:
    """Steps of forward, backward and update for a few seconds: preset plain on a GPU, tiny on a CPU.

    Parameters
    ----------
    iterations
        Steps of a whole training, whose length is estimated.
    """
    try:
        device = find_device(device_name)
        preset: PresetName = "plain" if device.type == "cuda" else "tiny"
        edge = 128 if device.type == "cuda" else 48
        step_s, losses = _steps(device, preset, edge, seconds)
    except (RuntimeError, GdmError) as error:
        first = str(error).strip().splitlines()[0]
        return Finding(_AREA, "training step", f"fails: {first}", "bad", "see the findings above, then PyTorch's text")
    text = f"preset {preset}, {_BATCH} patches of {edge}^3 on {device}: {step_s:.2f} s"
    days = iterations * step_s / _DAY
    text += f"; {iterations:,} of them: " + (f"{24 * days:.0f} hours" if days < 2 else f"{days:.0f} days")
    if not all(loss == loss and abs(loss) < float("inf") for loss in losses) or losses[-1] >= losses[0]:
        shown = f"{losses[0]:.3g} to {losses[-1]:.3g}"
        return Finding(
            _AREA, "training step", f"{text}; the loss went from {shown}", "bad", "the device computes wrongly"
        )
    if days > 7:
        return Finding(_AREA, "training step", text, "note", "plan for a time that suits: --hours")
    return Finding(_AREA, "training step", text)


def _steps(device: torch.device, preset: PresetName, edge: int, seconds: float) -> tuple[float, list[float]]:
    """Seconds of a step after the first, and the loss of each: a network learns one batch by heart."""
    kind = PRESETS[preset]
    topology = plan_topology((1.0,) * 3, (edge,) * 3, kind.max_poolings)
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn((_BATCH, 1, *topology.patch_size), generator=generator).to(device)
    target = functional.avg_pool3d(condition, 3, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(kind.network(topology, 1, None)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses: list[float] = []
    ended = started = time.monotonic()
    while len(losses) < 3 or ended - started < seconds:
        with mixed_precision(device, default_precision(device)):
            prediction = network(condition)
        loss = functional.l1_loss(prediction.float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        ended = time.monotonic()
        if len(losses) == 1:
            started = ended
    return (ended - started) / (len(losses) - 1), losses
