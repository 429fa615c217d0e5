"""Part 5: a large volume window by window: its time over the network's own, and what bfloat16 costs in HU."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from gdmunet.device import mixed_precision
from gdmunet.inference.sliding_window import predict_volume
from gdmunet.inference.window_options import WindowCount, WindowOptions
from gdmunet.networks import Generator, build_network
from gpu_parts.setting import Setting
from gpu_parts.steps import planned

HU = 500.0
"""A network unit, about as bone and air have it."""
BATCH = 2


def run(setting: Setting) -> None:
    """A row for each precision, and one for their difference."""
    edge, window = setting.pick(512, 32), setting.pick(128, 16)
    volume = smooth_volume(edge, setting.device)
    network = network_of(setting, window)
    found: dict[str, np.ndarray] = {}
    for precision in ("bfloat16", "float32"):
        setting.attempt(precision, lambda p=precision: measure(setting, network, volume, (window, p, found)))
    if len(found) == 2:
        apart = np.abs(found["bfloat16"] - found["float32"])
        setting.row("bfloat16 against float32", mean_hu=HU * float(apart.mean()), largest_hu=HU * float(apart.max()))


def smooth_volume(edge: int, device: torch.device) -> np.ndarray:
    """Noise of a few voxels' width (1, z, y, x), of unit size."""
    coarse = torch.randn(1, 1, *(edge // 8,) * 3, generator=torch.Generator().manual_seed(0)).to(device)
    fine = nn.functional.interpolate(coarse, size=(edge,) * 3, mode="trilinear")[0]
    return (fine / fine.std()).cpu().numpy()


@torch.no_grad()
def network_of(setting: Setting, window: int) -> Generator:
    """The network of the preset with random weights, whose output is as large as a CT's changes are."""
    torch.manual_seed(0)
    network = build_network(planned("tiny" if setting.dry else "plain", window).network).eval().to(setting.device)
    head = network.unet.decoder.seg_layers[-1]
    nn.init.normal_(head.weight)
    sample = torch.randn(1, 1, *(min(window, 64),) * 3, device=setting.device)
    head.weight.mul_(2 / (network(sample) - sample).std())
    return network


def measure(
    setting: Setting, network: Generator, volume: np.ndarray, run: tuple[int, str, dict[str, np.ndarray]]
) -> dict[str, object]:
    """Seconds of the volume, of its windows alone, and the share of the time in which the network works."""
    window, precision, found = run
    options = WindowOptions(device=setting.device, batch_size=BATCH, precision=precision)  # type: ignore[arg-type]
    counts: list[WindowCount] = []
    corner = volume[:, : 2 * window, : 2 * window, : 2 * window]
    predict_volume(network, corner, (window,) * 3, options)  # warm-up: algorithms are chosen once
    setting.restart_peak()
    setting.wait()
    started = time.perf_counter()
    found[precision] = predict_volume(network, volume, (window,) * 3, options, progress=counts.append)
    setting.wait()
    seconds = time.perf_counter() - started
    own = counts[-1].predicted * pass_seconds(setting, network, window, precision) / BATCH
    return {
        "edge": volume.shape[-1], "window": window, "windows": counts[-1].predicted, "seconds": seconds,
        "network_seconds": own, "over_network": seconds / own, "busy_share": own / seconds, **setting.peak_mb(),
    }  # fmt: skip


def pass_seconds(setting: Setting, network: Generator, window: int, precision: str) -> float:
    """Seconds of one pass of as many windows as prediction takes together."""
    batch = torch.randn(BATCH, 1, *(window,) * 3, device=setting.device)
    with torch.inference_mode(), mixed_precision(setting.device, precision):  # type: ignore[arg-type]
        before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        try:
            return setting.seconds(lambda: network(batch), setting.pick(10, 2))
        finally:
            torch.backends.cudnn.benchmark = before
