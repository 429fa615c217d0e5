"""Windows of a volume: against nnU-Net and MONAI, and against the network alone.

usage: python benchmarks/prediction_speed.py [free] [network] [fast] [--size 256] [--window 128] [--rounds 5]

free
    The same windows of a volume (half overlapping) through a network that costs nothing, the identity, in nnU-Net's
    predictor, MONAI's `sliding_window_inference` and `predict_volume`, by turns; medians of CPU seconds. (MONAI's
    weighting changes the output of the network in place, and so with the identity its input; its time is the same.)
network
    `predict_volume` with a U-Net of four stages against the same passes alone, by turns.
fast
    CPU seconds and seam score of ``--fast`` against one pass of the network over the whole volume, in windows that a
    quarter of the volume's memory would hold.

One thread. Needs nnunetv2 and monai in the same environment for `free`.
"""

import argparse
import statistics
import time
import types
from collections.abc import Callable

import numpy as np
import torch

from gdmunet.inference import fast_windows
from gdmunet.inference.sliding_window import predict_volume
from gdmunet.inference.window_options import WindowOptions
from gdmunet.inference.windows import plan_windows
from gdmunet.metrics.seams import seam_score
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network


def volume(size: int) -> np.ndarray:
    """(1, z, y, x): smooth structures and noise."""
    axis = np.linspace(0, 6, size, dtype=np.float32)
    smooth = np.sin(axis)[:, None, None] + np.cos(2 * axis)[None, :, None] + np.sin(axis)[None, None, :]
    noise = np.random.default_rng(0).standard_normal((size,) * 3, dtype=np.float32)
    return (smooth + 0.3 * noise).astype(np.float32)[None]


def identity(batch: torch.Tensor) -> torch.Tensor:
    return batch


def medians(
    sides: dict[str, Callable[[], object]], rounds: int, before: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """CPU seconds of each side, by turns, `before` not counted; the first turn only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            before()
            started = time.process_time()
            side()
            if turn:
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_free(size: int, window: int, rounds: int) -> None:
    from monai.inferers import sliding_window_inference
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    condition, shape = volume(size), (window,) * 3
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.network = torch.nn.Identity()
    predictor.configuration_manager = types.SimpleNamespace(patch_size=list(shape))
    predictor.label_manager = types.SimpleNamespace(num_segmentation_heads=1)
    predictor.allowed_mirroring_axes = None
    changed = torch.empty(1, 1, size, size, size)

    def fresh() -> None:
        changed[0] = torch.from_numpy(condition)

    def monai() -> None:
        with torch.inference_mode():
            sliding_window_inference(changed, shape, 1, identity, 0.5, mode="gaussian")

    sides = {
        "gdmunet": lambda: predict_volume(identity, condition, shape),
        "nnU-Net": lambda: predictor.predict_sliding_window_return_logits(torch.from_numpy(condition)),
        "MONAI": monai,
    }
    found = medians(sides, rounds, fresh)
    ratios = ", ".join(f"{found['gdmunet'] / found[name]:.2f} of {name}'s" for name in ("nnU-Net", "MONAI"))
    print(f"free network, {size}^3, windows of {window}^3: {found['gdmunet']:.3f} CPU s, {ratios}", flush=True)


def unet() -> torch.nn.Module:
    torch.manual_seed(0)
    strides = ((1,) * 3, *((2,) * 3,) * 3)
    spec = NetworkSpec(1, 1, (16, 32, 64, 128), strides, ((3,) * 3,) * 4, (2,) * 4, (2,) * 3, "plain", "none")
    return build_network(spec).eval()


def measure_network(size: int, window: int, rounds: int) -> None:
    network, condition = unet(), volume(size)
    count = plan_windows((size,) * 3, (window,) * 3, 0.5).count
    batch = torch.from_numpy(condition[:, :window, :window, :window].copy())[None]

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(count):
                network(batch)

    sides = {"whole": lambda: predict_volume(network, condition, (window,) * 3), "alone": alone}
    found = medians(sides, rounds)
    more = 100 * (found["whole"] / found["alone"] - 1)
    seconds = f"{found['whole']:.1f} CPU s, {more:+.1f} % over the passes alone"
    print(f"real network, {size}^3, {count} windows of {window}^3: {seconds}", flush=True)


def measure_fast(size: int, rounds: int) -> None:
    network, condition = unet(), volume(size)
    configuration = types.SimpleNamespace(
        window_size=(32, 32, 32), dimensions=3, network=types.SimpleNamespace(strides=((1,) * 3, *((2,) * 3,) * 3))
    )
    window = fast_windows._largest_window((size,) * 3, configuration, size**3 // 4)
    options = WindowOptions(step_size=fast_windows.FAST_STEP)

    def fast() -> None:
        results["fast"] = predict_volume(network, condition, window, options)

    def whole() -> None:
        with torch.inference_mode():
            results["whole"] = network(torch.from_numpy(condition)[None])[0, 0].numpy()

    results: dict[str, np.ndarray] = {}
    sides = {"fast": fast, "whole": whole}
    found = medians(sides, rounds)
    grid = plan_windows((size,) * 3, window, options.step_size)
    borders = tuple(
        tuple(sorted({b for s in starts for b in (s, s + n) if 0 < b < size}))
        for starts, n in zip(grid.starts, grid.window, strict=True)
    )
    scores = {name: seam_score(array, borders, np.ones((size,) * 3, bool)) for name, array in results.items()}
    print(
        f"--fast, {size}^3 in {grid.count} windows of {window}: {found['fast']:.1f} CPU s, "
        f"{found['fast'] / found['whole']:.2f} of a whole pass, "
        f"seam score {scores['fast']:.3f} (the whole pass at the same planes: {scores['whole']:.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["free", "network", "fast"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "free" in arguments.parts:
        measure_free(arguments.size, arguments.window, arguments.rounds)
    if "network" in arguments.parts:
        measure_network(arguments.size // 2, arguments.window // 2, arguments.rounds)
    if "fast" in arguments.parts:
        measure_fast(arguments.size // 2, arguments.rounds)


if __name__ == "__main__":
    main()
