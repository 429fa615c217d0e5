"""Prediction as a command runs it: choose the model, read what the folder holds, predict, compare projections."""

from __future__ import annotations

from pathlib import Path

from gdmunet.device import find_device
from gdmunet.inference.cases.dicom import open_dicom
from gdmunet.inference.cases.scans import check_predictions, differing_settings, prepare_scans
from gdmunet.inference.folder import PredictedFolder, predict_cases, predict_folder
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.trained_models import describe_model, resolve_model
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.workflows.requests.prediction import PredictRequest

_NO_MASKS = (
    "note: the model was trained with given body masks; without --mask the body is derived from the condition, "
    "and outside it is air"
)


def predict(request: PredictRequest, folders: Folders) -> PredictedFolder:
    """Predict every case of a folder.

    Raises
    ------
    GdmError
        No model or several fit; a case cannot be read or predicted, and is named. Finished predictions stay.
    """
    predictor = Predictor.from_folder(
        _model_folder(request, folders),
        request.folds,
        request.checkpoint,
        device=find_device(request.device),
        step_size=request.step_size,
        tta=request.tta,
        skip_empty=not request.predict_empty,
        steps=request.steps,
        samples=request.samples,
        seed=request.seed,
    )
    if predictor.descriptor.mask and request.mask is None:
        say(_NO_MASKS)
    return _predict_scans(request, predictor) if request.scans else _predict_images(request, predictor)


def _model_folder(request: PredictRequest, folders: Folders) -> Path:
    if request.model is not None:
        return request.model
    chosen = resolve_model(
        folders.results,
        request.dataset,
        request.configuration,
        request.trainer,
        request.plans,
        folds=request.folds,
        checkpoint=request.checkpoint,
    )
    say(f"model: {chosen.path}\n  chosen by {describe_model(chosen)}")
    return chosen.path


def _predict_images(request: PredictRequest, predictor: Predictor) -> PredictedFolder:
    dicom = open_dicom(request.input, predictor, request.series, request.fix_geometry, request.dicom_out)
    done = predict_folder(
        request.input,
        request.output,
        predictor,
        mask_folder=request.mask,
        dicom=dicom,
        continue_prediction=request.continue_prediction,
        num_parts=request.num_parts,
        part_id=request.part_id,
        preprocess_workers=request.reading_processes,
        export_workers=request.saving_processes,
        as_float=request.as_float,
        uncertainty=request.uncertainty or request.samples > 1,
        show_progress=request.show_progress,
    )
    for note in dicom.notes if dicom else ():
        say(note)
    return done


def _predict_scans(request: PredictRequest, predictor: Predictor) -> PredictedFolder:
    """Compute conditions from scans, predict them, compare the projections."""
    scanned = prepare_scans(
        request.input,
        "sinogram" if request.sinogram else "simulate",
        request.output,
        predictor,
        mask_folder=request.mask,
        num_parts=request.num_parts,
        part_id=request.part_id,
        show_progress=request.show_progress,
    )
    for line in differing_settings(scanned, predictor):
        say(line)
    done = predict_cases(
        [one.case for one in scanned],
        request.output,
        predictor,
        mask_folder=request.mask,
        continue_prediction=request.continue_prediction,
        preprocess_workers=request.reading_processes,
        export_workers=request.saving_processes,
        as_float=request.as_float,
        uncertainty=request.uncertainty or request.samples > 1,
        show_progress=request.show_progress,
    )
    report = check_predictions(
        scanned,
        request.output,
        predictor,
        steps=request.consistency,
        predicted=list(done.predicted),
        as_float=request.as_float,
        show_progress=request.show_progress,
    )
    say(report.table())
    return done
