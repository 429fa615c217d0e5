"""The work of ``gdm_demo``: its commands in their order, then the comparison with naive references."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gdmunet.atomic import remove, write_text
from gdmunet.cli import evaluate, plan_and_preprocess, predict, train
from gdmunet.cli.arguments import Main
from gdmunet.conversion.demo_data import make_sparse_view_demo
from gdmunet.conversion.phantoms import make_phantom_demo
from gdmunet.dataset import Case, DatasetDescriptor, list_cases, load_descriptor
from gdmunet.dataset_names import RawFolders, Split
from gdmunet.errors import SIGNALLED, CommandLine, GdmError, Stopped
from gdmunet.evaluation.report.pictures import ComparedVolumes, draw_comparison
from gdmunet.evaluation.scores.references import ReferenceCase, score_references
from gdmunet.evaluation.scores.summary import load_summary
from gdmunet.imageio import read_case, read_volume
from gdmunet.paths import FolderName
from gdmunet.plan_names import ConfigurationName, PresetName, default_plans_name
from gdmunet.progress import say
from gdmunet.results import SUMMARY_FILE
from gdmunet.serialization import save_json
from gdmunet.workflows.peak_memory import PeakMemory
from gdmunet.workflows.requests.declaration import Request
from gdmunet.workflows.requests.demonstration import DemoRequest
from gdmunet.workflows.requests.evaluation import EvaluateRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.shared import DEFAULT_TRAINER
from gdmunet.workflows.requests.spelling import command_line
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.requests.values import Place

PRESET: PresetName = "tiny"
CONFIGURATION: ConfigurationName = "3d_fullres"
# Fidelity alone unless asked otherwise: a drift needs more minutes than a demonstration has.
TRAINERS = {"regression": "FidelityTrainer", "gdm": DEFAULT_TRAINER}
SVCT_EPOCHS = 5
SVCT_SETTINGS = {"iterations_per_epoch": "50", "learning_rate": "0.002"}
MR2CT_EPOCHS = 4
MR2CT_SETTINGS = {"iterations_per_epoch": "50", "learning_rate": "0.002"}
MR2CT_CASES = 12
MR2CT_SIZE = 48
LOADER_WORKERS = 1
DEMO_SUMMARY_FILE = "demo_summary.json"
# The content of a demonstration's folder, which --overwrite removes.
_MARKER = ".gdm_demo"
_OUTPUTS = ("raw", "preprocessed", "results", "predictions", "pictures", DEMO_SUMMARY_FILE, _MARKER)


@dataclass(frozen=True)
class DemoTask:
    """One demonstration: its data and how long it is trained."""

    name: str
    number: int
    introduction: str
    epochs: int
    settings: dict[str, str]
    make_data: Callable[[Path, bool], Path]


TASKS = {
    "svct": DemoTask(
        "svct",
        501,
        "Few-view CT to full-view CT. Real CT volumes; the condition is computed from them by filtered\n"
        "back-projection of 36 views. Trained on an abdomen and a heart, tested on the lung of another person.",
        SVCT_EPOCHS,
        SVCT_SETTINGS,
        lambda raw, show: make_sparse_view_demo(raw, show_progress=show),
    ),
    "mr2ct": DemoTask(
        "mr2ct",
        502,
        "T1-weighted MR to CT of generated head phantoms: they show no real person, and the errors say\n"
        "nothing about patients.",
        MR2CT_EPOCHS,
        MR2CT_SETTINGS,
        lambda raw, show: make_phantom_demo(raw, cases=MR2CT_CASES, size=MR2CT_SIZE, show_progress=show),
    ),
}


@dataclass(frozen=True)
class DemoStep:
    """One command of a demonstration: its title, its entry point and its request."""

    title: str
    main: Main
    request: Request

    def command(self, out: Path) -> CommandLine:
        """The command line, with the demonstration's own folders."""
        folders: dict[FolderName, str] = {name: str(out / name) for name in get_args(FolderName)}
        return command_line(self.request, folders)


@dataclass(frozen=True)
class DemoSummary:
    """The content of demo_summary.json; errors are body MAE in HU, means over the held-out cases.

    Attributes
    ----------
    condition_mae
        The condition taken as the prediction; None if it is not a CT.
    mapping_mae
        A monotone intensity mapping fitted on the training cases, applied to the condition.
    mean_target_mae
        The mean target value of the training cases everywhere.
    seconds, peak_memory_mb
        Time and peak memory of the whole run: this process and its children.
    """

    task: str
    cases: tuple[str, ...]
    model_mae: float
    condition_mae: float | None
    mapping_mae: float
    mean_target_mae: float | None
    seconds: float
    peak_memory_mb: float
    pictures: tuple[str, ...]
    commands: tuple[str, ...]

    def table(self) -> str:
        """The model against the references, as text."""
        rows = [("the model", self.model_mae), ("the condition itself", self.condition_mae)]
        rows += [("intensity mapping alone", self.mapping_mae), ("the mean target", self.mean_target_mae)]
        lines = [f"{'prediction of ' + ', '.join(self.cases):<36}{'body MAE in HU':>16}{'model is lower by':>20}"]
        for name, mae in rows:
            if mae is not None:
                gain = "" if name == "the model" else f"{100 * (1 - self.model_mae / mae):.0f} %"
                lines.append(f"{name:<36}{mae:>16.1f}{gain:>20}")
        return "\n".join(lines)


