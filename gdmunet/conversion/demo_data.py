"""The data set of ``gdm_demo``: few-view CT to full-view CT of the three small CT volumes inside the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from skimage.morphology import convex_hull_image

from gdmunet.conversion.sparse_view import sparse_view_volume
from gdmunet.dataset import DatasetDescriptor
from gdmunet.imageio import Volume, read_volume, write_volume
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.progress import Progress
from gdmunet.serialization import save_json

VIEWS = 36
TRAINING = ("abdomen", "heart")
HELD_OUT = ("lung",)


def read_demo_volume(name: str) -> Volume:
    """One of the volumes inside the package (``abdomen``, ``heart``, ``lung``), in HU."""
    with as_file(files("gdmunet") / "demo" / "volumes" / f"{name}.nii.gz") as path:
        return read_volume(path, name)


def make_sparse_view_demo(raw_folder: Path, *, threads: int = 2, show_progress: bool = True) -> Path:
    """Write ``Dataset501_Demo``: train on abdomen and heart, hold out the lung.

    Condition: filtered back-projection of 36 parallel views over 180 degrees. Target: the CT itself. Mask: the body
    as it shows in the CT, not in the streaky condition, because it is the region in which the score is taken.
    """
    folder = Path(raw_folder) / "Dataset501_Demo"
    volumes = {name: read_demo_volume(name) for name in TRAINING + HELD_OUT}
    slices = sum(len(volume.array) for volume in volumes.values())
    with Progress(f"back-projection of {VIEWS} views", slices, show_progress) as progress:
        for name, volume in volumes.items():
            split = "Ts" if name in HELD_OUT else "Tr"
            condition = sparse_view_volume(volume.array, VIEWS, threads, progress.step)
            mask = body_of_crop(volume)
            write_volume(folder / f"images{split}" / f"{name}_0000.nii.gz", _integers(condition), volume.geometry)
            write_volume(folder / f"targets{split}" / f"{name}.nii.gz", _integers(volume.array), volume.geometry)
            write_volume(folder / f"masks{split}" / f"{name}.nii.gz", mask, volume.geometry)
    save_json(_descriptor(), folder / "dataset.json")
    return folder


def body_of_crop(volume: Volume) -> np.ndarray:
    """Body (bool) of a CT whose field of view cuts the patient.

    Lungs that a face of the volume opens are not enclosed by tissue, so the body is the convex hull, in every axial
    slice, of what can be told to be body.
    """
    derived = derive_body_mask(volume.array[None], ("CT",), volume.geometry.spacing)
    return np.stack([convex_hull_image(part) if part.any() else part for part in derived])


def _integers(hu: np.ndarray) -> np.ndarray:
    return np.rint(hu).astype(np.int16)


def _descriptor() -> DatasetDescriptor:
    return DatasetDescriptor(
        channel_names={"0": "CT"},
        target_name="CT",
        file_ending=".nii.gz",
        numTraining=len(TRAINING),
        name="Demo",
        mask=True,
        info={
            "condition": f"filtered back-projection (ramp filter) of {VIEWS} parallel views over 180 degrees, "
            "slice by slice, clipped to [-1024, 3071] HU",
            "mask": "body derived from the target",
            "sources": "see gdmunet/demo/volumes/NOTICE",
        },
    )
