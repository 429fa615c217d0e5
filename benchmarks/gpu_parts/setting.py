"""Where a part runs, and the rows that it writes."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

ROWS = "rows.jsonl"
LOG = "log.txt"


@dataclass(frozen=True)
class Setting:
    """What a part is given.

    Attributes
    ----------
    out
        Folder of the results.
    stores
        Folder that `prepare` wrote; None: parts that need prepared cases say so and end.
    dry
        Whether the part is proven on the CPU alone: small sizes, few iterations, no figure that means anything.
    deadline
        Time (`time.time`) at which the part is ended from outside.
    """

    out: Path
    stores: Path | None
    dry: bool
    deadline: float
    part: str

    @property
    def device(self) -> torch.device:
        """The first GPU, or the CPU of a dry run."""
        return torch.device("cpu" if self.dry else "cuda:0")

    @property
    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.deadline - time.time()

    def pick(self, full: int, dry: int) -> int:
        """A size or a number of rounds."""
        return dry if self.dry else full

    def cases(self) -> Path:
        """The folder of prepared cases; ends the part if there is none."""
        if self.stores is None or not (self.stores / "plans.json").is_file():
            raise SystemExit(
                "no prepared cases: gpu_proof.py --prepare FOLDER DATA writes them, --stores FOLDER names them"
            )
        return self.stores

    def row(self, name: str, **values: object) -> None:
        """Write one result, at once."""
        write_row(self.out, {"part": self.part, "row": name, **values})

    def attempt(self, name: str, measure: Callable[[], dict[str, object]]) -> None:
        """Write the row of a measurement, or what it failed of: the next one is tried all the same."""
        try:
            values = measure()
        except Exception as error:
            text = str(error)
            values = {"failed": f"{type(error).__name__}: {text[:600]}"}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.row(name, **values)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], rounds: int, warm_up: int = 3) -> float:
        """Median seconds of one call, the device's work included."""
        for _ in range(warm_up):
            work()
        found = []
        for _ in range(rounds):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    def restart_peak(self) -> None:
        """Count the peak of memory anew."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mb(self) -> dict[str, float | None]:
        """Peak of allocated and of reserved memory in MB; unknown on a CPU."""
        if self.device.type != "cuda":
            return {"allocated_mb": None, "reserved_mb": None}
        return {
            "allocated_mb": torch.cuda.max_memory_allocated(self.device) / 1e6,
            "reserved_mb": torch.cuda.max_memory_reserved(self.device) / 1e6,
        }


def write_row(out: Path, values: dict[str, object]) -> None:
    """Append a line of JSON and see it written: whatever ends the process later, the line stays."""
    with (out / ROWS).open("a") as file:
        file.write(json.dumps({key: _rounded(value) for key, value in values.items()}, default=str) + "\n")
        file.flush()
    print(values, flush=True)


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value
