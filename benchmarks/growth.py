"""How time and memory grow: with a volume's voxels, with cases, with the feature bank, with windows.

usage: python benchmarks/growth.py WORK [--only voxels cases bank windows] [--picture FILE]

voxels
    The identity in windows of 128^3 (`predict_volume`); `gdm_plan_and_preprocess` of one head; all scores of one pair.
cases
    `gdm_plan_and_preprocess`, `gdm_predict` (a small U-Net) and `gdm_evaluate` of 1 to 200 cases of 48^3.
bank
    One drift, forward and backward: 256 generated tokens of 64 dimensions against 256 to 16,384 real ones.
windows
    The identity over 256^3 in windows of 32^3 to 256^3.

One round, one thread in each process. Every row is written to WORK/growth.jsonl at once, and a row that is there is not
measured again. Prints a table, with the exponent of the growth since the row before (1: linear), and draws a picture.
"""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from prediction_files import make_own_model
from prediction_speed import identity, volume
from preprocessing_speed import NUMBER, make_data
from process_tree import measure

from gdmunet.inference.sliding_window import predict_volume
from gdmunet.training.drift.loss import drift_loss

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIDES = (64, 96, 128, 192, 256, 384, 512)
CASES = (1, 5, 20, 50, 200)
BANK = (256, 1024, 4096, 16384)
WINDOWS = (32, 64, 128, 256)
PARTS = {
    "voxels": "voxels of a volume",
    "cases": "cases of 48³",
    "bank": "real tokens",
    "windows": "voxels of a window, volume of 256³",
}


@dataclass(frozen=True)
class Row:
    """CPU seconds and peak memory in MB (None: not measured) of a task of that size."""

    part: str
    task: str
    size: int
    cpu_s: float
    mb: float | None = None


@dataclass(frozen=True)
class Task:
    """A measurement that is still to be made."""

    part: str
    task: str
    size: int
    run: Callable[[], tuple[float, float | None]]


def in_process(work: Callable[[], object], repeats: int = 3) -> tuple[float, None]:
    """The least CPU seconds of several runs, after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds[1:]), None


def command(work: Path, module: str, *words: str) -> tuple[float, float]:
    """CPU seconds and peak memory of a command and its workers."""
    folders = {f"GDM_{part.upper()}": str(work / f"gdm_{part}") for part in ("raw", "preprocessed", "results")}
    call = f"from gdmunet.cli.{module} import main; raise SystemExit(main())"
    used = measure([sys.executable, "-c", call, *words], {**folders, "OMP_NUM_THREADS": "1"})
    return used.cpu_s, used.peak_mb


def prepare(work: Path, cases: int, side: int) -> tuple[float, float]:
    words = ("-d", str(NUMBER), "-np", "2", "-c", "3d_fullres", "--no_pbar", "-device", "cpu", "--clean")
    return command(make_data(work, "mr", cases, side), "plan_and_preprocess", *words)


def predict(work: Path, cases: int) -> tuple[float, float]:
    data = make_data(work, "ct", cases, 48)
    shutil.rmtree(data / "predictions", ignore_errors=True)
    model = make_own_model(work, (48, 48, 48), (32, 32, 32))
    words = ("-i", str(raw(data) / "imagesTr"), "-o", str(data / "predictions"), "-m", str(model), "-f", "0")
    return command(data, "predict", *words, "-device", "cpu")


def evaluate(work: Path, cases: int, side: int) -> tuple[float, float]:
    """References against copies of themselves: every score is computed all the same."""
    data = make_data(work, "mr", cases, side)
    targets, copies = raw(data) / "targetsTr", data / "copies"
    shutil.copytree(targets, copies, dirs_exist_ok=True)
    return command(data, "evaluate", "-ref", str(targets), "-pred", str(copies))


def raw(data: Path) -> Path:
    return data / "gdm_raw" / f"Dataset{NUMBER}_Speed"


def drift(real: int) -> tuple[float, None]:
    random = torch.Generator().manual_seed(0)
    targets = torch.randn(1, real, 64, generator=random)
    generated = torch.randn(1, 256, 64, generator=random)

    def step() -> None:
        loss, _ = drift_loss(generated.clone().requires_grad_(), targets)
        loss.sum().backward()

    return in_process(step, 5)


def identity_over(side: int, window: int) -> tuple[float, None]:
    condition = volume(side)
    return in_process(lambda: predict_volume(identity, condition, (min(window, side),) * 3))


def tasks(work: Path) -> Iterator[Task]:
    for side in SIDES:
        yield Task("voxels", "windows of 128³, identity", side**3, lambda n=side: identity_over(n, 128))
        if side <= 384:  # a generated head of 512^3 takes many times as long to make
            yield Task("voxels", "plan and preprocess", side**3, lambda n=side: prepare(work, 1, n))
        if side <= 256:
            yield Task("voxels", "evaluate", side**3, lambda n=side: evaluate(work, 1, n))
    for cases in CASES:
        yield Task("cases", "plan and preprocess", cases, lambda n=cases: prepare(work, n, 48))
        yield Task("cases", "predict", cases, lambda n=cases: predict(work, n))
        yield Task("cases", "evaluate", cases, lambda n=cases: evaluate(work, n, 48))
    for real in BANK:
        yield Task("bank", "drift", real, lambda n=real: drift(n))
    for window in WINDOWS:
        yield Task("windows", "identity", window**3, lambda n=window: identity_over(256, n))


def exponent(before: Row, after: Row) -> float:
    return math.log(after.cpu_s / before.cpu_s) / math.log(after.size / before.size)


def series(rows: list[Row], part: str) -> dict[str, list[Row]]:
    """The rows of a part by task, in order of size."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.size):
        if row.part == part:
            found.setdefault(row.task, []).append(row)
    return found


def draw(rows: list[Row], file: Path) -> None:
    figure, places = plt.subplots(2, 2, figsize=(10, 8), constrained_layout=True)
    for axis, (part, meant) in zip(places.flat, PARTS.items(), strict=True):
        for name, line in series(rows, part).items():
            sizes, seconds = ([getattr(row, what) for row in line] for what in ("size", "cpu_s"))
            axis.loglog(sizes, seconds, "o-", label=name)
            if part != "windows":
                axis.loglog(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], ":", color="grey", lw=0.8)
        axis.set_xlabel(meant)
        axis.set_ylabel("CPU s")
        if axis.lines:
            axis.legend(frameon=False)
    figure.suptitle("Dotted: linear growth, through the last point")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="raise", under="ignore")
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    file = work / "growth.jsonl"
    rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.is_file() else []
    there = {(row.part, row.task, row.size) for row in rows}
    for task in tasks(work):
        if task.part in arguments.only and (task.part, task.task, task.size) not in there:
            rows.append(Row(task.part, task.task, task.size, *task.run()))
            with file.open("a") as stream:
                stream.write(json.dumps(asdict(rows[-1])) + "\n")
            print(rows[-1], flush=True)
    print("| part | task | size | CPU s | exponent | MB |\n| --- | --- | --- | --- | --- | --- |")
    for part in PARTS:
        for name, line in series(rows, part).items():
            for before, row in zip([None, *line], line, strict=False):
                grown = "" if before is None else f"{exponent(before, row):.2f}"
                print(f"| {part} | {name} | {row.size} | {row.cpu_s:.3g} | {grown} | {row.mb or 0:.0f} |")
    draw(rows, arguments.picture or work / "growth.png")


if __name__ == "__main__":
    main()
