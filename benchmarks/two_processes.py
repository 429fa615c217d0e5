"""Speed-up from one process to two, for every command that several processes can share.

usage: OMP_NUM_THREADS=1 python benchmarks/two_processes.py WORK [--cases 16] [--size 64] [--rounds 5] [--only predict]

The data are head phantoms and DICOM series of their CTs. Each round runs every command with one process and then with
two (the other way round in every second round); the table holds the medians. Where a command has no option for its
processes (prediction), two parts of it run at once. Training is two processes of one batch against one, without GPUs.
"Seconds" are those of the clock, the start of Python and its imports included; CPU seconds are those of all processes.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.dicom.writing import SeriesLabel, write_ct_series
from gdmunet.imageio import read_volume

DATASET, NUMBER, CONFIGURATION, PLANS = "Dataset502_DemoPhantoms", "502", "3d_fullres", "gdmPlans_tiny"
TRAINING = ["-tr", "FidelityTrainer", "-device", "cpu"]


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of processors."""

    wall: float
    cpu: float


def run(*commands: list[str]) -> Took:
    """Run commands at one time to their end; one that fails ends the benchmark with its output."""
    before, started = _children(), time.monotonic()
    processes = []
    for name, *words in commands:
        call = f"from gdmunet.cli.{name} import main; raise SystemExit(main())"
        line = [sys.executable, "-c", call, *words, "--no_pbar"]
        processes.append(subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process, command in zip(processes, commands, strict=True):
        said = process.communicate()[0]
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said[-3000:]}")
    return Took(time.monotonic() - started, _children() - before)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_inputs(work: Path, cases: int, size: int) -> None:
    """Phantoms, their CTs as DICOM, plans, prepared cases and a model: what the commands need of each other."""
    if (work / "ready").is_file():
        return
    for name in ("raw", "preprocessed", "results", "dicom"):
        shutil.rmtree(work / name, ignore_errors=True)
    folder = make_phantom_demo(work / "raw", cases=cases, size=size, show_progress=False)
    for file in sorted((folder / "targetsTr").iterdir()):
        name = file.name.removesuffix(".nii.gz")
        for channel in ("condition", "target"):
            series = work / "dicom" / name / channel
            write_ct_series(series, read_volume(file, name), SeriesLabel("phantom"), patient_id=name)
    places = folders(work)
    planning = ["-pl", "tiny", "-c", CONFIGURATION, *TRAINING]
    run(["plan_and_preprocess", "-d", NUMBER, *planning, *places[:4]])
    run(["train", NUMBER, CONFIGURATION, "all", "-p", PLANS, *TRAINING, "--iterations", "20", "-np", "0", *places])
    images, predictions = folder / "imagesTr", work / "predictions"
    run(["predict", "-i", str(images), "-o", str(predictions), "-chk", "final", "-device", "cpu", *places[4:]])
    (work / "ready").touch()


def folders(work: Path) -> list[str]:
    """The flags of the three folders."""
    return [word for name in ("raw", "preprocessed", "results") for word in (f"--{name}", str(work / name))]


def commands_of(work: Path) -> dict[str, Callable[[int], Took]]:
    """Each command, as a function of the number of processes; what it wrote before is removed first."""
    places, data, out = folders(work), work / "raw" / DATASET, work / "out"

    def fresh(*words: str) -> Callable[[int], Took]:
        def one(processes: int) -> Took:
            shutil.rmtree(out, ignore_errors=True)
            return run([*words, "-np", str(processes)])

        return one

    def fingerprint(processes: int) -> Took:
        (work / "preprocessed" / DATASET / "dataset_fingerprint.json").unlink(missing_ok=True)
        return run(["extract_fingerprint", "-d", NUMBER, "-np", str(processes), *places[:4]])

    def prediction(processes: int) -> Took:
        shutil.rmtree(out, ignore_errors=True)
        words = [
            "predict",
            "-i",
            str(data / "imagesTr"),
            "-o",
            str(out),
            "-chk",
            "final",
            "-device",
            "cpu",
            *places[4:],
        ]
        parts = [["-num_parts", str(processes), "-part_id", str(part)] for part in range(processes)]
        return run(*([*words, *(part if processes > 1 else [])] for part in parts))

    def training(processes: int) -> Took:
        words = ["train", NUMBER, CONFIGURATION, "0", "-p", PLANS, *TRAINING, "--iterations", "40", "-np", "0"]
        return run([*words, "--overwrite", "-num_gpus", str(processes), *places])

    ct, raw = str(data / "targetsTr"), ["--raw", str(out)]
    return {
        "fingerprint": fingerprint,
        "preprocess": fresh("preprocess", "-d", NUMBER, "-p", PLANS, "-c", CONFIGURATION, "--clean", *places[:4]),
        "simulate": fresh("simulate_svct", "-i", ct, "-d", "7", "-n", "Scans", "--views", "60", *raw),
        "convert": fresh("convert_dicom", "-i", str(work / "dicom"), "-d", "8", "--channel", "CT", *raw),
        "predict": prediction,
        "evaluate": fresh("evaluate", "-ref", ct, "-pred", str(work / "predictions"), "-o", str(out / "summary.json")),
        "train": training,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    make_inputs(work, arguments.cases, arguments.size)
    commands = {name: one for name, one in commands_of(work).items() if not arguments.only or name in arguments.only}
    taken: dict[tuple[str, int], list[Took]] = {}
    for number in range(arguments.rounds):
        for name, one in commands.items():
            for processes in (1, 2) if number % 2 == 0 else (2, 1):
                taken.setdefault((name, processes), []).append(one(processes))
            last = {processes: taken[name, processes][-1].wall for processes in (1, 2)}
            print(f"round {number + 1}, {name}: {last[1]:.1f} s, {last[2]:.1f} s", flush=True)
    print("| command | s, one process | s, two | times faster | CPU s, one | CPU s, two |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in commands:
        wall, cpu = (
            [statistics.median(getattr(took, kind) for took in taken[name, processes]) for processes in (1, 2)]
            for kind in ("wall", "cpu")
        )
        print(f"| {name} | {wall[0]:.1f} | {wall[1]:.1f} | {wall[0] / wall[1]:.2f} | {cpu[0]:.1f} | {cpu[1]:.1f} |")


if __name__ == "__main__":
    main()
