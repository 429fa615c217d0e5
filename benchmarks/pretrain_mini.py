"""Train `mini`, the encoder inside the package, from plain NIfTI files. The same seed gives the same weights on a CPU.

usage: pretrain_mini.py DATA OUT [--part fine] [--dimensions 2] [--iterations N] [--seed 0]

DATA holds ct/{abdomen,heart,lung}.nii.gz and pairs/mr_to_mr/*.nii.gz; phantoms and random shapes are made on the way.
Ctrl-C stops it; the same command goes on. OUT/encoder.safetensors becomes gdmunet/encoders/weights/mini_Xd.safetensors,
with --part fine (the level at stride 1, which shares no weight with the others) mini_fine_Xd.safetensors.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, zoom

from gdmunet.conversion.phantoms import make_phantom
from gdmunet.encoders.mini import squash
from gdmunet.encoders.pretraining import Pretraining
from gdmunet.encoders.pretraining_options import PretrainingOptions
from gdmunet.encoders.views import random_window
from gdmunet.imageio import read_volume
from gdmunet.seeds import step_seed

CT = ("ct/abdomen.nii.gz", "ct/heart.nii.gz", "ct/lung.nii.gz")
MR = (
    *(f"pairs/mr_to_mr/stroke_{name}.nii.gz" for name in ("T1", "T2", "FLAIR")),
    *(f"pairs/mr_to_mr/glioma_{name}.nii.gz" for name in ("t1", "t1c", "t2", "flair")),
)
# Chance of a window to come from CT, from MR, from phantoms; the rest are random shapes.
SHARES = (0.42, 0.28, 0.12)


def ct_input(hu: np.ndarray) -> torch.Tensor:
    return squash(torch.from_numpy(np.asarray(hu, np.float32)) / 250)


def mr_input(values: np.ndarray) -> torch.Tensor:
    body = values[values > 0.1 * np.percentile(values, 99)]
    return squash(2 * torch.from_numpy((values - body.mean()) / body.std()).float())


def read_mr(path: Path) -> np.ndarray:
    volume = read_volume(path)
    spacing = volume.geometry.spacing
    # Thick slices are brought to at most three times the in-plane size: nothing to learn in stripes.
    factors = [max(1.0, s / (3 * min(spacing))) for s in spacing]
    return zoom(volume.array, factors, order=1) if max(factors) > 1 else volume.array


def random_shapes(rng: np.random.Generator, size: int) -> torch.Tensor:
    """Smooth random fields cut at levels, each region with a value, a texture and a noise of its own."""
    image = np.full((size,) * 3, rng.uniform(-1, 0.5), np.float32)
    for _ in range(rng.integers(3, 9)):
        field = gaussian_filter(rng.normal(size=(size,) * 3).astype(np.float32), rng.uniform(1.5, 8), mode="wrap")
        where = field > np.quantile(field, rng.uniform(0.5, 0.95))
        texture = gaussian_filter(rng.normal(size=image.shape).astype(np.float32), rng.uniform(0.4, 2))
        image[where] = rng.uniform(-1, 1.3) + rng.uniform(0, 0.15) * texture[where] / texture.std()
    return torch.from_numpy(gaussian_filter(image, rng.uniform(0.3, 0.9)))


class Windows:
    """Windows of an iteration, always the same ones for the same number."""

    def __init__(self, data: Path, settings: PretrainingOptions) -> None:
        self.settings = settings
        self.ct = [ct_input(read_volume(data / name).array) for name in CT]
        self.mr = [mr_input(read_mr(data / name)) for name in MR]
        heads = [make_phantom(900_000 + k, 96, contrast) for k, contrast in enumerate(("T1", "T2", "PD") * 2)]
        self.phantoms = [ct_input(head.ct) for head in heads] + [mr_input(head.mr) for head in heads]
        self.shapes = [random_shapes(np.random.default_rng(700_000 + k), 96) for k in range(24)]

    def __call__(self, iteration: int) -> torch.Tensor:
        return torch.stack([self.window(iteration, place) for place in range(self.settings.batch_size)])

    def window(self, iteration: int, place: int) -> torch.Tensor:
        settings = self.settings
        generator = torch.Generator().manual_seed(step_seed(settings.seed, iteration, place))
        drawn, groups = float(torch.rand((), generator=generator)), (self.ct, self.mr, self.phantoms, self.shapes)
        group = groups[int(np.searchsorted(np.cumsum(SHARES), drawn))]
        volume = group[int(torch.randint(0, len(group), (), generator=generator))]
        limits = (0.6, 1.4)
        if settings.dimensions == 2:
            axis = int(torch.randint(0, 5, (), generator=generator)) - 2  # axial three times in five
            axis = max(axis, 0)
            low, high = volume.shape[axis] // 10, volume.shape[axis] * 9 // 10
            volume = volume.select(axis, int(torch.randint(low, high, (), generator=generator)))
        return random_window(volume, settings.window, generator, limits, air=float(volume.min()))


def settings_of(part: str, dimensions: int, iterations: int | None, seed: int) -> PretrainingOptions:
    """The numbers of one of the two trainings that make `mini`.

    Filters over 5 voxels need no large crops, and a thousand weights bear a higher rate.
    """
    flat = dimensions == 2
    common = {"dimensions": dimensions, "warmup": 40, "ema_decay": 0.99, "seed": seed}
    if part == "fine":
        return PretrainingOptions(
            iterations=iterations or 600,
            crop=64 if flat else 32,
            shift=16,
            batch_size=12 if flat else 4,
            masked_windows=1,
            blurred_windows=4 if flat else 1,
            learning_rate=3e-3,
            part="fine",
            **common,
        )
    return PretrainingOptions(
        iterations=iterations or (400 if flat else 1200),
        crop=96 if flat else 48,
        batch_size=12 if flat else 3,
        masked_windows=4 if flat else 1,
        blurred_windows=4 if flat else 1,
        fine=0,
        **common,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=3)
    parser.add_argument("--part", choices=("trunk", "fine"), default="trunk")
    parser.add_argument("--iterations", type=int, help="default: 1200 in 3D, 400 in 2D; fine: 600")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = settings_of(arguments.part, arguments.dimensions, arguments.iterations, arguments.seed)
    recipe = {"script": "benchmarks/pretrain_mini.py", "data": [*CT, *MR, "phantoms", "random shapes"]}
    training = Pretraining(settings, Windows(arguments.data, settings), arguments.out, recipe=recipe)
    started = time.monotonic()

    def report(iteration: int, losses: dict[str, float]) -> None:
        if iteration % 20 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"{iteration}/{settings.iterations} {time.monotonic() - started:.0f} s {numbers}", flush=True)

    training.run(report=report)


if __name__ == "__main__":
    main()
