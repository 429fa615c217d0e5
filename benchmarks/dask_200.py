"""200 small cases prepared, predicted and scored on a Dask cluster whose workers are killed, against plain runs.

usage: OMP_NUM_THREADS=1 python benchmarks/dask_200.py DATA WORK [--cases 200] [--size 32] [--workers 3]
           [--only preprocess predict evaluate]

DATA holds ``pairs/mr_to_ct`` (see make_datasets.py); the cases are crops of these volumes in which a third or more of
the voxels are body. A scheduler and its workers run as processes of this machine, as a user starts them. During each
command one worker is killed by SIGKILL when a tenth of its files are there. Then every file is compared bit for bit (of
packed volumes what is inside, since their header holds the time), and so are the scores of every case. Ends with status
1 if anything differs. ``--only`` repeats some commands on what an earlier run left in WORK.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import distributed
import numpy as np
import psutil

from gdmunet.cli import evaluate, extract_fingerprint, plan_experiment, predict, preprocess, train
from gdmunet.dataset import DatasetDescriptor
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_mask, read_volume, write_volume
from gdmunet.serialization import save_json

DATASET, NUMBER, CONFIGURATION, PLANS = "Dataset590_Crops", "590", "3d_fullres", "gdmPlans_tiny"
HEADS = ("colin27", "mni152head", "otsu", "chris")
BODY_SHARE = 1 / 3
QUIET = ["--no_pbar"]


def make_cases(data: Path, raw: Path, cases: int, size: int) -> None:
    """Crops of the four heads in turn, at random places that hold enough body."""
    folder, random = raw / DATASET, np.random.default_rng(0)
    if (folder / "dataset.json").is_file():
        return
    heads = []
    for name in HEADS:
        mr, ct = (read_volume(data / "pairs/mr_to_ct" / f"{name}_{kind}.nii.gz", name) for kind in ("mr", "ct"))
        heads.append((mr, ct, read_mask(data / "pairs/mr_to_ct" / f"{name}_fov.nii.gz", name).array))
    for number in range(cases):
        mr, ct, mask = heads[number % len(heads)]
        while True:
            start = [random.integers(0, n - size + 1) for n in mask.shape]
            box = tuple(slice(first, first + size) for first in start)
            if mask[box].mean() >= BODY_SHARE and (ct.array[box] > -500).mean() >= BODY_SHARE:
                break
        name, place = f"crop_{number:03d}", Geometry((size,) * 3, mr.geometry.spacing)
        write_volume(folder / "imagesTr" / f"{name}_0000.nii.gz", mr.array[box], place)
        write_volume(folder / "targetsTr" / f"{name}.nii.gz", ct.array[box], place)
        write_volume(folder / "masksTr" / f"{name}.nii.gz", mask[box].astype(np.uint8), place)
    save_json(DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", cases, "Crops", mask=True), folder / "dataset.json")


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """A scheduler and its workers on loopback, with the nannies that start a dead one again; gives the address."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show", "--scheduler-file", str(file)]
    with open(folder / "cluster.log", "a") as log:
        started = [_started(log, "dask_scheduler", *where)]
        try:
            while not file.is_file() or not file.read_text().strip():
                time.sleep(0.1)
            words = ["--scheduler-file", str(file), "--no-dashboard", "--nthreads", "1", "--nanny"]
            started += [_started(log, "dask_worker", *words) for _ in range(workers)]
            with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=300)
                address = client.scheduler.address
            yield address
        finally:
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for child in psutil.Process(process.pid).children(recursive=True):
                        child.kill()
                process.kill()
                process.wait()


