"""What a report of many cases and a DICOM series cost: megabytes, seconds, memory. All data are generated.

The cases of the report are two different head phantoms under many names: each is read and cut anew. The DICOM
series is written by one process and scanned and read by another, so that each has a peak memory of its own.

    python benchmarks/report_and_dicom.py --cases 100
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from gdmunet.conversion.phantoms import make_phantom
from gdmunet.dicom.reading import read_series
from gdmunet.dicom.series import choose_series, scan_series
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.evaluation.report.cases import CasePaths
from gdmunet.evaluation.report.content import ReportContent
from gdmunet.evaluation.report.page import PageOptions, write_page
from gdmunet.evaluation.scores.summary import EvaluationSpec, summarize
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, write_volume
from gdmunet.metrics import HU_2025, ImageScores
from gdmunet.workflows.peak_memory import PeakMemory

CASE_SHAPE, CASE_SPACING = (129, 157, 115), (1.0, 1.0, 1.0)
SERIES_SHAPE, SERIES_SPACING = (133, 512, 512), (2.5, 0.8, 0.8)
DIFFERENT_CASES = 2


def cpu_seconds() -> float:
    """Of this process and of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextlib.contextmanager
def measured(what: str) -> Iterator[None]:
    """Print seconds and peak memory of what stands inside, the process itself included."""
    started, cpu = time.perf_counter(), cpu_seconds()
    with PeakMemory(every=0.02) as memory:
        yield
    seconds = time.perf_counter() - started
    print(
        f"DICOM series of {' x '.join(map(str, SERIES_SHAPE))} {what} in {seconds:.1f} s "
        f"({cpu_seconds() - cpu:.1f} s of CPU), peak {memory.peak_mb:.0f} MB"
    )


def write_case(folder: Path, seed: int) -> dict[str, Path]:
    """Condition, target, mask and a blurred prediction of one phantom, cut to `CASE_SHAPE`."""
    phantom = make_phantom(seed, max(CASE_SHAPE))
    inside = tuple(slice((len(phantom.ct) - n) // 2, (len(phantom.ct) - n) // 2 + n) for n in CASE_SHAPE)
    prediction = np.rint(gaussian_filter(phantom.ct[inside].astype(np.float32), 1.0)).astype(np.int16)
    arrays = {"condition": phantom.mr, "target": phantom.ct, "mask": phantom.mask}
    volumes = {name: array[inside] for name, array in arrays.items()} | {"prediction": prediction}
    files = {name: folder / f"{name}_{seed}.nii.gz" for name in volumes}
    for name, array in volumes.items():
        write_volume(files[name], array, Geometry(CASE_SHAPE, CASE_SPACING))
    return files


def measure_report(cases: int, folder: Path) -> None:
    """Write the page of an evaluation whose scores are drawn at random."""
    different = [write_case(folder, seed) for seed in range(min(cases, DIFFERENT_CASES))]
    random = np.random.default_rng(0)
    names = [f"case_{k:03d}" for k in range(cases)]
    scores = {
        name: ImageScores({"mae": random.normal(60, 10), "psnr": random.normal(30, 1), "ms_ssim": random.uniform(0, 1)})
        for name in names
    }
    settings = EvaluationSpec("2025", HU_2025, True, "given")
    summary = summarize(scores, settings)
    files = []
    for k, name in enumerate(names):
        found = different[k % len(different)]
        predictions = {"prediction": found["prediction"]}
        files.append(CasePaths(name, found["condition"], found["target"], found["mask"], predictions))
    content = ReportContent(
        "evaluation", folder, "generated", {"prediction": summary.cases}, settings, summary,
        files=tuple(files), condition_name="MR", target_name="CT",
    )  # fmt: skip
    before = cpu_seconds()
    written = write_page(content, folder / "report.html", PageOptions(show_progress=False))
    print(
        f"report of {cases} cases of {' x '.join(map(str, CASE_SHAPE))}: {written.size / 1e6:.1f} MB, "
        f"{cpu_seconds() - before:.1f} s of CPU, {written.pictures} with slices, {written.volumes} with volumes"
    )


def write_generated_series(folder: Path) -> None:
    """A ramp with noise in HU."""
    ramp = np.linspace(-800, 800, SERIES_SHAPE[2], dtype=np.int16)
    noise = np.random.default_rng(0).integers(-50, 50, SERIES_SHAPE, dtype=np.int16)
    with measured("written"):
        write_ct_series(folder, Volume(noise + ramp, Geometry(SERIES_SHAPE, SERIES_SPACING)), SeriesLabel())


def read_generated_series(folder: Path) -> None:
    """Scan the folder, then read its only series."""
    with measured("scanned"):
        series = choose_series(scan_series(folder))
    with measured("read"):
        read_series(series)


def in_new_process(task: Callable[[Path], None], folder: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=task, args=(folder,))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{task.__name__} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100, help="cases of the report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        in_new_process(write_generated_series, Path(folder) / "series")
        in_new_process(read_generated_series, Path(folder) / "series")
        measure_report(arguments.cases, Path(folder))


if __name__ == "__main__":
    main()
