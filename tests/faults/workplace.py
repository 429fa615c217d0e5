"""A tiny workplace for every command: the states that it starts from, how it is called, and what it must come to."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

DATASET = "Dataset502_DemoPhantoms"
# Variable of the environment with the address of a hub on this machine.
HUB = "GDM_FAULTS_HUB"
MODEL = "FidelityTrainer-epochs=2-iterations_per_epoch=2-validation_patches=2__gdmPlans_tiny__3d_fullres"
TRAINING = ["--epochs", "2", "--set", "iterations_per_epoch=2", "validation_patches=2", "-device", "cpu", "-np", "0"]
# Numbers that no two runs share, and the address of a hub whose port was free.
_VOLATILE = {
    *("url", "seconds", "validation_seconds", "wait_share", "peak_memory_mb", "created", "files", "simulation_seconds"),
    *("training_seconds",),
}
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
        Folders, or a file, below the workplace, that it writes.
    workers
        Words that are added to its command line so that other processes do the work; None: it has none.
    """

    name: str
    module: str
    state: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    again: tuple[tuple[str, ...], ...] = ()
    workers: tuple[str, ...] | None = None

    def line(self, words: Sequence[str], work: Path) -> list[str]:
        """The words with the workplace and the stand-in of a hub in them."""
        return [word.replace("{w}", str(work)).replace("{hub}", os.environ.get(HUB, "")) for word in words]

    def run(self, words: Sequence[str], work: Path) -> int:
        """Call the command in this process."""
        if any("{hub}" in word for word in words):
            os.environ.pop("HF_HUB_OFFLINE", None)
            constants.HF_HUB_OFFLINE = False
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
_COMPARE = ("502", "3d_fullres", "-tr", "FidelityTrainer", "-p", "gdmPlans_tiny", "--judge", "tiny", *TRAINING)
_COMPARE = (*_COMPARE, "-o", "{w}/compared", *_QUIET, *_RAW, *_PREPARED, "--results", "{w}/results")
_BEST = ("502", "--disable_ensembling", *_QUIET, *_RAW, "--results", "{w}/results")
_CASES = ("-d", "502", "-p", "gdmPlans_tiny", *_QUIET, *_PREPARED, "--results", "{w}/results")
_AUDIT = (*_CASES, "-e", "tiny", "--windows", "1", "--window", "16", "--json", "{w}/audit/audit.json")
_PRETRAIN = (*_CASES, "--iterations", "2", "--crop", "16", "--batch_size", "1", "-o", "{w}/encoder", "-device", "cpu")
_DOWNLOAD = ("ct-fm", "--hub", "{hub}", "-o", "{w}/encoders", *_QUIET)

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
    Command("compare", "compare", "trained", _COMPARE, ("compared",), (_COMPARE,), ()),
    Command("compare_again", "compare", "compared", _COMPARE, ("compared",), (_COMPARE,)),
    Command(
        "best_configuration",
        "find_best_configuration",
        "trained",
        _BEST,
        (f"results/{DATASET}/best_configuration.json",),
        (_BEST,),
        _TWO,
    ),
    Command("audit_encoder", "audit_encoder", "prepared", _AUDIT, ("audit",), (_AUDIT,)),
    Command("pretrain_encoder", "pretrain_encoder", "prepared", _PRETRAIN, ("encoder",), (_PRETRAIN,)),
    Command("download_encoder", "download_encoder", "raw", _DOWNLOAD, ("encoders",), (_DOWNLOAD,)),
)
# In the order in which they are made.
STATES = ("raw", "planned", "prepared", "trained", "exported", "predicted", "compared")
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
    if last < STATES.index("compared"):
        return
    for name in ("predicted", "predicted_too"):
        shutil.rmtree(work / name)
    assert BY_NAME["compare"].run(BY_NAME["compare"].words, work) == 0
    _keep(work, folder / "compared")


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
    if path.stem == "comparison" and path.suffix != ".json":  # tables made from it, with times
        return "whole"
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
