"""Prediction as a command runs it: choose the model, read what the folder holds, predict, compare projections."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from gdmunet.claims import Claim
from gdmunet.device import find_device
from gdmunet.inference.cases.dicom import DicomOptions, open_dicom
from gdmunet.inference.cases.files import FileCases
from gdmunet.inference.cases.scans import ScanCases
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.dial import NoDialError
from gdmunet.inference.folder import UNCERTAINTY_FOLDER, PredictedCases, predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.owners import sweep
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.workflows.models import chosen_model
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.spelling import command_line

_NO_RANGES = (
    "note: the model's plans are of an earlier version and hold no ranges of its training cases: whether a case lies "
    "outside them cannot be said"
)
_NO_MASKS = (
    "note: the model was trained with given body masks; without --mask the body is derived from the condition, "
    "and outside it is air"
)


def predict(request: PredictRequest, folders: Folders) -> PredictedCases:
    """Predict every case of a folder.

    Raises
    ------
    GdmError
        No model or several fit; a case cannot be read or predicted, and is named. Finished predictions stay.
    """
    predictor = _predictor(request, folders)
    for note in predictor.source.notes if predictor.source else ():
        say(note)
    if predictor.descriptor.mask and request.mask is None:
        say(_NO_MASKS)
    if predictor.admission.ranges is None:
        say(_NO_RANGES)
    options = PredictionOptions(
        continue_prediction=request.continue_prediction,
        num_parts=request.num_parts,
        part_id=request.part_id,
        preprocess_workers=request.reading_processes,
        export_workers=request.saving_processes,
        as_float=request.as_float,
        uncertainty=request.uncertainty or request.samples > 1,
        show_progress=request.show_progress,
    )
    with contextlib.ExitStack() as claims:
        held = [
            claims.enter_context(Claim.on_folder(folder, "prediction", request.part_id, request.num_parts))
            for folder in dict.fromkeys(filter(None, (request.output, request.dicom_out)))
        ]
        sweep(request.output / UNCERTAINTY_FOLDER)
        done = predict_cases(_cases(request, predictor), request.output, predictor, options)
        for claim in held:
            claim.check()
    for note in done.notes:
        say(note)
    if done.predicted:
        say(done.waits.sentence("CPU" if predictor.device.type == "cpu" else "GPU"))
    return done


def _predictor(request: PredictRequest, folders: Folders) -> Predictor:
    try:
        return Predictor.from_folder(
            chosen_model(request, folders),
            request.folds,
            request.checkpoint,
            device=find_device(request.device),
            step_size=request.step_size,
            fast=request.fast,
            compiled=request.compile,
            tta=request.tta,
            skip_empty=not request.predict_empty,
            steps=request.steps,
            samples=request.samples,
            seed=request.seed,
            realism=request.realism,
            accept=request.accept,
        )
    except NoDialError as error:
        possible = replace(request, folds=error.folds) if error.folds else replace(request, realism=None)
        error.located(command=command_line(possible))
        raise


def _cases(request: PredictRequest, predictor: Predictor) -> CaseSource:
    """Scans if a flag says so; else DICOM series or files, as the folder holds them."""
    if request.scans:
        return ScanCases(
            request.input,
            "sinogram" if request.sinogram else "simulate",
            request.output,
            predictor,
            mask_folder=request.mask,
            consistency=request.consistency,
        )
    options = DicomOptions(request.series, request.fix_geometry, request.dicom_out, request.accept)
    series = open_dicom(request.input, predictor, options, request.mask)
    return series or FileCases(request.input, predictor.descriptor, request.mask)
