"""Predict many cases into a folder: read ahead, compute, write behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.imageio import read_volume
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.export import write_prediction, write_uncertainty
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.pipeline import Stage, raise_named
from gdmunet.inference.prediction import NetworkPrediction
from gdmunet.inference.prediction_settings import SETTINGS_FILE, compare_with_earlier, settings_of
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.window_options import WindowCount
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase
from gdmunet.progress import Progress, say
from gdmunet.promises import check_promised
from gdmunet.quantities import counted
from gdmunet.serialization import save_json

UNCERTAINTY_FOLDER = "uncertainty"


@dataclass(frozen=True)
class Waits:
    """Seconds of a run over cases, and those in which the device waited for a case to be read or written."""

    seconds: float = 0.0
    reading: float = 0.0
    writing: float = 0.0

    @property
    def share(self) -> float:
        """Share of the run in which the device waited."""
        return (self.reading + self.writing) / self.seconds if self.seconds else 0.0

    def sentence(self, device: str) -> str:
        """Such as ``the GPU waited 40 % of the time, mostly for reading``."""
        most = "reading" if self.reading >= self.writing else "writing"
        return f"the {device} waited {100 * self.share:.0f} % of the time" + (
            f", mostly for {most}" if self.share else ""
        )


@dataclass(frozen=True)
class PredictedCases:
    """Result of a run: windows of each case that was predicted, the cases that were there already, lines for people."""

    predicted: dict[str, WindowCount]
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()
    waits: Waits = Waits()


Elsewhere = Callable[[list[str]], PredictedCases]


def predict_cases(
    source: CaseSource,
    output_folder: Path,
    predictor: Predictor,
    options: PredictionOptions | None = None,
    elsewhere: Elsewhere | None = None,
) -> PredictedCases:
    """Predict the cases of a source; their targets are not looked at.

    Parameters
    ----------
    source
        Source that lists and reads the cases.
    output_folder
        Folder that gets ``CASE.ext`` (or the single file that the options name), ``prediction_settings.json`` and, with
        uncertainty, ``uncertainty/CASE.ext``.
    elsewhere
        Predicts the cases of these identifiers in other processes, and writes their files; None: this process does.

    Raises
    ------
    GdmError
        Names the case; the run ends at once, and predictions that are written already stay. Or the run goes on in a
        folder of other settings.
    """
    options, output = options or PredictionOptions(), Path(output_folder)
    _check_folders(source, output, options)
    predictor.check_uncertainty(options.uncertainty)
    cases = [replace(case, target=None) for case in options.part_of(source.list_cases())]
    if options.single is not None:
        _check_single(cases, output / options.single)
    for line in source.left_out():
        say(line)
    outputs = _Outputs(output, predictor, source, options)
    settings = settings_of(predictor, source, options) if options.describe else None
    earlier = compare_with_earlier(output, settings, {case.identifier for case in cases}, options) if settings else []
    skipped = [case.identifier for case in cases if options.continue_prediction and outputs.has(case.identifier)]
    todo = deque(case for case in cases if case.identifier not in skipped)
    source.check_output([case.identifier for case in todo], replace=options.continue_prediction)
    source.prepare(cases, options)
    if settings is not None:
        save_json(settings, output / SETTINGS_FILE)
    done = _run_here(outputs, todo) if elsewhere is None else elsewhere([case.identifier for case in todo])
    notes = [*earlier, *done.notes, *source.finish(cases, done.predicted, options)]
    check_promised([file for case in cases for file in outputs.files(case.identifier)])
    return PredictedCases(done.predicted, tuple(skipped), tuple(notes), done.waits)


def _run_here(outputs: _Outputs, todo: deque[Case]) -> PredictedCases:
    options, ahead = outputs.options, outputs.options.preprocess_workers
    if ahead is None:
        ahead = 1 if outputs.predictor.device.type == "cpu" else 2
    reading: Stage[PreparedCase] = Stage(ahead, "read")
    writing: Stage[None] = Stage(options.export_workers, "write")
    started = time.perf_counter()
    with reading, writing, Progress("predicting", len(todo), options.show_progress) as progress:
        predicted = _run_cases(outputs, todo, reading, writing, progress)
    return PredictedCases(predicted, (), (), Waits(time.perf_counter() - started, reading.waited, writing.waited))


class _Outputs:
    """The output folder, and the writing of predictions into it."""

    def __init__(self, folder: Path, predictor: Predictor, source: CaseSource, options: PredictionOptions) -> None:
        self.folder, self.predictor, self.source, self.options = folder, predictor, source, options

    def name(self, identifier: str) -> str:
        """Name of the predicted volume of a case."""
        return self.options.single or f"{identifier}{self.predictor.descriptor.file_ending}"

    def volumes(self, identifier: str) -> list[Path]:
        """The volume files of a case."""
        name = self.name(identifier)
        return [self.folder / name, *([self.folder / UNCERTAINTY_FOLDER / name] if self.options.uncertainty else [])]

    def files(self, identifier: str) -> list[Path]:
        """All files that are promised for a case."""
        return [*self.volumes(identifier), *self.source.files_beside(identifier)]

    def has(self, identifier: str) -> bool:
        """Whether the case's files are there and whole."""
        try:
            for path in self.volumes(identifier):
                read_volume(path, identifier, constant=True)
        except GdmError:
            return False  # missing or cut short: it is predicted again
        return self.source.has(identifier)

    def write(self, raw: list[NetworkPrediction], mask: np.ndarray, properties: CaseProperties) -> None:
        # Taken out of its list, the network's output is let go before the file is written: two volumes less.
        prediction = self.predictor.restore(raw.pop(), mask, properties)
        name = self.name(properties.identifier)
        if self.options.uncertainty:
            write_uncertainty(self.folder / UNCERTAINTY_FOLDER / name, prediction)
        self.source.write(prediction)
        write_prediction(self.folder / name, prediction, self.options.as_float)


