"""Predict a folder of cases: read ahead, compute, write behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdmunet import __version__
from gdmunet.checkpoint import ONE_STEP, SamplerSpec
from gdmunet.dataset import Case, list_images
from gdmunet.device import Precision
from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes, read_case, read_volume
from gdmunet.inference.cases.dicom import DicomCases
from gdmunet.inference.cases.parts import take_part
from gdmunet.inference.export import write_prediction, write_uncertainty
from gdmunet.inference.pipeline import Stage, raise_named
from gdmunet.inference.prediction import NetworkPrediction
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.sliding_window import WindowCount
from gdmunet.preprocessing.preprocessor import CaseProperties, PreparedCase
from gdmunet.progress import Progress
from gdmunet.quantities import counted
from gdmunet.serialization import save_json

SETTINGS_FILE = "prediction_settings.json"
UNCERTAINTY_FOLDER = "uncertainty"


@dataclass(frozen=True)
class PredictionSettings:
    """The content of prediction_settings.json: with what a folder was predicted.

    `mask_folder` is None where the bodies were derived from the conditions.
    """

    model: str | None
    folds: tuple[str, ...]
    checkpoint: str | None
    configuration: str
    step_size: float
    tta: bool
    precision: Precision
    device: str
    skip_empty: bool
    mask_folder: str | None
    as_float: bool
    uncertainty: bool
    sampler: SamplerSpec = ONE_STEP
    samples: int = 1
    seed: int = 0
    gdmunet_version: str = __version__


@dataclass(frozen=True)
class PredictedFolder:
    """What a run did: windows of each case that was predicted, and the cases that were there already."""

    predicted: dict[str, WindowCount]
    skipped: tuple[str, ...]


def predict_folder(
    input_folder: Path,
    output_folder: Path,
    predictor: Predictor,
    *,
    mask_folder: Path | None = None,
    dicom: DicomCases | None = None,
    continue_prediction: bool = False,
    num_parts: int = 1,
    part_id: int = 0,
    preprocess_workers: int = 1,
    export_workers: int = 1,
    as_float: bool = False,
    uncertainty: bool = False,
    show_progress: bool = True,
) -> PredictedFolder:
    """Predict every case of a folder.

    Parameters
    ----------
    input_folder
        ``CASE_0000.ext``, one file a channel, in the ending of the model's data set.
    output_folder
        Gets ``CASE.ext``, ``prediction_settings.json`` and, with `uncertainty`, ``uncertainty/CASE.ext``.
    mask_folder
        Body masks ``CASE.ext``; without it the body is derived from the condition.
    dicom
        The cases where they are DICOM series; they are read, and may be written, as it says.
    continue_prediction
        Leave out cases whose prediction is there and can be read.
    num_parts, part_id
        Predict every `num_parts`-th case from `part_id` on, to share a folder between machines.
    preprocess_workers, export_workers
        Cases that are read ahead or written behind while one is computed; 0: none, which needs the least memory.

    Raises
    ------
    GdmError
        Names the case. The run ends at once; predictions that are written already stay.
    """
    folders = (Path(input_folder), Path(output_folder), Path(mask_folder) if mask_folder else None)
    _check_folders(*folders)
    return predict_cases(
        take_part(_list_cases(folders[0], folders[2], predictor, dicom), num_parts, part_id),
        folders[1],
        predictor,
        mask_folder=folders[2],
        dicom=dicom,
        continue_prediction=continue_prediction,
        preprocess_workers=preprocess_workers,
        export_workers=export_workers,
        as_float=as_float,
        uncertainty=uncertainty,
        show_progress=show_progress,
    )


def predict_cases(
    cases: Sequence[Case],
    output_folder: Path,
    predictor: Predictor,
    *,
    mask_folder: Path | None = None,
    dicom: DicomCases | None = None,
    continue_prediction: bool = False,
    preprocess_workers: int = 1,
    export_workers: int = 1,
    as_float: bool = False,
    uncertainty: bool = False,
    show_progress: bool = True,
) -> PredictedFolder:
    """Predict these cases (their targets are not looked at); the rest is as in `predict_folder`."""
    predictor.check_uncertainty(uncertainty)
    outputs = _Outputs(output_folder, predictor, as_float, uncertainty, dicom)
    finished = [case.identifier for case in cases if continue_prediction and outputs.has(case.identifier)]
    todo = deque(replace(case, target=None) for case in cases if case.identifier not in finished)
    if dicom is not None:
        dicom.check_output([case.identifier for case in todo], replace=continue_prediction)
    save_json(_settings(predictor, mask_folder, as_float, uncertainty), output_folder / SETTINGS_FILE)
    reading: Stage[PreparedCase] = Stage(preprocess_workers, "read")
    writing: Stage[None] = Stage(export_workers, "write")
    with reading, writing, Progress("predicting", len(todo), show_progress) as progress:
        read = dicom.read if dicom else read_case
        predicted = _run_cases(predictor, todo, read, outputs, reading, writing, progress)
    return PredictedFolder(predicted, tuple(finished))


class _Outputs:
    """Where predictions go, and how they get there."""

    def __init__(
        self, folder: Path, predictor: Predictor, as_float: bool, uncertainty: bool, dicom: DicomCases | None = None
    ) -> None:
        self.folder, self.predictor, self.as_float, self.uncertainty = folder, predictor, as_float, uncertainty
        self.dicom = dicom
        self.ending = predictor.descriptor.file_ending

    def has(self, identifier: str) -> bool:
        """The case's files are there and whole."""
        paths = [self.folder / f"{identifier}{self.ending}"]
        if self.uncertainty:
            paths.append(self.folder / UNCERTAINTY_FOLDER / f"{identifier}{self.ending}")
        try:
            for path in paths:
                read_volume(path, identifier)
        except GdmError:
            return False  # missing or cut short: it is predicted again
        return self.dicom is None or self.dicom.has(identifier)

    def write(self, raw: list[NetworkPrediction], mask: np.ndarray, properties: CaseProperties) -> None:
        # Taken out of its list, the network's output is let go before the file is written: two volumes less.
        prediction = self.predictor.restore(raw.pop(), mask, properties)
        name = f"{properties.identifier}{self.ending}"
        if self.uncertainty:
            write_uncertainty(self.folder / UNCERTAINTY_FOLDER / name, prediction)
        if self.dicom is not None:
            self.dicom.write(prediction)
        write_prediction(self.folder / name, prediction, self.as_float)


