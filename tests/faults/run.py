"""Faults by the thousand, with real processes: ``python tests/faults/run.py --faults 1000 --seed 0``.

Every fault is a fork of this process, which has everything imported and opened nothing. The command meets its fault;
then it is called again as a user would, without one. In the end the workplace must hold what an undisturbed run leaves
(the same bits, but for times), the sources must be as they were, and nothing half written may be left. A line for each
fault goes into the journal; a run that was ended goes on where it stood.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "samples"), str(HERE.parents[1])]
# Only the stand-in of a hub is asked for anything.
os.environ["HF_HUB_OFFLINE"] = "1"

import psutil
import torch
from injection import KINDS, Events, inject
from loopback_hub import Hub
from workplace import BY_NAME, COMMANDS, HUB, Command, build_states, contents, fresh, leftovers

torch.set_num_threads(1)
# Seconds of a command of a few volumes after which it counts as hanging.
LONGEST = 600.0
# What a file may suffer between two commands.
DAMAGES = ("cut", "flipped", "emptied")
# What happens to a process that works for a command, and the limit of its patience in seconds.
WORKERS = ("stopped worker", "killed worker")
SHORT_WAIT = 4.0


@dataclass(frozen=True)
class Fault:
    """One fault: the command, the kind, and the event (or the draw) that it belongs to."""

    command: str
    kind: str
    number: int

    @property
    def name(self) -> str:
        """Its key in the journal."""
        return f"{self.command} {self.kind} {self.number}"


@dataclass(frozen=True)
class Ended:
    """How a forked command ended: exit status (negative: by a signal; None: it hung), and what it printed."""

    status: int | None
    text: str


def forked(work: Callable[[], int], log: Path, longest: float = LONGEST) -> Ended:
    """Call a function in a fork of this process."""
    child = start(work, log)
    return wait(child, log, longest)


def start(work: Callable[[], int], log: Path) -> int:
    """Fork; the child writes into the log and ends with what the function returns."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setsid()
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        status = work()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, log: Path, longest: float = LONGEST) -> Ended:
    """The end of a child, within a time."""
    limit = time.monotonic() + longest
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace") if log.exists() else "")
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return Ended(None, log.read_text(errors="replace"))