def _run_cases(
    outputs: _Outputs,
    todo: deque[Case],
    reading: Stage[PreparedCase],
    writing: Stage[None],
    progress: Progress,
) -> dict[str, WindowCount]:
    predicted: dict[str, WindowCount] = {}
    predictor, uncertainty = outputs.predictor, outputs.options.uncertainty

    def check(_: WindowCount) -> None:
        # A case ahead or behind that failed ends the run at once, not after the case in work.
        reading.check()
        writing.check()

    for _ in range(len(todo)):
        _read_ahead(reading, todo, outputs)
        prepared = reading.take()
        if reading.ahead:
            _read_ahead(reading, todo, outputs)
        properties, mask = prepared.properties, prepared.mask
        try:
            raw = [predictor.predict_network_units(prepared, uncertainty=uncertainty, progress=check)]
        except Exception as error:
            raise_named(properties.identifier, error)
        del prepared  # its condition need not stay in memory while the result is written
        if writing.full:
            writing.take()
        predicted[properties.identifier] = raw[0].windows
        writing.submit(properties.identifier, outputs.write, raw, mask, properties)
        del raw, mask
        progress.step(f"{properties.identifier}: {counted(predicted[properties.identifier].predicted, 'window')}")
    writing.take_all()
    return predicted


def _read_ahead(reading: Stage[PreparedCase], todo: deque[Case], outputs: _Outputs) -> None:
    while todo and not reading.full:
        case = todo.popleft()
        reading.submit(case.identifier, _read, case, outputs)


def _read(case: Case, outputs: _Outputs) -> PreparedCase:
    return outputs.predictor.prepare(outputs.source.read(case), case)


def _check_single(cases: list[Case], file: Path) -> None:
    """Refuse one output file for several cases, or in the place of what the case is read from."""
    if len(cases) != 1:
        raise GdmError(
            "one file cannot hold the predictions of several cases",
            file=file,
            found=counted(cases, "case"),
            expected="one case",
            remedy="give a folder with -o",
        )
    sources = {path.resolve() for path in (*cases[0].conditions, cases[0].mask) if path is not None}
    if file.resolve() in sources:
        raise GdmError(
            "the prediction would replace a file that it is made from",
            case=cases[0].identifier,
            file=file,
            remedy="give another file with -o",
        )


def _check_folders(source: CaseSource, output_folder: Path, options: PredictionOptions) -> None:
    for folder, what in ((source.input_folder, "input"), (source.mask_folder, "mask")):
        if folder is None:
            continue
        if not folder.is_dir() and not (what == "mask" and folder.is_file()):
            raise GdmError(f"the {what} folder is not there", file=folder, remedy="check the path")
        if options.single is None and output_folder.resolve() == folder.resolve():
            raise GdmError(
                f"the output folder is the {what} folder",
                file=output_folder,
                found=output_folder.resolve(),
                expected="a folder of its own, so that nothing is overwritten",
                remedy="give another folder with -o",
            )
