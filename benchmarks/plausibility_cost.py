"""CPU time of the plausibility step against that of all of preprocessing, in one process with one thread.

    python benchmarks/plausibility_cost.py [VOLUME ...] [--rounds 5]

Each CT in HU (default: a phantom of 160 voxels along each side) is read as condition and target of one case.
Preprocessing is reading, deriving the body, checking, cropping, normalising and resampling to 1.2 times the voxel size,
by the package's own functions; medians over the rounds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from gdmunet.conversion.phantoms import FIELD_OF_VIEW_MM, make_phantom
from gdmunet.dataset import Case, DatasetDescriptor
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_case, write_volume
from gdmunet.plans import STANDARD_HU, Configuration, MemoryFootprint, NetworkSpec
from gdmunet.plausibility.cases import Expectation, check_case
from gdmunet.preprocessing.preprocessor import prepare_case, with_body

DESCRIPTOR = DatasetDescriptor({"0": "CT"}, "CT", ".nii.gz", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", type=Path, nargs="*")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for file in arguments.volumes or [phantom(Path(folder), arguments.size)]:
            rounds = [measure(Case(file.name, (file,), file)) for _ in range(arguments.rounds)]
            check, whole = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{file.name}: check {1000 * check:.0f} ms of {whole:.2f} s CPU, {100 * check / whole:.2f} %")


def measure(case: Case) -> tuple[float, float]:
    """CPU seconds of the check and of all of preprocessing."""
    started = time.process_time()
    volumes = with_body(read_case(case), DESCRIPTOR.channels)
    before = time.process_time()
    check_case(volumes, Expectation(DESCRIPTOR.channels, DESCRIPTOR.target_name), volumes.mask, case)
    check = time.process_time() - before
    prepare_case(volumes, configuration(volumes.geometry), DESCRIPTOR)
    return check, time.process_time() - started


def configuration(geometry: Geometry) -> Configuration:
    """A configuration of 1.2 times the voxel size; its network plays no part."""
    network = NetworkSpec(1, 1, (8, 16), ((1,) * 3, (2,) * 3), ((3,) * 3,) * 2, (1, 1), (1,), "plain", "none")
    return Configuration(
        name="3d_fullres",
        transpose=(0, 1, 2),
        spacing=tuple(1.2 * step for step in geometry.spacing),
        median_shape=geometry.shape,
        patch_size=(64, 64, 64),
        batch_size=2,
        condition_normalization=(STANDARD_HU,),
        target_normalization=STANDARD_HU,
        background=-1024.0,
        order=3,
        network=network,
        predicted_memory=MemoryFootprint(0, 0, 0, 0, 0),
    )


def phantom(folder: Path, size: int) -> Path:
    """The CT of a phantom head in a file."""
    file = folder / "phantom.nii.gz"
    made = make_phantom(0, size)
    write_volume(file, made.ct, Geometry(made.ct.shape, (FIELD_OF_VIEW_MM / size,) * 3))
    return file


if __name__ == "__main__":
    main()
