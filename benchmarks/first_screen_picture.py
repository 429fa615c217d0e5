"""The picture of README's first screen, from the folder of a demonstration: condition, prediction, target, error.

    gdm_demo --out DEMO && python benchmarks/first_screen_picture.py DEMO documentation/pictures/first_screen.png

The volume is the packaged lung (test files of elastix, Apache-2.0, see gdmunet/demo/volumes/NOTICE).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from gdmunet.dataset_names import RawFolders
from gdmunet.imageio import Volume, read_volume

ENDING, WINDOW, LARGEST_ERROR = ".nii.gz", (-1000, 400), 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of gdm_demo")
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    (dataset,) = (arguments.demo / "raw").glob("Dataset*")
    (prediction,) = (arguments.demo / "predictions").glob(f"*{ENDING}")
    name, raw = prediction.name.removesuffix(ENDING), RawFolders(dataset, "Ts")
    volumes = {
        "36 views (condition)": read_volume(raw.image(name, ENDING)),
        "prediction": read_volume(prediction),
        "all views (target)": read_volume(raw.target(name, ENDING)),
    }
    panels = {title: slice_of(volume) for title, volume in volumes.items()}
    error = panels["prediction"] - panels["all views (target)"]
    body = slice_of(read_volume(raw.mask(name, ENDING))) > 0
    figure, axes = plt.subplots(1, 4, figsize=(10, 3.4), facecolor="black")
    for axis, (title, image) in zip(axes, panels.items(), strict=False):
        axis.imshow(image, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1])
        axis.set_title(title, color="white", fontsize=10)
    axes[3].imshow(np.where(body, error, 0), cmap="RdBu_r", vmin=-LARGEST_ERROR, vmax=LARGEST_ERROR)
    axes[3].set_title(f"error, ±{LARGEST_ERROR} HU: mean {np.abs(error[body]).mean():.0f}", color="white", fontsize=10)
    for axis in axes:
        axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 0.9, 0.01, 0)
    figure.savefig(arguments.picture, dpi=100)
    print(f"{name}: {arguments.picture}")


def slice_of(volume: Volume) -> np.ndarray:
    """A coronal slice through the middle, head up."""
    array = volume.array[:, volume.array.shape[1] // 2]
    return np.asarray(array[::-1], dtype=float)


if __name__ == "__main__":
    main()
