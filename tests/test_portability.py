"""Nothing in the package needs what Windows lacks."""

import ast
import json
import os
import pickle
import signal
from pathlib import Path

from short_trainers import loop_of
from toy_fixture import toy  # noqa: F401

from gdmunet.claims import Claim
from gdmunet.training.patches.stream import PatchLoader
from gdmunet.training.trainers.fidelity import FidelityTrainer

PACKAGE = Path(__file__).parents[1] / "gdmunet"
FILES = sorted(PACKAGE.rglob("*.py"))
# Names of `os` and `signal` with "Availability: Unix" in Python's documentation, as far as a program like this one
# would use them, and modules that are not there at all.
OS = {
    "chown", "chroot", "confstr", "ctermid", "fchmod", "fchown", "fork", "forkpty", "geteuid", "getegid", "getgid",
    "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown", "mkfifo",
    "mknod", "nice", "openpty", "pread", "pwrite", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpgid",
    "setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "uname", "wait3", "wait4", "waitid",
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC",
}  # fmt: skip
SIGNAL = {
    "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGCONT",
    "SIGXCPU", "alarm", "pause", "setitimer", "pthread_kill", "sigwait", "pthread_sigmask",
}  # fmt: skip
MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "posix"}
# Where the system is asked for first.
GUARDED = {
    "device_memory.py: resource",
    "device.py: os.sched_getaffinity",
}


def uses(file):
    """What a file takes of `os`, `signal` and the modules above."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        owner = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else None
        if owner is not None and node.attr in {"os": OS, "signal": SIGNAL}.get(owner, ()):
            yield f"{owner}.{node.attr}"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name in MODULES or name in {f"os.{n}" for n in OS} | {f"signal.{n}" for n in SIGNAL}:
                yield name


def test_no_file_uses_what_windows_lacks_unless_the_system_is_asked_first():
    found = {f"{file.relative_to(PACKAGE).as_posix()}: {use}" for file in FILES for use in uses(file)}
    assert found == GUARDED


def as_on_windows(monkeypatch):
    for module, names in ((os, OS), (signal, SIGNAL)):
        # Tests that take too long are ended by the last three.
        for name in names - {"alarm", "setitimer", "SIGALRM"}:
            monkeypatch.delattr(module, name, raising=False)


def test_a_fold_is_claimed_and_trained_without_what_windows_lacks(toy, monkeypatch):  # noqa: F811
    kind = type("Short", (FidelityTrainer,), {"__module__": __name__, "epochs": 1, "iterations_per_epoch": 2})
    loop = loop_of(toy, kind)
    as_on_windows(monkeypatch)
    running = loop.folder.running
    with Claim(running, "training"):
        assert json.loads(running.read_text())["owner"]["host"]
        loop.train(0)
    assert loop.folder.checkpoint("final").is_file()
    assert not running.exists()


def test_a_loader_goes_to_a_process_that_is_spawned(toy):  # noqa: F811
    """Windows has no fork: the loader is pickled."""
    loop = loop_of(toy, FidelityTrainer)
    source = loop.data.source(loop.data.training, 0.8, 1)
    loader = PatchLoader(source, loop.trainer.augmentation(), 2, 1)
    other = pickle.loads(pickle.dumps(loader))
    one, again = next(loader), next(other)
    assert (one["condition"] == again["condition"]).all()
