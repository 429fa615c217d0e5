"""Peak memory of predicting one large volume, in volumes' worth of float32.

Each measurement runs in a process of its own (the high-water mark of memory only ever grows). A trivial network stands
in, so that what is counted is the sliding window and the pipeline around it, not a network's activations.

    python benchmarks/prediction_memory.py --size 512 --window 128
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from gdmunet.device_memory import peak_memory_mb

STAGES = ("predict_volume", "predict_cases")


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    return round(1e6 * peak_memory_mb(torch.device("cpu")))


def identity(batch: torch.Tensor) -> torch.Tensor:
    return batch[:, :1]


def make_volume(size: int) -> np.ndarray:
    """A CT-like ramp with noise, float32, made row by row so that nothing larger than it is ever allocated."""
    volume = np.empty((size, size, size), dtype=np.float32)
    random = np.random.default_rng(0)
    for z in range(size):
        volume[z] = random.integers(-1000, 1000, (size, size))
    return volume


def measure_volume(size: int, window: int) -> tuple[float, float]:
    """Peak bytes above the baseline (condition included) and seconds of `predict_volume` alone."""
    from gdmunet.inference.sliding_window import predict_volume

    predict_volume(identity, np.zeros((1, 8, 8, 8), np.float32), (4, 4, 4))
    before = psutil.Process().memory_info().rss
    started = time.monotonic()
    condition = make_volume(size)[None]
    prediction = predict_volume(identity, condition, (window,) * 3)
    seconds = time.monotonic() - started
    if np.abs(prediction[:: max(1, size // 8)] - condition[0, :: max(1, size // 8)]).max() > 0.01:
        raise SystemExit("the identity did not return its input")
    return peak_bytes() - before, seconds


def measure_folder(size: int, window: int, folder: Path) -> tuple[float, float]:
    """Peak bytes above the baseline and seconds of `predict_cases`: read, prepare, predict, restore, write."""
    from gdmunet.dataset import DatasetDescriptor
    from gdmunet.geometry import Geometry
    from gdmunet.imageio import write_volume
    from gdmunet.inference import Predictor
    from gdmunet.inference.cases.files import FileCases
    from gdmunet.inference.folder import predict_cases
    from gdmunet.inference.options import PredictionOptions
    from gdmunet.network_spec import NetworkSpec
    from gdmunet.plans import Configuration, MemoryFootprint, NormalizationSpec

    spacing = (1.0, 1.0, 1.0)
    ct = NormalizationSpec("affine", (-1024.0, 3071.0), 0.0, 500.0)
    network = NetworkSpec(1, 1, (1,), ((1,) * 3,), ((3,) * 3,), (1,), (), "plain", "none")
    configuration = Configuration(
        "3d_fullres", (0, 1, 2), spacing, (size,) * 3, (window,) * 3, 2, (ct,), ct, -1024.0, 3, network,
        MemoryFootprint(0, 0, 0, 0, 0),
    )  # fmt: skip
    predictor = Predictor([identity], configuration, DatasetDescriptor({"0": "CT"}, "CT", ".nii", 1))

    def run(name: str, volume: np.ndarray) -> None:
        grid = Geometry(volume.shape, spacing)
        write_volume(folder / name / "images" / "case_0000.nii", volume, grid)
        write_volume(folder / name / "masks" / "case.nii", np.ones(volume.shape, bool), grid)

    def predict(name: str) -> None:
        cases = FileCases(folder / name / "images", predictor.descriptor, folder / name / "masks")
        options = PredictionOptions(preprocess_workers=0, export_workers=0, show_progress=False)
        predict_cases(cases, folder / name / "out", predictor, options)

    run("small", make_volume(16))
    predict("small")
    # Written by another process, so that what it needed is not this one's memory.
    if subprocess.run([sys.executable, __file__, "--write", str(folder / "large"), "--size", str(size)]).returncode:
        raise SystemExit("the volume could not be written")
    before = psutil.Process().memory_info().rss
    started = time.monotonic()
    predict("large")
    return peak_bytes() - before, time.monotonic() - started


def write_large(folder: Path, size: int) -> None:
    import SimpleITK as sitk

    for name, array in (
        ("images/case_0000.nii", make_volume(size)),
        ("masks/case.nii", np.ones((size,) * 3, np.uint8)),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="voxels a side")
    parser.add_argument("--window", type=int, default=128, help="voxels a side")
    parser.add_argument("--stage", choices=STAGES, help="measure this one in this process")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.write:
        write_large(arguments.write, arguments.size)
        return
    if arguments.stage is None:
        for stage in STAGES:
            command = [sys.executable, __file__, "--size", str(arguments.size), "--window", str(arguments.window)]
            subprocess.run([*command, "--stage", stage], check=True)
        return
    if arguments.stage == "predict_volume":
        peak, seconds = measure_volume(arguments.size, arguments.window)
    else:
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds = measure_folder(arguments.size, arguments.window, Path(folder))
    volume = 4 * arguments.size**3
    print(
        f"{arguments.stage}: {arguments.size}^3 float32, window {arguments.window}^3, peak {peak / volume:.2f} volumes "
        f"(condition and output included; {peak / 1e9:.2f} GB), {peak_bytes() / 1e9:.2f} GB with all libraries, "
        f"{seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
