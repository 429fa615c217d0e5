"""The parts in their order, each in a process of its own that a hang, a crash or a deadline ends alone."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_parts.setting import LOG, Setting, write_row

SCRIPT = Path(__file__).parents[1] / "gpu_proof.py"


@dataclass(frozen=True)
class Part:
    """A part of the proof.

    Attributes
    ----------
    module
        Module of this package whose `run` measures it.
    weight
        Seconds of ten minutes; what earlier parts leave is shared by the later ones in this proportion.
    purpose
        What it measures, in words.
    """

    name: str
    module: str
    weight: int
    purpose: str


PARTS = (
    Part("machine", "machine", 20, "versions; ceilings of bfloat16 products and of copies"),
    Part("tests", "tests", 80, "pytest -m gpu: the GPU against the CPU"),
    Part("steps", "steps", 80, "steps of plain and M at 128^3 and 160^3 in five forms; memory, predicted and measured"),
    Part("drift", "drift", 35, "parts of the method's step with mini and with an encoder of MedVAE's shape"),
    Part("loop", "loop", 45, "the real loop with reading processes: the share of waiting"),
    Part("volume", "volume", 40, "a volume of 512^3: seconds, busy share, bfloat16 against float32 in HU"),
    Part("layers", "layers", 70, "normalisation layers: MAE, and offset between window grids"),
    Part("branches", "branches", 225, "fidelity to two thirds once, and five branches of the method from it"),
)
ALONE = 15.0
"""Seconds that a part keeps at least, however late it is."""


@dataclass(frozen=True)
class RunOptions:
    """What is run, where to, and for how long in all."""

    out: Path
    stores: Path | None
    dry: bool
    only: tuple[str, ...]
    seconds: float

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are asked for."""
        return tuple(part for part in PARTS if not self.only or part.name in self.only)


def run_all(options: RunOptions) -> int:
    """Run the parts one after the other; the number of those that did not end well."""
    options.out.mkdir(parents=True, exist_ok=True)
    end, failures, parts = time.time() + options.seconds, 0, options.parts
    for number, part in enumerate(parts):
        share = part.weight / sum(later.weight for later in parts[number:])
        limit = max(ALONE, share * (end - time.time()))
        started = time.time()
        code = run_alone(part, options, started + limit)
        result = "done" if code == 0 else "deadline" if code is None else f"failed with status {code}"
        failures += code != 0
        write_row(options.out, {"part": part.name, "row": "end", "result": result, "seconds": time.time() - started,
                                "limit": limit, "dry": options.dry})  # fmt: skip
    return failures


def run_alone(part: Part, options: RunOptions, deadline: float) -> int | None:
    """Status of the part's process; None: its deadline came, and it was ended with all that it had started."""
    command = [sys.executable, str(SCRIPT), str(options.out), "--part", part.name, "--deadline", str(deadline)]
    command += ["--stores", str(options.stores)] if options.stores else []
    command += ["--dry"] if options.dry else []
    with (options.out / LOG).open("a") as log:
        log.write(f"\n==== {part.name}: {part.purpose}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(max(0.0, deadline - time.time()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children: a reading process that stays would hold the device."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_part(name: str, setting: Setting) -> None:
    """Measure one part in this process."""
    (part,) = (one for one in PARTS if one.name == name)
    importlib.import_module(f"gpu_parts.{part.module}").run(setting)


def names() -> Sequence[str]:
    """Names of the parts."""
    return [part.name for part in PARTS]
