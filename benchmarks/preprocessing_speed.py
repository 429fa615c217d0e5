"""Fingerprint, plans and preprocessing against nnU-Net: CPU seconds of the whole process tree, and peak memory.

    python benchmarks/preprocessing_speed.py WORK [--cases 8] [--size 160] [--kind mr ct] [--rounds 3]

Both sides read the same generated volumes and prepare 2d and 3d_fullres in two processes with one thread each, by
turns; medians. gdmunet derives the body and prepares condition and target; nnU-Net prepares the condition and a map of
labels (the target in three ranges), and derives nothing. ``--nnunet`` names the folder of its commands, where it is
installed beside another Python. How time grows with cases and voxels: `growth.py`.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
from process_tree import Used, measure
from scipy import ndimage

from gdmunet.conversion.phantoms import FIELD_OF_VIEW_MM, make_phantom
from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume
from gdmunet.serialization import save_json

KINDS = {"mr": ("MR", "CT"), "ct": ("CBCT", "CT")}
NUMBER = 900
# Sizes of neighbouring cases, so that most must be resampled.
VARIED = (1.0, 0.9, 1.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--size", type=int, default=160, help="voxels along a side of the middle case")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nnunet", type=Path, default=Path(sys.executable).parent)
    parser.add_argument("--only", choices=("gdmunet", "nnunet"), help="measure one side")
    arguments = parser.parse_args()
    print("| condition | cases | gdmunet CPU s | nnU-Net CPU s | ratio | gdmunet MB | nnU-Net MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in arguments.kind:
        compare(arguments, kind)


def compare(arguments: argparse.Namespace, kind: str) -> None:
    work = make_data(arguments.work, kind, arguments.cases, arguments.size)
    sides = {"gdmunet": run_gdmunet, "nnunet": lambda work: run_nnunet(work, arguments.nnunet)}
    sides = {name: run for name, run in sides.items() if arguments.only in (None, name)}
    used: dict[str, list[Used]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, run in sides.items():
            used[name].append(run(work))
            print(name, kind, used[name][-1], file=sys.stderr, flush=True)
    cpu = {name: statistics.median(one.cpu_s for one in several) for name, several in used.items()}
    peak = {name: statistics.median(one.peak_mb for one in several) for name, several in used.items()}
    if len(sides) == 2:
        print(
            f"| {kind} | {arguments.cases} of {arguments.size}^3 | {cpu['gdmunet']:.1f} | {cpu['nnunet']:.1f} "
            f"| {cpu['gdmunet'] / cpu['nnunet']:.2f} | {peak['gdmunet']:.0f} | {peak['nnunet']:.0f} |",
            flush=True,
        )


def make_data(work: Path, kind: str, cases: int, size: int) -> Path:
    """A folder that holds the same cases as both sides want them; one that is there is used again."""
    work = work.resolve() / f"{kind}_{cases}_{size}"
    if (work / "made").is_file():
        return work
    shutil.rmtree(work, ignore_errors=True)
    ours, theirs = work / "gdm_raw" / f"Dataset{NUMBER}_Speed", work / "nnUNet_raw" / f"Dataset{NUMBER}_Speed"
    for number in range(cases):
        side = round(size * VARIED[number % len(VARIED)])
        phantom = make_phantom(number, side)
        geometry = Geometry(phantom.ct.shape, (FIELD_OF_VIEW_MM / side,) * 3)
        name = f"case_{number:03d}"
        condition = np.round(phantom.mr).astype(np.int16) if kind == "mr" else worse_ct(phantom.ct, number)
        labels = np.digitize(phantom.ct, (-500, 300)).astype(np.uint8)
        for folder, target in ((ours / "targetsTr", phantom.ct), (theirs / "labelsTr", labels)):
            write_volume(folder / f"{name}.nii.gz", target, geometry)
        for folder in (ours, theirs):
            write_volume(folder / "imagesTr" / f"{name}_0000.nii.gz", condition, geometry)
    save_json(descriptor(kind, cases), ours / DESCRIPTOR_FILE)
    content = {
        "channel_names": {"0": "CT" if kind == "ct" else "MR"},
        "labels": {"background": 0, "soft": 1, "bone": 2},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (theirs / "dataset.json").write_text(json.dumps(content))
    (work / "made").touch()
    return work


def descriptor(kind: str, cases: int) -> DatasetDescriptor:
    condition, target = KINDS[kind]
    return DatasetDescriptor({"0": condition}, target, ".nii.gz", cases, name="Speed")


def worse_ct(ct: np.ndarray, seed: int) -> np.ndarray:
    """A CBCT-like image: blurred, shifted and noisy, int16."""
    noise = np.random.default_rng(seed).normal(0, 40, ct.shape)
    return np.round(ndimage.gaussian_filter(ct.astype(np.float32), 1) - 30 + noise).clip(-1024, 3071).astype(np.int16)


def run_gdmunet(work: Path) -> Used:
    shutil.rmtree(work / "gdm_preprocessed", ignore_errors=True)
    folders = {f"GDM_{part.upper()}": str(work / f"gdm_{part}") for part in ("raw", "preprocessed", "results")}
    call = "from gdmunet.cli.plan_and_preprocess import main; raise SystemExit(main())"
    command = [sys.executable, "-c", call, "-d", str(NUMBER), "-np", "2",
               "-c", "2d", "3d_fullres", "--no_pbar", "-device", "cpu"]  # fmt: skip
    return measure(command, {**folders, "OMP_NUM_THREADS": "1"})


def run_nnunet(work: Path, commands: Path) -> Used:
    shutil.rmtree(work / "nnUNet_preprocessed", ignore_errors=True)
    folders = {f"nnUNet_{part}": str(work / f"nnUNet_{part}") for part in ("raw", "preprocessed", "results")}
    command = [str(commands / "nnUNetv2_plan_and_preprocess"), "-d", str(NUMBER), "-npfp", "2", "-np", "2", "2",
               "-c", "2d", "3d_fullres", "--no_pbar"]  # fmt: skip
    return measure(command, {**folders, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
