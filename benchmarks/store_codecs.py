"""Codecs of the case store: size, and speed of packing and of reading whole, on one core.

    python benchmarks/store_codecs.py DATA

DATA holds ``ct/cranium.nii.gz`` (see documentation/benchmarks.md). Volumes: a CT on its own grid, whose float32 values
are few, the same resampled, a phantom's MR, and its body mask. The best of three runs.
"""

import argparse
import time
from pathlib import Path

import blosc2
import numpy as np

from gdmunet.conversion.phantoms import make_phantom
from gdmunet.imageio import read_volume
from gdmunet.preprocessing.packed_arrays import chunk_shapes
from gdmunet.preprocessing.resampling import resample

CODECS = {
    "ZSTD 5": (blosc2.Codec.ZSTD, 5),
    "ZSTD 1 (the store's)": (blosc2.Codec.ZSTD, 1),
    "LZ4 5": (blosc2.Codec.LZ4, 5),
    "LZ4HC 1": (blosc2.Codec.LZ4HC, 1),
}
WINDOW = (128, 128, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    ct = read_volume(parser.parse_args().data / "ct" / "cranium.nii.gz").array
    phantom = make_phantom(0, 160)
    volumes = {
        "CT": (ct + 400) / np.float32(500),
        "CT, resampled": resample(ct, (108, 230, 230)) / np.float32(500),
        "MR phantom": phantom.mr,
        "mask": phantom.mask.astype(np.uint8),
    }
    print("| volume | codec | size, share | pack MB/s | read MB/s |\n| --- | --- | --- | --- | --- |")
    for name, array in volumes.items():
        for codec, (kind, level) in CODECS.items():
            size, pack, read = measure(np.ascontiguousarray(array[None]), kind, level)
            print(f"| {name} | {codec} | {size:.3f} | {pack:.0f} | {read:.0f} |", flush=True)


def measure(array: np.ndarray, codec: blosc2.Codec, level: int) -> tuple[float, float, float]:
    """Packed share of the bytes, and MB per second of packing and reading."""
    chunks, blocks = chunk_shapes(array.shape, WINDOW, array.itemsize)
    parameters = {
        "codec": codec, "clevel": level, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1, "typesize": array.itemsize,
    }  # fmt: skip
    packing, reading = [], []
    for _ in range(3):
        started = time.process_time()
        packed = blosc2.asarray(array, chunks=chunks, blocks=blocks, cparams=parameters).to_cframe()
        packing.append(time.process_time() - started)
        stored = blosc2.ndarray_from_cframe(packed)
        stored.schunk.dparams = blosc2.DParams(nthreads=1)
        started = time.process_time()
        stored[:]
        reading.append(time.process_time() - started)
    megabytes = array.nbytes / 1e6
    return len(packed) / array.nbytes, megabytes / min(packing), megabytes / min(reading)


if __name__ == "__main__":
    main()