def _run_cases(
    predictor: Predictor,
    todo: deque[Case],
    read: Callable[[Case], CaseVolumes],
    outputs: _Outputs,
    reading: Stage[PreparedCase],
    writing: Stage[None],
    progress: Progress,
) -> dict[str, WindowCount]:
    predicted: dict[str, WindowCount] = {}

    def check(_: WindowCount) -> None:
        # A case ahead or behind that failed ends the run now, not after the case in work.
        reading.check()
        writing.check()

    for _ in range(len(todo)):
        _read_ahead(reading, todo, read, predictor)
        prepared = reading.take()
        if reading.ahead:
            _read_ahead(reading, todo, read, predictor)
        properties, mask = prepared.properties, prepared.mask
        try:
            raw = [predictor.predict_network_units(prepared, uncertainty=outputs.uncertainty, progress=check)]
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


def _read_ahead(
    reading: Stage[PreparedCase], todo: deque[Case], read: Callable[[Case], CaseVolumes], predictor: Predictor
) -> None:
    while todo and not reading.full:
        case = todo.popleft()
        reading.submit(case.identifier, _read, case, read, predictor)


def _read(case: Case, read: Callable[[Case], CaseVolumes], predictor: Predictor) -> PreparedCase:
    return predictor.prepare(read(case))


def _check_folders(input_folder: Path, output_folder: Path, mask_folder: Path | None) -> None:
    for folder, what in ((input_folder, "input"), (mask_folder, "mask")):
        if folder is None:
            continue
        if not folder.is_dir():
            raise GdmError(f"the {what} folder is not there", file=folder, remedy="check the path")
        if output_folder.resolve() == folder.resolve():
            raise GdmError(
                f"the output folder is the {what} folder",
                file=output_folder,
                found=output_folder.resolve(),
                expected="a folder of its own, so that nothing is overwritten",
                remedy="give another folder with -o",
            )


def _list_cases(
    input_folder: Path, mask_folder: Path | None, predictor: Predictor, dicom: DicomCases | None
) -> list[Case]:
    ending = predictor.descriptor.file_ending
    found = dicom.conditions if dicom else list_images(input_folder, predictor.descriptor)
    cases = []
    for identifier, paths in found.items():
        mask = mask_folder / f"{identifier}{ending}" if mask_folder else None
        if mask is not None and not mask.is_file():
            raise GdmError(
                "image without mask",
                case=identifier,
                file=mask,
                found="no such file",
                expected="a mask for every case",
                remedy="add the mask, or predict without --mask: the body is then derived from the condition",
            )
        cases.append(Case(identifier, paths, mask=mask))
    return cases


def _settings(predictor: Predictor, mask_folder: Path | None, as_float: bool, uncertainty: bool) -> PredictionSettings:
    source = predictor.source
    return PredictionSettings(
        model=str(source.folder) if source else None,
        folds=source.folds if source else (),
        checkpoint=source.checkpoint if source else None,
        configuration=predictor.configuration.name,
        step_size=predictor.step_size,
        tta=predictor.tta,
        precision=predictor.precision,
        device=str(predictor.device),
        skip_empty=predictor.skip_empty,
        mask_folder=str(mask_folder) if mask_folder else None,
        as_float=as_float,
        uncertainty=uncertainty,
        sampler=predictor.sampler,
        samples=predictor.samples,
        seed=predictor.seed,
    )
