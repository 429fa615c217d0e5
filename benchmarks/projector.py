"""The projector against scikit-image and ASTRA: error, time, memory; and a picture of what few views do.

usage: python benchmarks/projector.py CT.nii.gz [--views 18 36 72 720] [--slice K] [--slices 1]
       [--picture FILE.png] [--volume]

Every measurement runs in a process of its own with one thread, so that the peak of its memory is its own. ``--volume``
also times the whole volume at 36 views, and ``gdm_simulate_svct`` with reading, masks and writing. ASTRA is measured
where it is installed (pip install astra-toolbox). ``--slices`` scans as many slices from the K-th on at once: those
of a volume share gdmunet's weights.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from gdmunet.cli import simulate_svct
from gdmunet.device_memory import peak_memory_mb
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry, canonical_axes
from gdmunet.imageio import Volume, read_volume
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.backends import make_backend
from gdmunet.tomography.simulation import simulate_scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--views", type=int, nargs="+", default=[18, 36, 72, 720])
    parser.add_argument("--slice", type=int, help="default: the middle")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=["skimage", "torch", "astra"], help="back ends")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--volume", action="store_true")
    arguments = parser.parse_args()
    ct = canonical(read_volume(arguments.ct))
    index = len(ct.array) // 2 if arguments.slice is None else arguments.slice
    array = ct.array[index : index + arguments.slices]
    part = Volume(array, Geometry(array.shape, ct.geometry.spacing))
    body = derive_body_mask(ct.array[None], ("CT",), ct.geometry.spacing)
    print("back end  views  first s  next s  peak MB  body MAE HU  from scikit-image HU (mean, 99.9 %)")
    for views in arguments.views:
        reference = None
        for name in arguments.only:
            found = alone(measure, part, ScanSpec(views=views, backend=name))
            if found is None:
                print(f"{name:8}  not installed")
                continue
            image, first, later, peak = found
            reference = image if reference is None else reference
            error = np.abs(image - part.array)[body[index : index + arguments.slices]].mean()
            apart = np.abs(image - reference)
            print(f"{name:8} {views:6d} {first:8.2f} {later:7.2f} {peak:8.0f} {error:12.1f}"
                  f"  {apart.mean():.4f}, {np.percentile(apart, 99.9):.3f}", flush=True)  # fmt: skip
    if arguments.volume:
        image, first, later, peak = alone(measure, ct, ScanSpec())
        print(f"whole volume {ct.array.shape}, 36 views: {first:.1f} s, again {later:.1f} s, peak {peak:.0f} MB, "
              f"body MAE {np.abs(image - ct.array)[body].mean():.1f} HU")  # fmt: skip
        print(f"gdm_simulate_svct: {alone(simulate_seconds, arguments.ct):.1f} s by the clock")
    if arguments.picture:
        draw(part, body[index], arguments.picture)


def canonical(volume: Volume) -> Volume:
    """Axes (superior, posterior, left), values as a scanner stores them."""
    axes = canonical_axes(volume.geometry)
    array = np.ascontiguousarray(axes.apply(volume.array)).clip(-1024, 3071)
    return Volume(array, axes.apply_to_geometry(volume.geometry))


def measure(ct: Volume, settings: ScanSpec) -> tuple[np.ndarray, float, float, float] | None:
    """Reconstruction, seconds of the first and the second scan (which has its weights), MB over the start."""
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark of memory starts anew, here
    before = peak_memory_mb(torch.device("cpu"))
    times = []
    for _ in range(2):
        started = time.process_time()
        try:
            image = simulate_scan(ct, settings, "benchmark").reconstruction
        except GdmError as error:
            if isinstance(error.__cause__, ImportError | AttributeError):  # an optional package that is not there
                return None
            raise
        times.append(time.process_time() - started)
    make_backend.cache_clear()
    return image, times[0], times[1], peak_memory_mb(torch.device("cpu")) - before


def simulate_seconds(ct: Path) -> float:
    """Of the command, sinograms included."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        if simulate_svct.main(["-i", str(ct), "-d", "999", "--save_sinograms", "--raw", folder, "--no_pbar"]):
            raise SystemExit("gdm_simulate_svct failed")
        return time.monotonic() - started


def alone(function, *arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def draw(ct: Volume, body: np.ndarray, file: Path) -> None:
    """CT, three numbers of views, and their errors; window [-1000, 500] HU, errors in [-400, 400] HU."""
    from matplotlib.figure import Figure
    from PIL import Image

    shown = [("CT", ct.array[0], None)]
    for views, beam in ((18, "parallel"), (36, "parallel"), (72, "parallel"), (72, "fan")):
        settings = ScanSpec(views=views, beam=beam, range_degrees=180 if beam == "parallel" else 360)
        image = simulate_scan(ct, settings, "picture").reconstruction[0]
        error = image - ct.array[0]
        shown.append((f"{views} views, {beam}: body MAE {np.abs(error)[body].mean():.0f} HU", image, error))
    figure = Figure(figsize=(2.7 * len(shown), 4.6), layout="compressed")
    axes = figure.subplots(2, len(shown))
    for column, (title, image, error) in zip(axes.T, shown, strict=True):
        column[0].imshow(image, cmap="gray", vmin=-1000, vmax=500)
        column[0].set_title(title, fontsize=9)
        if error is not None:
            picture = column[1].imshow(error, cmap="RdBu_r", vmin=-400, vmax=400)
        for one in column:
            one.set_axis_off()
    figure.colorbar(picture, ax=axes[1, 1:], label="reconstruction - CT in HU", shrink=0.8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=70, bbox_inches="tight")
    Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE).save(file, optimize=True)


if __name__ == "__main__":
    main()
