"""Part 4: the real loop with reading processes: how long a step waits for its patches."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

from gdmunet.paths import Folders
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gpu_parts.setting import Setting
from gpu_parts.stores import fold_of, small

WORKERS = 12


def run(setting: Setting) -> None:
    """The patches that come without a step, then an epoch of fidelity and one of the method."""
    cores = len(os.sched_getaffinity(0))
    workers = setting.pick(max(1, min(WORKERS, cores - 1)), 1)
    setting.attempt("patches alone", lambda: patches(setting, workers))
    for kind, steps in ((FidelityTrainer, setting.pick(150, 2)), (GDMTrainer, setting.pick(80, 2))):
        setting.attempt(kind.__name__, lambda row=(kind, steps): epoch(setting, *row, workers))


def opened(setting: Setting, kind: type[FidelityTrainer], steps: int, folder: str) -> Loop:
    """A loop over the prepared cases in 3D, whose epoch is all of it."""
    changes = {"iterations": steps, "iterations_per_epoch": steps, "validation_patches": 2, "warmup_share": 0.0}
    if issubclass(kind, GDMTrainer):
        changes |= {"feature_start": 0.0, "bank_patches": setting.pick(64, 2)}
    fold = fold_of(setting.cases(), "3d_fullres")
    fold = small(fold) if setting.dry else fold
    folders = Folders(*(Path(folder) / name for name in ("raw", "preprocessed", "results")))
    return open_loop(kind.derive({k: str(v) for k, v in changes.items()}), fold, folders, setting.device, False)


def patches(setting: Setting, workers: int) -> dict[str, object]:
    """Patches a second that arrive, augmented on the device, with nothing else to do."""
    batches = setting.pick(60, 2)
    with tempfile.TemporaryDirectory() as folder:
        loop = opened(setting, FidelityTrainer, batches, folder)
        with closing(loop._open_stream(workers)) as stream:
            next(stream)
            setting.wait()
            started = time.perf_counter()
            for _ in range(batches):
                next(stream)
            setting.wait()
            seconds = time.perf_counter() - started
    size = loop.data.configuration.batch_size
    return {"workers": workers, "patch": loop.data.configuration.patch_size, "patches_per_s": size * batches / seconds}


def epoch(setting: Setting, kind: type[FidelityTrainer], steps: int, workers: int) -> dict[str, object]:
    """The journal's row of one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        loop = opened(setting, kind, steps, folder)
        loop.train(workers)
        (file,) = Path(folder).rglob("journal.jsonl")
        (row,) = [json.loads(line) for line in file.read_text().splitlines() if '"wait_share"' in line]
    kept = ("wait_share", "seconds", "validation_seconds", "peak_memory_mb", "validation_mae")
    return {"workers": workers, "steps": steps, "ms_per_step": 1000 * row["seconds"] / steps} | {
        k: row[k] for k in kept
    }
