"""Write the data sets of documentation/benchmarks.md from a folder of public volumes.

usage: python benchmarks/make_datasets.py DATA RAW [--only svct mr2ct mr2mr phantoms]

DATA holds ``ct/*.nii.gz``, ``pairs/mr_to_ct`` and ``pairs/mr_to_mr`` as documentation/benchmarks.md lists them.

* Dataset511_SparseCT: 36-view filtered back-projection to CT; train on abdomen, heart and cranium, test on lung.
* Dataset512_PseudoMRCT: T1 to CT. One person's CT warped onto four T1 heads: it shows that real MR runs end to end, and
  says nothing about generalisation, since all four share one skull. Train on three heads, test on one.
* Dataset513_StrokeContrasts: T1 and T2 to FLAIR of one person's brain, cut into slabs; every third slab is held out.
  Neighbouring slabs are alike, so this shows contrast translation within a person, no more.
* Dataset514_Phantoms: T1 to CT of 40 generated heads, 32 to train and 8 to test.
"""

import argparse
from pathlib import Path

import numpy as np

from gdmunet.conversion.held_out import SplitOptions
from gdmunet.conversion.phantoms import make_phantom
from gdmunet.conversion.sparse_view_dataset import SparseViewOptions, make_sparse_view_dataset
from gdmunet.dataset import DatasetDescriptor
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, read_mask, read_volume, write_volume
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import save_json

ENDING = ".nii.gz"
SLAB = 12  # slices


class Writer:
    """Lays out one data set and counts its training cases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.training = folder, 0

    def add(self, name: str, conditions: list[np.ndarray], target: np.ndarray, mask: np.ndarray | None,
            geometry: Geometry, test: bool) -> None:  # fmt: skip
        split = "Ts" if test else "Tr"
        self.training += not test
        for i, array in enumerate(conditions):
            write_volume(self.folder / f"images{split}" / f"{name}_{i:04d}{ENDING}", array, geometry)
        write_volume(self.folder / f"targets{split}" / f"{name}{ENDING}", target, geometry)
        if mask is not None:
            write_volume(self.folder / f"masks{split}" / f"{name}{ENDING}", mask, geometry)

    def finish(self, channels: list[str], target: str, mask: bool) -> None:
        names = {str(i): channel for i, channel in enumerate(channels)}
        name = self.folder.name.split("_", 1)[1]
        save_json(DatasetDescriptor(names, target, ENDING, self.training, name, mask), self.folder / "dataset.json")
        print(f"{self.folder}: {self.training} training cases")


def sparse_view(data: Path, raw: Path) -> None:
    cts = {name: data / "ct" / f"{name}{ENDING}" for name in ("abdomen", "heart", "cranium", "lung")}
    options = SparseViewOptions(convex_body=True, split=SplitOptions(("lung",)))
    make_sparse_view_dataset(raw, 511, "SparseCT", cts, ScanSpec(views=36), options)


def pseudo_pairs(data: Path, raw: Path) -> None:
    writer = Writer(raw / "Dataset512_PseudoMRCT")
    for name in ("colin27", "mni152head", "otsu", "chris"):
        mr, ct = (read_volume(data / "pairs/mr_to_ct" / f"{name}_{kind}{ENDING}") for kind in ("mr", "ct"))
        mask = read_mask(data / "pairs/mr_to_ct" / f"{name}_fov{ENDING}")
        writer.add(name, [mr.array], ct.array.astype(np.int16), mask.array, mr.geometry, name == "chris")
    writer.finish(["MR"], "CT", mask=True)


def contrasts(data: Path, raw: Path) -> None:
    writer = Writer(raw / "Dataset513_StrokeContrasts")
    volumes = [read_volume(data / "pairs/mr_to_mr" / f"stroke_{kind}{ENDING}") for kind in ("T1", "T2", "FLAIR")]
    for index, start in enumerate(range(0, volumes[0].geometry.shape[0] - SLAB + 1, SLAB)):
        t1, t2, flair = (slab(volume, start) for volume in volumes)
        if (flair.array > 0).mean() < 0.05:
            continue  # above or below the brain
        writer.add(f"slab_{index:02d}", [t1.array, t2.array], flair.array, None, t1.geometry, index % 3 == 1)
    writer.finish(["T1", "T2"], "FLAIR", mask=False)


def slab(volume: Volume, start: int) -> Volume:
    array = volume.array[start : start + SLAB]
    origin = volume.geometry.to_world(np.array([start, 0, 0]))
    geometry = Geometry(array.shape, volume.geometry.spacing, tuple(origin), volume.geometry.direction)
    return Volume(array, geometry)


def phantoms(_data: Path, raw: Path) -> None:
    writer = Writer(raw / "Dataset514_Phantoms")
    for seed in range(40):
        phantom = make_phantom(seed, 48)
        geometry = Geometry(phantom.ct.shape, (180 / 48,) * 3)
        writer.add(f"head_{seed:03d}", [phantom.mr], phantom.ct, phantom.mask, geometry, seed >= 32)
    writer.finish(["T1"], "CT", mask=True)


MAKERS = {"svct": sparse_view, "mr2ct": pseudo_pairs, "mr2mr": contrasts, "phantoms": phantoms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument("--only", nargs="+", choices=MAKERS, default=list(MAKERS))
    arguments = parser.parse_args()
    for name in arguments.only:
        MAKERS[name](arguments.data, arguments.raw)


if __name__ == "__main__":
    main()