def run_demo(request: DemoRequest) -> DemoSummary:
    """Make the data, plan, preprocess, train, predict and evaluate; every step except the first is a command.

    Raises
    ------
    GdmError
        The folder holds something already, or a step fails.
    """
    started = time.monotonic()
    task, out = TASKS[request.task], request.folder
    _clear(out, request.overwrite)
    with PeakMemory() as memory:
        say(f"{task.introduction}\n\nStep 1 of 5: make the data set")
        dataset_folder = task.make_data(out / "raw", request.show_progress)
        steps = _steps(task, out, dataset_folder, request)
        for number, step in enumerate(steps, start=2):
            say(f"\nStep {number} of 5: {step.title}\n$ {step.command(out)}")
            name, *words = step.command(out).words
            status = step.main(words + ([] if request.show_progress else ["--no_pbar"]))
            if status is not None and status > SIGNALLED:
                raise Stopped(status - SIGNALLED)
            if status:
                raise GdmError(f"the demonstration stopped: {name} failed", remedy="see its message above")
        descriptor = load_descriptor(dataset_folder)
        pictures = _draw(dataset_folder, descriptor, out)
        references = score_references(
            _reference_cases(dataset_folder, descriptor, "Tr"),
            _reference_cases(dataset_folder, descriptor, "Ts"),
            same_modality=descriptor.target_name in descriptor.channels,
        ).mean
    evaluated = load_summary(out / "predictions" / SUMMARY_FILE)
    summary = DemoSummary(
        task=task.name,
        cases=tuple(evaluated.cases),
        model_mae=evaluated.mean["mae"],
        condition_mae=references.condition,
        mapping_mae=references.mapping,
        mean_target_mae=references.mean_target,
        seconds=round(time.monotonic() - started, 1),
        peak_memory_mb=round(memory.peak_mb, 1),
        pictures=tuple(str(picture) for picture in pictures),
        commands=tuple(str(step.command(out)) for step in steps),
    )
    save_json(summary, out / DEMO_SUMMARY_FILE)
    return summary


def _steps(task: DemoTask, out: Path, dataset_folder: Path, request: DemoRequest) -> list[DemoStep]:
    trainer = TRAINERS[request.method]
    number, predictions, held_out = str(task.number), out / "predictions", RawFolders(dataset_folder, "Ts")
    return [
        DemoStep(
            "fingerprint, plan and preprocess",
            plan_and_preprocess.main,
            PlanAndPreprocessRequest(
                dataset=(number,), planner=PRESET, trainer=trainer, configuration=(CONFIGURATION,)
            ),
        ),
        DemoStep(
            "train on all training cases",
            train.main,
            TrainRequest(
                dataset=number,
                configuration=CONFIGURATION,
                fold="all",
                trainer=trainer,
                plans=default_plans_name(PRESET),
                epochs=request.epochs or task.epochs,
                settings=task.settings,
                processes=LOADER_WORKERS,
            ),
        ),
        DemoStep(
            "predict the held-out cases",
            predict.main,
            PredictRequest(
                input=(Place(held_out.images),), output=predictions, checkpoint="final", mask=Place(held_out.masks)
            ),
        ),
        DemoStep(
            "evaluate",
            evaluate.main,
            EvaluateRequest(reference=held_out.targets, prediction=predictions, mask=held_out.masks, dataset=number),
        ),
    ]


def _clear(out: Path, overwrite: bool) -> None:
    """Make `out`, or empty it of an earlier demonstration; a folder of anything else is never touched."""
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    earlier = _MARKER in there
    if there and not (earlier and overwrite):
        raise GdmError(
            "the demonstration was run here before" if earlier else "the folder is not empty",
            file=out,
            found=", ".join(there[:8]),
            expected="a new or empty folder",
            remedy="start over with --overwrite, or choose another with --out"
            if earlier
            else "choose another with --out",
        )
    for name in set(_OUTPUTS) & set(there):
        remove(out / name)
    write_text(out / _MARKER, "")


def _reference_cases(dataset_folder: Path, descriptor: DatasetDescriptor, split: Split) -> Iterator[ReferenceCase]:
    for case in list_cases(dataset_folder, descriptor, split):
        volumes = read_case(case)
        assert volumes.target is not None  # both demonstrations have targets for every case
        condition = volumes.conditions[0]
        if descriptor.channels[0] != descriptor.target_name and volumes.mask is not None:
            # MR has no unit of its own: brought to one scale, the mapping is a fair reference.
            body = condition[volumes.mask]
            condition = (condition - body.mean()) / body.std()
        yield ReferenceCase(case.identifier, condition, volumes.target, volumes.mask)


def _draw(dataset_folder: Path, descriptor: DatasetDescriptor, out: Path) -> list[Path]:
    cases = list_cases(dataset_folder, descriptor, "Ts")
    return [_draw_case(case, descriptor, out) for case in cases]


def _draw_case(case: Case, descriptor: DatasetDescriptor, out: Path) -> Path:
    volumes = read_case(case)
    assert volumes.target is not None
    predicted = read_volume(out / "predictions" / f"{case.identifier}{descriptor.file_ending}", case.identifier)
    compared = ComparedVolumes(
        volumes.conditions[0],
        predicted.array,
        volumes.target,
        volumes.mask,
        volumes.geometry,
        comparable=descriptor.channels[0] == descriptor.target_name,
    )
    return draw_comparison(out / "pictures" / f"{case.identifier}.png", compared, case.identifier)
