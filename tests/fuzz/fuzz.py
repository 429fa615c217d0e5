"""Damaged files for every reader, in a child process: each gives a value or a GdmError, soon, and without much memory.

    python tests/fuzz/fuzz.py --inputs 100000 --seed 1 --folder FOLDER

The same seed gives the same inputs. Counts are printed at the end and kept in FOLDER/counts.json after every input that
failed and every thousandth, so that the same command goes on where it was stopped. Inputs that failed lie in
FOLDER/faults, with what happened.
"""

import argparse
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import TextIO

sys.path.insert(0, str(Path(__file__).parent))

from mutations import damaged
from readers import READERS, chosen

from gdmunet.errors import GdmError
from gdmunet.plain_text import printable

MOST_SECONDS = 15.0
MOST_BYTES = 2_000_000_000
# More than MOST_BYTES above what libraries take: whoever asks for a terabyte gets a MemoryError, and not the machine.
_ADDRESS_SPACE = 3_000_000_000
# A child is replaced after so many inputs, so that the peak of its memory is theirs.
_INPUTS_PER_CHILD = 2000


def main() -> int:
    """Run the inputs; the exit status says whether all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="state and faults; default: a new temporary folder")
    parser.add_argument("--readers", nargs="*", default=(), help="only these readers")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    return Campaign(folder, options.seed, options.inputs, tuple(options.readers)).run()


class Campaign:
    """The parent: starts children, watches their time, and counts."""

    def __init__(self, folder: Path, seed: int, inputs: int, readers: tuple[str, ...] = ()) -> None:
        self.folder, self.seed, self.inputs, self.readers = folder, seed, inputs, readers
        self.folder.mkdir(parents=True, exist_ok=True)
        self.counts: Counter[str] = Counter()
        self.next, self.seconds, self.peak, self.slowest = 0, 0.0, 0, 0.0
        self._state = folder / "counts.json"
        if self._state.is_file():
            saved = json.loads(self._state.read_text())
            if saved["seed"] == seed and saved["readers"] == list(readers):
                self.counts, self.next, self.seconds = Counter(saved["counts"]), saved["next"], saved["seconds"]
                self.peak, self.slowest = saved["peak"], saved["slowest"]

    def run(self) -> int:
        """All inputs; 0 if none failed."""
        while self.next < self.inputs:
            self._run_child()
            self.save()
        print(self.table())
        return int(any(key.endswith("fault") for key in self.counts))

    def save(self) -> None:
        """Keep the counts, so that the same command goes on."""
        saved = {"seed": self.seed, "readers": list(self.readers), "next": self.next, "seconds": self.seconds}
        saved |= {"peak": self.peak, "slowest": self.slowest, "counts": dict(self.counts)}
        beside = self._state.with_suffix(".tmp")
        beside.write_text(json.dumps(saved, indent=1))
        beside.replace(self._state)

    def table(self) -> str:
        """Counts for people: a row for each reader."""
        names = sorted({key.rpartition("|")[0] for key in self.counts})
        rows = ["| reader | inputs | values | errors | faults |", "|---|---|---|---|---|"]
        for name in [*names, "all"]:
            counts = [
                sum(
                    n
                    for key, n in self.counts.items()
                    if key.endswith(kind) and name in (key.rpartition("|")[0], "all")
                )
                for kind in ("|value", "|error", "|fault")
            ]
            rows.append(f"| {name} | {sum(counts)} | {' | '.join(map(str, counts))} |")
        rows.append(
            f"\nseed {self.seed}, {self.seconds:.0f} s, slowest {self.slowest:.1f} s, peak {self.peak / 1e6:.0f} MB"
        )
        return "\n".join(rows)

    def _run_child(self) -> None:
        """One process, forked off this one, which has imported everything."""
        stop = min(self.inputs, self.next + _INPUTS_PER_CHILD)
        began = time.monotonic()
        answers, out = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(answers)
            status = 1
            try:
                self._in_child(range(self.next, stop), out)
                status = 0
            finally:
                os._exit(status)
        os.close(out)
        name = self._listen(child, answers, stop)
        os.close(answers)
        if not name:
            raise RuntimeError((self.folder / "child.log").read_text()[-4000:])
        self.seconds += time.monotonic() - began

    def _in_child(self, numbers: range, out: int) -> None:
        log = os.open(self.folder / "child.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)  # what readers and libraries print is no answer
        os.dup2(log, 2)
        try:
            run_inputs(self.seed, numbers, self.folder, self.readers, os.fdopen(out, "w", buffering=1))
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            raise

    def _listen(self, child: int, answers: int, stop: int) -> str:
        """Count the answers until the child ends; gives the name of its last reader."""
        with selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            buffer, name, started = b"", "", None
            while True:
                limit = 120.0 if started is None else started + MOST_SECONDS + 5 - time.monotonic()
                if not selector.select(max(0.0, limit)):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    self._fault(name, f"no answer within {MOST_SECONDS} s")
                    return name
                data = os.read(answers, 1 << 16)
                if not data:
                    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    if status == 1:  # the loop itself, and no reader
                        raise RuntimeError((self.folder / "child.log").read_text()[-4000:])
                    if self.next < stop and name:
                        self._fault(name, f"the process ended with {status}")
                    return name
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    word, _, rest = line.decode().partition(" ")
                    if word == "start":
                        name = rest
                    else:
                        self._count(name, word, json.loads(rest))
                    started = time.monotonic()

    def _count(self, name: str, word: str, facts: dict) -> None:
        self.next += 1
        self.peak, self.slowest = max(self.peak, facts["peak"]), max(self.slowest, facts["seconds"])
        self.counts[f"{name}|{word}"] += 1
        if word == "fault":
            print(f"input {self.next - 1} ({name}): {facts['what']}", flush=True)
        if word == "fault" or self.next % 500 == 0:
            self.save()

    def _fault(self, name: str, what: str) -> None:
        """The child is gone: the input at which it was is kept."""
        kept = self.folder / "faults" / f"{self.next}"
        kept.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "child.log").read_bytes()[-4000:].decode(errors="replace")
        (kept / "what.txt").write_text(f"{name}: {what}\n{log}")
        for file in (self.folder / "input").glob("*"):
            shutil.copy(file, kept)
        self.next += 1
        self.counts[f"{name}|fault"] += 1
        print(f"input {self.next - 1} ({name}): {what}", flush=True)


def run_inputs(seed: int, numbers: range, folder: Path, names: tuple[str, ...], answers: TextIO) -> None:
    """The child: damages, reads, and says what came of it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE,) * 2)
    warnings.simplefilter("ignore")
    last = folder / "input"
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        places = {}
        for number in numbers:
            random = Random(f"{seed}/{number}")
            reader = chosen(random, names)
            place = Path(work) / str(READERS.index(reader))
            if reader.name not in places:
                place.mkdir()
                reader.make(place)
                places[reader.name] = {name: (place / name).read_bytes() for name in reader.damaged}
            name = random.choice(list(reader.damaged))
            data = damaged(places[reader.name][name], random, reader.damaged[name])
            (place / name).write_bytes(data)
            shutil.rmtree(last, ignore_errors=True)
            last.mkdir(parents=True)
            (last / Path(name).name).write_bytes(data)
            print(f"start {reader.name}", file=answers)
            word, facts = outcome(reader.read, place, GdmError)
            if word == "fault":
                kept = folder / "faults" / str(number)
                shutil.copytree(last, kept, dirs_exist_ok=True)
                (kept / "what.txt").write_text(f"{reader.name}: {facts['what']}\n{facts.pop('trace', '')}")
            print(word, json.dumps(facts), file=answers)
            (place / name).write_bytes(places[reader.name][name])


