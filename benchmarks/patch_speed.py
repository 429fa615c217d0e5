"""CPU seconds for a training patch: gdmunet's loader, nnU-Net's and MONAI's, by turns in one process of one thread.

    OMP_NUM_THREADS=1 python benchmarks/patch_speed.py WORK [--side 96] [--rounds 5] [--batches 40]

Volumes are generated (WORK keeps them): 2 channels, condition and target, and a body. nnU-Net's volume has one channel
and a segmentation, MONAI's has all three. Each loader has its own defaults of training, and gdmunet its stronger ones
(for MR). nnU-Net reads from its own store, MONAI from memory. A peer that is not installed is left out.

Measured is what one process does for a batch of two, from the files on to what it would send through a pipe, and for
gdmunet the packing for the pipe. "for a GPU" is gdmunet's reading process alone; the device does the rest, which is
timed with the reading as "reading and the rest". `--device cuda` times that rest on a GPU.
"""

import argparse
import pickle
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from gdmunet.geometry import Geometry
from gdmunet.hounsfield import HU_AIR, HU_RANGE
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.normalization import IntensityMap
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase
from gdmunet.training.patches.augmentation import Augmentation
from gdmunet.training.patches.crops import Crops
from gdmunet.training.patches.intensity import mr_intensity
from gdmunet.training.patches.source import PatchSource
from gdmunet.training.patches.stream import PatchLoader

SHAPE = (150, 210, 210)
CASES = ("a", "b", "c")
BATCH = 2
GPU = torch.device("cuda")


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Condition and target in network units, and the body: smooth organs, an air border and noise."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.zoom(rng.normal(size=[size // 10 for size in SHAPE]).astype(np.float32), 10, order=1)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE], indexing="ij"))
    body = (grid**2).sum(axis=0) < 0.9
    condition = np.where(body, smooth + 0.1 * rng.normal(size=SHAPE), -1.5).astype(np.float32)
    hounsfield = np.round(np.where(body, 60 * smooth + 12 * rng.normal(size=SHAPE), -1000))
    return condition, (hounsfield / 500).astype(np.float32), body


def ours(work: Path, side: int) -> PatchSource:
    """The patches of the generated cases."""
    window = (side, side, side)
    store = CaseStore(work / f"gdmunet_{side}", "gdmPlans", "3d_fullres")
    for seed, name in enumerate(CASES):
        if name not in store.identifiers():
            condition, target, body = make_case(seed)
            box = tuple((0, size) for size in SHAPE)
            ct, mr = IntensityMap(*HU_RANGE, 0.0, 500.0), IntensityMap(-100.0, 1000.0, 0.0, 60.0)
            spacing = (1.0, 1.0, 1.0)
            properties = CaseProperties(
                name, Geometry(SHAPE, spacing), box, SHAPE, SHAPE, spacing, (mr,), ct, "given"
            )  # fmt: skip
            store.write(PreparedCase(condition[None], target[None], body, properties), window)
    return PatchSource(store, CASES, window, 3, HU_AIR, body_share=0.8, seed=1)


