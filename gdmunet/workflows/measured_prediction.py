"""Predictions whose cost is measured: in a process of their own, so that training's memory is not counted."""

from __future__ import annotations

import functools
import multiprocessing
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from gdmunet.dataset import DatasetDescriptor, list_cases, load_descriptor
from gdmunet.device import find_device
from gdmunet.device_memory import peak_memory_mb
from gdmunet.ending import end_with_parent
from gdmunet.errors import GdmError
from gdmunet.inference.cases.files import ListedCases
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.patience import LOOK_SECONDS, Patience, processor_time, stuck
from gdmunet.plans import load_plans
from gdmunet.preprocessing.mask_folders import given_masks
from gdmunet.results import ModelFolder
from gdmunet.serialization import save_json
from gdmunet.workflows.peak_memory import PeakMemory

MEASUREMENT_FILE = "prediction_cost.json"


@dataclass(frozen=True)
class Measurement:
    """Cost of predicting one volume, mean over the volumes, and the weights it was measured with.

    Attributes
    ----------
    weights
        Fold to size and time of change of its checkpoint.
    passes
        Passes of the network for one window.
    seconds
        Time of reading, preparing, predicting and writing, without loading the model.
    peak_memory_mb
        Peak memory in MB of 1e6 bytes: largest allocation on a GPU, else resident memory of the process.
    """

    weights: dict[str, tuple[int, int]]
    passes: int
    seconds: float
    peak_memory_mb: float
    parameters: int


@dataclass(frozen=True)
class PredictionTask:
    """The held-out cases to predict, and the model."""

    model: ModelFolder
    folds: tuple[str, ...]
    raw: Path
    output: Path
    device: str | None

    def weights(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each fold's final weights."""
        statuses = {fold: self.model.fold(fold).checkpoint("final").stat() for fold in self.folds}
        return {fold: (status.st_size, status.st_mtime_ns) for fold, status in statuses.items()}

    def cases(self, fold: str) -> tuple[str, ...]:
        """The fold's held-out cases."""
        return load_plans(self.model.plans).fold(fold).validation

    def files(self, descriptor: DatasetDescriptor) -> list[Path]:
        """The predictions."""
        return [self.output / f"{case}{descriptor.file_ending}" for fold in self.folds for case in self.cases(fold)]


def measure_in_new_process(task: PredictionTask) -> Measurement:
    """Run `predict_measured` in a fresh process.

    Raises
    ------
    GdmError
        The prediction failed, with its own message, was killed, or does nothing any more.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(task, sender), daemon=True)
    process.start()
    sender.close()
    try:
        outcome = _answer_of(process, receiver)
    finally:
        receiver.close()
        process.join(1)  # it has answered, and ends by itself
        if process.is_alive():
            process.kill()
            process.join(5)
    if isinstance(outcome, Measurement):
        return outcome
    raise outcome


def _answer_of(process: BaseProcess, receiver: Connection) -> Measurement | GdmError:
    """What the process sends; an error if it ends or stands still before."""
    pid, patience = process.pid or 0, Patience()
    while not wait([receiver, process.sentinel], LOOK_SECONDS):
        if patience.lost([(pid, functools.partial(processor_time, pid))]):
            raise stuck("the process that predicts does nothing", case=None, pid=pid, limit=patience.limit)
    try:
        outcome: Measurement | GdmError = receiver.recv()
    except (EOFError, OSError):
        process.join(5)
        raise GdmError(
            "the process that predicts was killed",
            found=f"exit code {process.exitcode}",
            remedy="often memory ran out: end other programs, then run the command again",
        ) from None
    return outcome


def predict_measured(task: PredictionTask) -> Measurement:
    """Predict every fold's held-out cases one after the other and write the volumes and their cost."""
    device = find_device(task.device)
    cases = {case.identifier: case for case in list_cases(task.raw, load_descriptor(task.raw))}
    masks = given_masks(task.raw, load_descriptor(task.raw))
    seconds, count, passes, parameters = 0.0, 0, 1, 0
    with PeakMemory() as memory:
        for fold in task.folds:
            predictor = Predictor.from_folder(task.model.path, (fold,), "final", device=device)
            passes = predictor.sampler.passes
            parameters = predictor.parameters
            started = time.perf_counter()
            chosen = [cases[name] for name in task.cases(fold)]
            options = PredictionOptions(preprocess_workers=0, export_workers=0, show_progress=False)
            predict_cases(ListedCases(chosen, masks), task.output, predictor, options)
            seconds, count = seconds + time.perf_counter() - started, count + len(chosen)
    peak = peak_memory_mb(device) if device.type == "cuda" else memory.peak_mb
    measurement = Measurement(task.weights(), passes, seconds / count, peak, parameters)
    save_json(measurement, task.output / MEASUREMENT_FILE)
    return measurement


def _answer(task: PredictionTask, connection: Connection) -> None:
    end_with_parent()
    try:
        connection.send(predict_measured(task))
    except GdmError as error:
        connection.send(error)
    except Exception:
        connection.send(
            GdmError(
                "the prediction failed",
                found=f"\n{traceback.format_exc()}",
                remedy="this is a fault of gdmunet: report it with this text",
            )
        )
    finally:
        connection.close()