class Proof:
    """The states, the undisturbed outcome of every command, and the faults against it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self.outcomes: dict[str, dict[str, str]] = {}
        self.events: dict[str, int] = {}
        self.syncs: dict[str, int] = {}
        self.names: list[str] = []

    def prepare(self, names: list[str]) -> None:
        """Make the states, and run every command once undisturbed while its events are counted."""
        self.names = names
        states = {BY_NAME[name].state for name in names}
        if not all((self.folder / state).is_dir() for state in states):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            made = forked(lambda: build_states(self.folder, states) or 0, self.log)
            assert made.status == 0, made.text
        known = self.folder / "outcomes.json"
        if known.exists():
            self.outcomes, self.events, self.syncs = json.loads(known.read_text())
        for name in names:
            if name in self.outcomes:
                continue
            command = BY_NAME[name]
            work = fresh(self.folder, command)
            self.log.unlink(missing_ok=True)
            ended = forked(functools.partial(self._counted, command, work), self.log)
            assert ended.status == 0, f"{name}: {ended.text}"
            counts = json.loads((self.folder / "counts.json").read_text())
            self.events[name], self.syncs[name] = counts["events"], counts["syncs"]
            self.outcomes[name] = contents(work)
            assert not leftovers(work), leftovers(work)
            known.write_text(json.dumps([self.outcomes, self.events, self.syncs]))

    def _counted(self, command: Command, work: Path) -> int:
        import gdmunet.atomic as atomic

        syncs, sync = [0], atomic._sync_file

        def counted(path: Path) -> None:
            syncs[0] += 1
            sync(path)

        atomic._sync_file = counted
        events = Events(work, lambda *_: None)
        status = command.run(command.words, work)
        (self.folder / "counts.json").write_text(json.dumps({"events": events.count, "syncs": syncs[0]}))
        return status

    def faults(self) -> list[Fault]:
        """Every fault at every event, in order of the commands."""
        found = []
        for name in self.names:
            count = self.events[name]
            for kind in KINDS:
                if kind == "removed" and name == "evaluate":
                    continue  # its output folder holds its input as well
                last = self.syncs[name] if kind == "torn" else count
                found += [Fault(name, kind, number) for number in range(1, last + 1)]
            found += [Fault(name, "two writers", number) for number in range(4)]
            found += [Fault(name, damage, number) for damage in DAMAGES for number in range(8)]
            if BY_NAME[name].workers is not None:
                found += [Fault(name, kind, number) for kind in WORKERS for number in range(4)]
        return found

    def suffer(self, fault: Fault) -> dict[str, object]:
        """Let a command meet the fault, and judge what it comes to."""
        command = BY_NAME[fault.command]
        work = fresh(self.folder, command)
        before = contents(work)
        self.log.unlink(missing_ok=True)
        if fault.kind == "two writers":
            return self._two(fault, command, work)
        if fault.kind in DAMAGES:
            return self._damaged(fault, command, work)
        if fault.kind in WORKERS:
            return self._worker(fault, command, work, before)
        outputs = [work / output for output in command.outputs]

        def meet() -> int:
            inject(fault.kind, fault.number, work, outputs)
            return command.run(command.words, work)

        ended = forked(meet, self.log)
        problems = []
        if ended.status is None:
            problems.append("hung")
        if "Traceback" in ended.text:
            problems.append("traceback")
        expected = {"kill": (-9, 0), "torn": (-9, 0), "term": (143, 0)}.get(fault.kind, (1, 0))
        if ended.status not in (*expected, None):
            problems.append(f"status {ended.status}")
        if fault.kind == "removed":
            if ended.status == 0 and (contents(work).items() < self.outcomes[command.name].items()):
                problems.append("silently wrong: a folder is gone, and the status is 0")
            before = {path: sum_ for path, sum_ in before.items() if not path.startswith(command.outputs)}
        if ended.status == 0 and fault.kind != "removed":
            problems += self._differences(command, work)
        problems += self._lost(command, work, before)
        return self._again(fault, command, work, ended, problems)

    def _differences(self, command: Command, work: Path, but: str = "-") -> list[str]:
        wanted, found = self.outcomes[command.name], contents(work)
        wrong = sorted(
            path
            for path in wanted.keys() | found.keys()
            if wanted.get(path) != found.get(path) and not path.endswith(but)
        )
        return [f"differs: {', '.join(wrong[:3])}"] if wrong else []

    def _lost(self, command: Command, work: Path, before: dict[str, str]) -> list[str]:
        """Files that were there and are gone or damaged; a training set aside counts as there."""
        found = contents(work)
        lost = []
        for path, content in before.items():
            now = found.get(path) or found.get(path.replace("/fold_0/", "/previous_fold_0/"))
            may_go = any(path.startswith(output) for output in command.outputs)
            if (
                (now is None and not may_go)
                or (now or "").startswith("damaged")
                or (now not in (None, content) and not may_go)
            ):
                lost.append(path)
        return [f"lost: {', '.join(lost[:3])}"] if lost else []

    def _again(
        self, fault: Fault, command: Command, work: Path, ended: Ended, problems: list[str]
    ) -> dict[str, object]:
        """Call the command as a user would after the fault; it must come to what an undisturbed run comes to."""
        said, healed = [], False
        for words in command.again:
            self.log.unlink(missing_ok=True)
            second = forked(functools.partial(command.run, words, work), self.log)
            said.append(second.text)
            if "Traceback" in second.text or second.status is None:
                problems.append("traceback or hang when called again")
            if second.status == 0:
                healed = True
                break
        # A journal that somebody removed begins anew; rows of epochs that are over do not come back.
        differences = self._differences(command, work, "journal.jsonl" if fault.kind == "removed" else "-")
        if differences and not healed:
            problems.append("does not heal")  # refused since it was done already is as good
        problems += differences + [f"left: {left}" for left in leftovers(work)[:2]]
        return row(fault, ended.status, problems, ended.text, *said)

    def _two(self, fault: Fault, command: Command, work: Path) -> dict[str, object]:
        """Two processes at once: one does it; the other is refused, or comes when it is done."""
        draw = random.Random(fault.name)
        logs = [self.folder / f"log_{number}.txt" for number in range(2)]
        children = []
        for log in logs:
            log.unlink(missing_ok=True)
            children.append(start(lambda: command.run(command.words, work), log))
            time.sleep(draw.random() * 0.5)
        ends = [wait(child, log) for child, log in zip(children, logs, strict=True)]
        problems = ["hung" for end in ends if end.status is None]
        problems += ["traceback" for end in ends if "Traceback" in end.text]
        if all(end.status != 0 for end in ends):
            problems.append(f"nobody did it: {[end.status for end in ends]}")
        problems += [f"status {end.status}" for end in ends if end.status not in (0, 1, None)]
        joined = Ended(max((end.status or 0 for end in ends), default=0), "\n".join(end.text for end in ends))
        wrong = self._differences(command, work)
        problems += wrong + [f"left: {left}" for left in leftovers(work)[:2]]
        return row(fault, joined.status, problems, joined.text)

    def _worker(self, fault: Fault, command: Command, work: Path, before: dict[str, str]) -> dict[str, object]:
        """A worker process or a loader is stopped or killed: one message that names it; then as after any fault."""
        draw = random.Random(fault.name)

        def patiently() -> int:
            os.environ["GDM_WAIT_LIMIT"] = str(SHORT_WAIT)
            return command.run((*command.words, *(command.workers or ())), work)

        child = start(patiently, self.log)
        worker = hit_worker(child, signal.SIGSTOP if fault.kind == WORKERS[0] else signal.SIGKILL, draw.random() * 2)
        ended = wait(child, self.log)
        problems = ["hung"] if ended.status is None else []
        problems += ["traceback"] if "Traceback" in ended.text else []
        problems += [] if ended.status in (0, 1, None) else [f"status {ended.status}"]
        if ended.status == 0:
            problems += self._differences(command, work)
        elif worker and not any(word in ended.text for word in ("process", "loader")):
            problems.append("the message does not speak of the process")
        if worker and psutil.pid_exists(worker):
            problems.append("the worker is left")
        return self._again(fault, command, work, ended, problems + self._lost(command, work, before))

    def _damaged(self, fault: Fault, command: Command, work: Path) -> dict[str, object]:
        """One file of the state is cut, emptied or has a flipped bit: an error, or the outcome as if it had not."""
        draw = random.Random(fault.name)
        files = [path for path in sorted(work.rglob("*")) if path.is_file() and _may_be_damaged(path, fault.kind)]
        file = draw.choice(files)
        content = bytearray(file.read_bytes())
        place = draw.randrange(len(content))
        if fault.kind == "flipped":
            content[place] ^= 1 << draw.randrange(8)
        else:
            content = content[: 0 if fault.kind == "emptied" else place]
        file.write_bytes(content)
        stat = file.stat()
        ended = forked(lambda: command.run(command.words, work), self.log)
        problems = ["hung"] if ended.status is None else []
        problems += ["traceback"] if "Traceback" in ended.text else []
        if ended.status == 0:
            name = str(file.relative_to(work))
            wanted, found = dict(self.outcomes[command.name]), contents(work)
            if file.exists() and file.stat().st_mtime_ns == stat.st_mtime_ns:
                wanted.pop(name, None)  # the command has not touched the damaged file
                found.pop(name, None)
            # A copy of a damaged file is as damaged, and is refused by whoever reads it.
            found = {path: wanted.get(path, "") if one.startswith("damaged") else one for path, one in found.items()}
            wrong = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
            problems += [f"silently wrong: {name} was {fault.kind}, {', '.join(wrong[:3])} differ"] if wrong else []
        elif ended.status != 1 and ended.status is not None:
            problems.append(f"status {ended.status}")
        return row(fault, ended.status, problems, f"{file.relative_to(work)}\n{ended.text}")


def hit_worker(parent: int, number: int, after: float) -> int | None:
    """Send a signal to a worker of a command some time after it began; None: the command was done before."""
    process = psutil.Process(parent)
    while True:
        try:
            workers = [one for one in process.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        if workers:
            time.sleep(after)
            try:
                workers[0].send_signal(number)
            except psutil.Error:
                return None
            return workers[0].pid
        time.sleep(0.01)


def row(fault: Fault, status: int | None, problems: list[str], *said: str) -> dict[str, object]:
    """The line of the journal: what the fault came to, and what was printed if that is a problem."""
    told = [text[-1500:] for text in said] if problems else []
    key = {"fault": fault.name, "kind": fault.kind, "command": fault.command}
    return {**key, "status": status, "problems": problems, "said": told}


def _may_be_damaged(path: Path, kind: str) -> bool:
    """A flipped bit in a text may be another number that is as good: such files are only cut and emptied."""
    if path.stat().st_size == 0 or path.suffix in (".png", ".txt"):
        return False
    return kind != "flipped" or path.name.endswith((".nii.gz", ".safetensors", ".zip", ".b2nd", ".pt"))


def table(rows: list[dict[str, object]]) -> str:
    """What was injected, how often, and what survived, as Markdown."""
    lines = [
        "| fault | injected | survived | lost | silently wrong | hung | other problems |",
        "|---|---|---|---|---|---|---|",
    ]
    kinds = collections.Counter(str(row["kind"]) for row in rows)
    for kind, count in sorted(kinds.items()):
        problems = [list(row["problems"]) for row in rows if row["kind"] == kind and row["problems"]]
        columns = [
            sum(any(problem.startswith(word) for problem in some) for some in problems)
            for word in ("lost", "silently wrong", "hung")
        ]
        others = len(problems) - sum(columns)
        cells = (kind, count, count - len(problems), *columns, others)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    """Run the faults that the journal does not hold yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=[command.name for command in COMMANDS])
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--journal", type=Path, default=Path("faults.jsonl"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gdmunet-faults")
    parser.add_argument("--only", help="one fault by its name, as the journal has it")
    arguments = parser.parse_args()
    import_everything()
    serve_hub()
    proof = Proof(arguments.folder)
    proof.prepare(arguments.commands)
    faults = proof.faults()
    print(f"{len(faults)} faults exist: {proof.events}", flush=True)
    if arguments.kinds:
        faults = [fault for fault in faults if fault.kind in arguments.kinds]
    faults = in_turns(faults, arguments.seed)
    if arguments.only:
        faults = [fault for fault in faults if fault.name == arguments.only]
    rows = (
        [json.loads(line) for line in arguments.journal.read_text().splitlines()] if arguments.journal.exists() else []
    )
    done = {row["fault"] for row in rows}
    for fault in faults[: arguments.faults]:
        if fault.name in done and not arguments.only:
            continue
        begin = time.monotonic()
        rows.append(proof.suffer(fault) | {"seconds": round(time.monotonic() - begin, 2)})
        with arguments.journal.open("a") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
        if rows[-1]["problems"]:
            print(f"{fault.name}: {rows[-1]['problems']}", flush=True)
    print(table(rows))
    return 1 if any(one["problems"] for one in rows) else 0


def in_turns(faults: list[Fault], seed: int) -> list[Fault]:
    """The faults in a drawn order in which every command meets each kind before it meets one for a second time."""
    random.Random(seed).shuffle(faults)
    turns: collections.Counter[tuple[str, str]] = collections.Counter()
    placed = []
    for fault in faults:
        turns[fault.command, fault.kind] += 1
        placed.append((turns[fault.command, fault.kind], fault))
    return [fault for _, fault in sorted(placed, key=lambda one: one[0])]


def serve_hub() -> None:
    """A hub on this machine from which weights are downloaded."""
    from gdmunet.encoders.registry import FAMILIES

    source, hub = FAMILIES["ct-fm"].source, Hub()
    assert source is not None
    hub.files[source.url(hub="")] = random.Random(0).randbytes(300_000)
    os.environ[HUB] = hub.url


def import_everything() -> None:
    """What the commands import, without its doing anything: a fork then begins at once."""
    import importlib
    import pkgutil

    import gdmunet

    for module in pkgutil.walk_packages(gdmunet.__path__, "gdmunet."):
        importlib.import_module(module.name)
    import blosc2  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import SimpleITK  # noqa: F401


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    sys.exit(main())