def nnunet(work: Path, side: int) -> Callable[[], object]:
    """A batch of nnU-Net's loader with the transforms of its trainer for isotropic patches."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    folder = work / f"nnunet_{side}"
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(CASES):
        if not (folder / f"{name}.pkl").is_file():
            condition, _, body = make_case(seed)
            places = np.argwhere(body)[:: max(1, int(body.sum()) // 10_000)]
            locations = {1: np.insert(places, 0, 0, axis=1)}
            blocks, chunks = comp_blosc2_params((1, *SHAPE), (side,) * 3)
            nnUNetDatasetBlosc2.save_case(
                condition[None], body[None].astype(np.int8), {"class_locations": locations}, str(folder / name),
                chunks=chunks, blocks=blocks,
            )  # fmt: skip
    angle, patch = (-np.pi / 6, np.pi / 6), np.array((side,) * 3)
    transforms = nnUNetTrainer.get_training_transforms(patch, angle, None, (0, 1, 2), False, use_mask_for_norm=[False])
    read = get_patch_size(patch, angle, angle, angle, (0.85, 1.25))
    labels = LabelManager({"background": 0, "body": 1}, None)
    dataset = nnUNetDatasetBlosc2(str(folder), list(CASES))
    loader = nnUNetDataLoader(dataset, BATCH, read, patch, labels, 0.33, None, None, transforms=transforms)
    return lambda: next(loader)


def monai(_work: Path, side: int) -> Callable[[], object]:
    """A batch of MONAI's usual transforms for such a task, from volumes in memory."""
    from monai import transforms as t
    from monai.data.utils import list_data_collate

    keys, image = ("condition", "target", "mask"), "condition"
    turn = 15 / 180 * np.pi
    chain = t.Compose(
        [
            t.RandCropByPosNegLabeld(keys, label_key="mask", spatial_size=(side,) * 3, pos=4, neg=1, num_samples=1),
            t.RandAffined(
                keys, prob=0.2, rotate_range=(turn,) * 3, scale_range=(0.2,) * 3, padding_mode="border",
                mode=("bilinear", "bilinear", "nearest"), spatial_size=(side,) * 3, cache_grid=True,
            ),
            *(t.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
            t.RandGaussianNoised(image, prob=0.1, std=0.05),
            t.RandGaussianSmoothd(image, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.1),
            t.RandScaleIntensityd(image, 0.2, prob=0.15),
            t.RandAdjustContrastd(image, prob=0.2, gamma=(0.8, 1.25), retain_stats=True),
            t.ToTensord(keys),
        ]
    )  # fmt: skip
    volumes = [dict(zip(keys, (torch.from_numpy(a)[None].float() for a in make_case(seed)), strict=True))
               for seed in range(len(CASES))]  # fmt: skip
    rng = np.random.default_rng(0)
    return lambda: list_data_collate([chain(volumes[rng.integers(len(volumes))])[0] for _ in range(BATCH)])


def sides(work: Path, side: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """The work of one batch for each loader."""
    source, augmentation = ours(work, side), Augmentation(intensity=mr_intensity())
    moved, still = (replace(augmentation, spatial_probability=share) for share in (1.0, 0.0))
    made = {
        name: PatchLoader(source, options, BATCH, 0, device=target)
        for name, options, target in (
            ("gdmunet, for a GPU", augmentation, GPU), ("gdmunet, for a CPU", augmentation, torch.device("cpu")),
            ("gdmunet, as it is", still, torch.device("cpu")), ("gdmunet, all rotated", moved, torch.device("cpu")),
            ("gdmunet, read for rotation", moved, GPU), ("crops", augmentation, GPU),
        )
    }  # fmt: skip
    crops = made.pop("crops")

    def rest() -> None:
        Crops.from_message(next(crops)).to(device).finish(augmentation)
        if device.type == "cuda":
            torch.cuda.synchronize()

    work_of: dict[str, Callable[[], object]] = {
        name: lambda loader=loader: pickle.dumps(next(loader), protocol=pickle.HIGHEST_PROTOCOL)
        for name, loader in made.items()
    }
    work_of[f"gdmunet, reading and the rest ({device.type})"] = rest
    for name, peer in (("nnU-Net", nnunet), ("MONAI", monai)):
        try:
            work_of[name] = peer(work, side)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return work_of


def pipe(side: int) -> None:
    """What volumes of a patch cost on their way through a pipe, and what a smaller type would lose."""
    hounsfield = np.random.default_rng(0).uniform(*HU_RANGE, (2, side, side, side)).astype(np.float32)
    values = hounsfield / np.float32(500)

    def codes(array: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32]:
        low = array.min()
        step = (array.max() - low) / np.float32(65535)
        return np.rint((array - low) * (1 / step) - 32768).astype(np.int16), low, step

    ways = {
        "float32": (lambda array: array, lambda sent: sent),
        "float16": (lambda array: array.astype(np.float16), lambda sent: sent.astype(np.float32)),
        "int16 between lowest and highest": (codes, lambda sent: (sent[0] + np.float32(32768)) * sent[2] + sent[1]),
    }
    print("\n| sent as | ms to encode | ms to pickle and unpickle | largest error HU |\n|---|---|---|---|")
    for name, (encode, decode) in ways.items():
        times = []
        for _ in range(9):
            started = time.process_time()
            sent = encode(values)
            encoded = time.process_time()
            received = pickle.loads(pickle.dumps(sent))
            times.append((encoded - started, time.process_time() - encoded))
        encoding, sending = (1e3 * statistics.median(part) for part in zip(*times, strict=True))
        error = 500 * np.abs(decode(received) - values).max()
        print(f"| {name} | {encoding:.1f} | {sending:.1f} | {error:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="per round and side")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="loaders whose name has one of these words")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, list[float]] = {}
    with torch.no_grad():
        work_of = sides(arguments.work, arguments.side, torch.device(arguments.device))
        if arguments.only:
            work_of = {name: work for name, work in work_of.items() if any(word in name for word in arguments.only)}
        for _ in range(arguments.rounds):
            for name, work in work_of.items():
                work()
                started = time.process_time()
                for _ in range(arguments.batches):
                    work()
                taken = (time.process_time() - started) / arguments.batches / BATCH
                seconds.setdefault(name, []).append(taken)
    print(f"patch {arguments.side}^3, medians of {arguments.rounds} rounds of {arguments.batches} batches of {BATCH}\n")
    print("| loader | CPU seconds per patch | patches per second and core |\n|---|---|---|")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(f"| {name} | {middle:.4f} ({min(taken):.4f}-{max(taken):.4f}) | {1 / middle:.1f} |")
    pipe(arguments.side)


if __name__ == "__main__":
    main()
