"""A tiny workplace for every command: the states that it starts from, how it is called, and what it must come to."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATASET = "Dataset502_DemoPhantoms"
MODEL = "FidelityTrainer-epochs=2-iterations_per_epoch=2-validation_patches=2__gdmPlans_tiny__3d_fullres"
TRAINING = ["--epochs", "2", "--set", "iterations_per_epoch=2", "validation_patches=2", "-device", "cpu", "-np", "0"]
# Numbers that no two runs share.
_VOLATILE = {"seconds", "validation_seconds", "wait_share", "peak_memory_mb", "created", "files", "simulation_seconds"}
# Pictures, logs for people, a state whose outcome is the weights, and the demonstration's own.
_NOT_COMPARED = {".png", ".txt", ".html", ".pt"}


@dataclass(frozen=True)
class Command:
    """A command in the faults' workplace.

    Attributes
    ----------
    state
        Name of the prepared state that it starts from.
    words
        Its command line; ``{w}`` is the workplace.
    again
        Command lines that a user would try after a fault, in this order, until one ends with status 0.
    outputs
        Folders, below the workplace, that it writes into.
    workers
        Words that are added to its command line so that other processes do the work; empty: it has none.
    """

    name: str
    module: str
    state: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    again: tuple[tuple[str, ...], ...] = ()
    workers: tuple[str, ...] = ()

    def line(self, words: Sequence[str], work: Path) -> list[str]:
        """The words with the workplace in them."""
        return [word.replace("{w}", str(work)) for word in words]

    def run(self, words: Sequence[str], work: Path) -> int:
        """Call the command in this process."""
        main = importlib.import_module(f"gdmunet.cli.{self.module}").main
        return main(self.line(words, work)) or 0


_RAW = ("--raw", "{w}/raw")
_PREPARED = ("--preprocessed", "{w}/preprocessed")
_QUIET = ("--no_pbar",)
_STORE = f"preprocessed/{DATASET}/gdmPlans_tiny_3d_fullres"
_MODEL = f"{{w}}/results/{DATASET}/{MODEL}"
_MEASURE = ("-d", "502", "-np", "1", *_QUIET, *_RAW, *_PREPARED)
_PREPROCESS = (*_MEASURE, "-c", "3d_fullres")
_TRAIN = ("502", "3d_fullres", "0", "-p", "gdmPlans_tiny", "-tr", "FidelityTrainer", *TRAINING, *_QUIET, *_RAW)
_TRAIN = (*_TRAIN, *_PREPARED, "--results", "{w}/results")
_PREDICT = ("-i", f"{{w}}/raw/{DATASET}/imagesTr", "-o", "{w}/predicted", "-m", _MODEL, "-f", "0", *_QUIET)
_PREDICT = (*_PREDICT, "--mask", f"{{w}}/raw/{DATASET}/masksTr", "-device", "cpu")
_SIMULATE = ("-i", f"{{w}}/raw/{DATASET}/targetsTr", "-d", "503", "-n", "Few", "--views", "12", "-np", "1")
_SIMULATE = (*_SIMULATE, "--field_of_view", "80", *_QUIET, *_RAW)
_NEW = ("-d", "504", "-n", "New", "-i", "{w}/plain/mr", "-t", "{w}/plain/ct", "-m", "{w}/plain/masks")
_NEW = (*_NEW, "--channel", "MR", "--target", "CT", *_RAW)
_EVALUATE = ("-ref", f"{{w}}/raw/{DATASET}/targetsTr", "-pred", "{w}/predicted", "-np", "1", *_QUIET)
_AVERAGE = ("-i", "{w}/predicted", "{w}/predicted_too", "-o", "{w}/mean", *_QUIET)
_EXPORT = ("-m", _MODEL, "-o", "{w}/packed/model.zip", "-f", "0")
_IMPORT = ("{w}/packed/model.zip", "--results", "{w}/other")
_CONTINUE = ((*_TRAIN, "--c"), _TRAIN, (*_TRAIN, "--overwrite"))
_FOLD = f"results/{DATASET}/{MODEL}/fold_0"
_TWO, _LOADER = ("-np", "2"), ("-np", "1")

COMMANDS = (
    Command("new_dataset", "new_dataset", "raw", _NEW, ("raw/Dataset504_New",), (_NEW,)),
    Command("simulate_svct", "simulate_svct", "raw", _SIMULATE, ("raw/Dataset503_Few",), (_SIMULATE,), _TWO),
    Command("fingerprint", "extract_fingerprint", "raw", _MEASURE, (f"preprocessed/{DATASET}",), (_MEASURE,), _TWO),
    Command("preprocess", "preprocess", "planned", _PREPROCESS, (_STORE,), (_PREPROCESS,), _TWO),
    Command("preprocess_clean", "preprocess", "prepared", (*_PREPROCESS, "--clean"), (_STORE,), (_PREPROCESS,)),
    Command("train", "train", "prepared", _TRAIN, (f"results/{DATASET}",), _CONTINUE, _LOADER),
    Command("train_again", "train", "trained", (*_TRAIN, "--overwrite"), (f"results/{DATASET}",), _CONTINUE),
    Command("validate", "train", "trained", (*_TRAIN, "--val"), (f"{_FOLD}/validation",), ((*_TRAIN, "--val"),)),
    Command("predict", "predict", "trained", _PREDICT, ("predicted",), ((*_PREDICT, "--continue_prediction"),)),
    Command("evaluate", "evaluate", "predicted", _EVALUATE, ("predicted",), (_EVALUATE,), _TWO),
    Command("ensemble", "ensemble", "predicted", _AVERAGE, ("mean",), (_AVERAGE,)),
    Command("export_model", "export_model", "trained", _EXPORT, ("packed",), (_EXPORT,)),
    Command("import_model", "import_model", "exported", _IMPORT, ("other",), (_IMPORT,)),
)
# In the order in which they are made.
STATES = ("raw", "planned", "prepared", "trained", "exported", "predicted")
BY_NAME = {command.name: command for command in COMMANDS}


def build_states(folder: Path, wanted: set[str]) -> None:
    """Make the wanted states and those before them, each a folder of its own; called in a process of its own."""
    last = max(STATES.index(state) for state in wanted)
    from gdmunet.cli import plan_and_preprocess
    from gdmunet.conversion.phantoms import make_phantom_demo

    work = folder / "work"
    make_phantom_demo(work / "raw", cases=4, size=16, show_progress=False)
    for source, name in (("imagesTr", "mr"), ("targetsTr", "ct"), ("masksTr", "masks")):
        shutil.copytree(work / "raw" / DATASET / source, work / "plain" / name)
    for file in (work / "plain/mr").iterdir():
        file.rename(file.with_name(file.name.replace("_0000", "")))
    _keep(work, folder / "raw")
    if last == 0:
        return
    words = ["-d", "502", "-pl", "tiny", "-c", "3d_fullres", "-np", "1", "--no_pbar", "-device", "cpu"]
    words += ["-tr", "FidelityTrainer", "--raw", str(work / "raw"), "--preprocessed", str(work / "preprocessed")]
    assert plan_and_preprocess.main([*words, "--no_pp"]) == 0
    shutil.rmtree(work / f"preprocessed/{DATASET}/gdmPlans_tiny_3d_fullres", ignore_errors=True)
    _keep(work, folder / "planned")
    made = (("preprocess", "prepared"), ("train", "trained"), ("export_model", "exported"))
    for name, state in made[: last - 1]:
        assert BY_NAME[name].run(BY_NAME[name].words, work) == 0
        _keep(work, folder / state)
    if last < STATES.index("predicted"):
        return
    shutil.rmtree(work / "packed")
    assert BY_NAME["predict"].run(BY_NAME["predict"].words, work) == 0
    shutil.copytree(work / "predicted", work / "predicted_too")
    _keep(work, folder / "predicted")


def _keep(work: Path, state: Path) -> None:
    shutil.copytree(work, state)


def fresh(states: Path, command: Command) -> Path:
    """The workplace with the command's state, as if nothing had happened; always at one path, which outputs name."""
    work = states / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(states / command.state, work)
    return work