def _started(log: IO[str], program: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", f"distributed.cli.{program}", *words], stdout=log, stderr=log)


@dataclass
class Killer:
    """Kills a worker of a scheduler once `after` files of a pattern lie in a folder."""

    address: str
    folder: Path
    pattern: str
    after: int
    killed: list[int] = field(default_factory=list)

    def __enter__(self) -> Killer:
        with distributed.Client(self.address, set_as_default=False) as client:
            self._pids = list(client.run(os.getpid).values())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _wait(self) -> None:
        while not self._ended.wait(0.05):
            if len(list(self.folder.glob(self.pattern))) >= self.after:
                os.kill(self._pids[0], signal.SIGKILL)
                self.killed.append(self._pids[0])
                return


def timed(main, words: list[str]) -> float:  # type: ignore[no-untyped-def]
    """Seconds of a command; one that fails ends the benchmark."""
    started = time.monotonic()
    if main([*words, *QUIET]) not in (0, None):
        raise SystemExit(f"a command failed: {' '.join(words)}")
    return time.monotonic() - started


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Name and bytes of the files of a folder, unpacked."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.name[0] != ".")
    read = {path.name: path.read_bytes() for path in files}
    return {name: gzip.decompress(content) if name.endswith(".gz") else content for name, content in read.items()}


def scores(file: Path) -> dict[str, bytes]:
    """Scores of each case in a summary."""
    summary = json.loads(file.read_text())
    rows = summary["cases"] | {"mean": summary["mean"]}
    return {name: json.dumps(row, sort_keys=True).encode() for name, row in rows.items()}


def compared(name: str, plain: dict[str, bytes], shared: dict[str, bytes]) -> int:
    """Number of files that are alike; one that is not ends the benchmark."""
    apart = sorted(set(plain) ^ set(shared)) + [key for key in plain if key in shared and plain[key] != shared[key]]
    if apart or not plain:
        raise SystemExit(f"{name}: {len(apart)} of {len(plain)} differ, such as {apart[:3]}")
    return len(plain)


def outcome(work: Path, command: str, side: str) -> dict[str, bytes]:
    """What a command has left on a side: its files, or the rows of its scores."""
    predicted = work / f"predicted_{side}"
    if command == "evaluate":
        return scores(predicted / "summary.json")
    if command == "predict":
        return contents(predicted, "*.nii.gz")
    return contents(work / side / DATASET / f"{PLANS}_{CONFIGURATION}", "*.json", "*.b2nd")


def prepare(work: Path) -> None:
    """Plans, and a small model."""
    places = [f"--raw={work / 'raw'}", f"--preprocessed={work / 'plain'}"]
    if not (work / "plain" / DATASET / f"{PLANS}.json").is_file():
        timed(extract_fingerprint.main, ["-d", NUMBER, *places])
        planning = ["-pl", "tiny", "-tr", "FidelityTrainer", "-c", CONFIGURATION, "-device", "cpu"]
        plan_experiment.main(["-d", NUMBER, *planning, *places])
    shutil.rmtree(work / "shared", ignore_errors=True)
    (work / "shared" / DATASET).mkdir(parents=True)
    for file in (work / "plain" / DATASET).glob("*.json"):
        shutil.copy(file, work / "shared" / DATASET)


def run(work: Path, workers: int, cases: int, only: list[str]) -> list[str]:
    """The commands on both sides; rows of the table."""
    raw, store = work / "raw" / DATASET, f"{PLANS}_{CONFIGURATION}"
    results = [f"--results={work / 'results'}"]
    preparing = ["-d", NUMBER, "-p", PLANS, "-c", CONFIGURATION, f"--raw={work / 'raw'}"]
    predicting = [
        "-i",
        str(raw / "imagesTr"),
        "--mask",
        str(raw / "masksTr"),
        "-chk",
        "final",
        "-device",
        "cpu",
        *results,
    ]
    scoring = ["-ref", str(raw / "targetsTr"), "-mask", str(raw / "masksTr")]
    rows, seconds = [], {}
    if "preprocess" in only:
        prepare(work)
        shutil.rmtree(work / "plain" / DATASET / store, ignore_errors=True)
        seconds["preprocess"] = timed(preprocess.main, [*preparing, f"--preprocessed={work / 'plain'}"])
    if not list((work / "results").rglob("checkpoint_final.safetensors")):
        words = [NUMBER, CONFIGURATION, "all", "-p", PLANS, "-tr", "FidelityTrainer", "--iterations", "20", "-np", "0"]
        folders = [f"--raw={work / 'raw'}", f"--preprocessed={work / 'plain'}"]
        timed(train.main, [*words, "-device", "cpu", *folders, *results])
    if "predict" in only:
        for side in ("plain", "shared"):
            shutil.rmtree(work / f"predicted_{side}", ignore_errors=True)
        seconds["predict"] = timed(predict.main, [*predicting, "-o", str(work / "predicted_plain")])
    if "evaluate" in only:
        seconds["evaluate"] = timed(evaluate.main, [*scoring, "-pred", str(work / "predicted_plain")])
    with cluster(work, workers) as address:
        there = ["--scheduler", address]
        predicted = work / "predicted_shared"
        steps = {
            "preprocess": (preprocess.main, [*preparing, f"--preprocessed={work / 'shared'}"],
                           work / "shared" / DATASET / store, "crop_*.json"),
            "predict": (predict.main, [*predicting, "-o", str(predicted)], predicted, "*.nii.gz"),
            "evaluate": (evaluate.main, [*scoring, "-pred", str(predicted)], predicted, ".parts/*/*.json"),
        }  # fmt: skip
        for name in only:
            main, words, folder, pattern = steps[name]
            with Killer(address, folder, pattern, cases // 10) as killer:
                took = timed(main, [*words, *there])
            alike = [outcome(work, name, side) for side in ("plain", "shared")]
            same, dead = compared(name, *alike), len(killer.killed)
            rows.append(f"| {name} | {seconds[name]:.0f} | {took:.0f} | {dead} | {same} of {same} |")
            print(rows[-1], flush=True)
            if not dead:
                raise SystemExit(f"{name} ended before a worker was killed")
    return rows


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=3)
    commands = ["preprocess", "predict", "evaluate"]
    parser.add_argument("--only", nargs="+", choices=commands, default=commands)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    make_cases(arguments.data, work / "raw", arguments.cases, arguments.size)
    rows = run(work, arguments.workers, arguments.cases, arguments.only)
    print("\n| command | s, plain | s, Dask | workers killed | files or rows alike |\n| --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