def outcome(read, place: Path, expected: type[Exception]) -> tuple[str, dict]:
    """What a reader does with a folder: a value, an error that names a file and can be printed, or a fault."""
    before, began = _peak(), time.monotonic()
    facts: dict = {"what": ""}
    try:
        read(place)
        word = "value"
    except expected as error:
        word = "error"
        text = str(error)
        if getattr(error, "file", None) is None:
            word, facts["what"] = "fault", f"an error without its file: {text[:300]}"
        elif printable(text) != text:
            word, facts["what"] = "fault", f"an error with escapes: {text[:300]!r}"
        facts["trace"] = "".join(traceback.format_exception(error)) if word == "fault" else ""
    except BaseException as error:  # whatever else comes is what is looked for
        word, facts["what"] = "fault", f"{type(error).__name__}: {str(error)[:300]}"
        facts["trace"] = "".join(traceback.format_exception(error)[-30:])
    facts["seconds"], facts["peak"] = time.monotonic() - began, _peak()
    if word != "fault" and facts["seconds"] > MOST_SECONDS:
        word, facts["what"] = "fault", f"took {facts['seconds']:.0f} s"
    if word != "fault" and facts["peak"] > MOST_BYTES > before:
        word, facts["what"] = "fault", f"took {facts['peak'] / 1e6:.0f} MB"
    if word != "fault":
        facts.pop("trace", None)
    return word, facts


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main())
