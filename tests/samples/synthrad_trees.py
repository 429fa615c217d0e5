"""The archives of SynthRAD2025 and SynthRAD2023 with tiny volumes, as they lie on disk once unpacked."""

from pathlib import Path

import numpy as np

from gdmunet.geometry import Geometry
from gdmunet.imageio import write_volume

SHAPE = (12, 14, 16)
GRID = Geometry(SHAPE, (3.0, 1.0, 1.0), (0.0, -20.0, 30.0))


def write_case(folder: Path, roles: tuple[str, ...], ending: str = ".mha") -> None:
    """Volumes that differ from case to case: a body of soft tissue with bone and air, MR or CBCT beside it."""
    random = np.random.default_rng(sum(map(ord, folder.name)))
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    body = z**2 * 0.5 + y**2 + x**2 < 0.8
    bone = (y - random.uniform(-0.3, 0.3)) ** 2 + x**2 < 0.05
    air = (y - 0.5) ** 2 + (x - random.uniform(-0.3, 0.3)) ** 2 < 0.03
    ct = np.where(body, np.where(bone, 600, np.where(air, -900, 40)), -1000) + random.integers(-20, 20, SHAPE)
    volumes = {
        "ct": ct,
        "ct_def": ct + 1,
        "mr": np.where(body, np.where(bone, 40, np.where(air, 5, 200)), 0) + random.integers(0, 9, SHAPE),
        "cbct": ct + random.integers(-60, 60, SHAPE),
        "mask": body.astype(np.uint8),
    }
    for role in roles:
        array = volumes[role]
        write_volume(folder / f"{role}{ending}", array if role == "mask" else array.astype(np.int16), GRID)


def write_overviews(folder: Path, names: list[str], table: str, ending: str) -> None:
    folder.mkdir(parents=True)
    (folder / table).write_bytes(b"PK\x03\x04 a table")
    for name in names:
        (folder / f"{name}_{ending}.png").write_bytes(b"\x89PNG")


def training_2025(root: Path, task: int = 1, names: tuple[str, ...] = ("1ABA005", "1ABB010", "1HNA001", "1THB011")):
    """``synthRAD2025_TaskN_Train``; the names' first digit is replaced by the task."""
    condition = {1: "mr", 2: "cbct"}[task]
    names = tuple(f"{task}{name[1:]}" for name in names)
    archive = root / f"synthRAD2025_Task{task}_Train" / f"Task{task}"
    for name in names:
        write_case(archive / name[1:3] / name, (condition, "ct", "mask"))
    for region in sorted({name[1:3] for name in names}):
        members = [name for name in names if name[1:3] == region]
        write_overviews(archive / region / "overviews", members, f"{task}_{region}_train_parameters.xlsx", "overview")
    return archive


def validation_2025(root: Path, names: tuple[str, ...] = ("1ABA002", "1HNC007")):
    """``synthRAD2025_Task1_Val_Input``: no CT."""
    archive = root / "synthRAD2025_Task1_Val_Input" / "Task1"
    for name in names:
        write_case(archive / name[1:3] / name, ("mr", "mask"))
        write_overviews(archive / name[1:3] / "overviews", [name], f"1_{name[1:3]}_val_parameters.xlsx", "overview")
    return archive


def training_2023(root: Path, task: int = 1):
    """``Task1/brain/1BA001`` and so on, with overviews, compressed NIfTI."""
    condition = {1: "mr", 2: "cbct"}[task]
    for region, names in (("brain", ["1BA001", "1BC004"]), ("pelvis", ["1PA001", "1PC018"])):
        names = [f"{task}{name[1:]}" for name in names]
        for name in names:
            write_case(root / f"Task{task}" / region / name, (condition, "ct", "mask"), ".nii.gz")
        folder = root / f"Task{task}" / region / "overview"
        write_overviews(folder, names, f"{task}_{region}_train.xlsx", "train")
    return root / f"Task{task}"