def contents(folder: Path) -> dict[str, str]:
    """What each file means, by its path: a hash of what two equal runs have in common."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in _NOT_COMPARED
    }


def digest(path: Path) -> str:
    """Hash of what a file means; damaged ones have one of their own."""
    content = path.read_bytes()
    if not content:
        return "damaged: empty"
    try:
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        elif path.suffix == ".json":
            content = json.dumps(_stable(json.loads(content)), sort_keys=True).encode()
        elif path.suffix == ".jsonl":
            content = json.dumps([_stable(json.loads(line)) for line in content.splitlines()], sort_keys=True).encode()
        elif path.suffix == ".safetensors":  # its header's keys have no order
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])
            content = json.dumps(header, sort_keys=True).encode() + content[8 + length :]
        elif path.suffix in (".zip", ".npz"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = b"".join(name.encode() + archive.read(name) for name in sorted(archive.namelist()))
    except Exception as error:
        return f"damaged: {type(error).__name__}"
    return hashlib.sha256(content).hexdigest()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in _VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def leftovers(work: Path) -> list[str]:
    """Temporary files, claims and folders set aside that a clean end does not leave."""
    patterns = (".tmp-*", ".running*", "running_*", "previous_*", "unfinished_*")
    return sorted(str(path.relative_to(work)) for pattern in patterns for path in work.rglob(pattern))
