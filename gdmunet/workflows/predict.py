"""Prediction as a command runs it: choose the model, read what the folder holds, predict, compare projections."""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass, replace

import torch

from gdmunet.claims import Claim
from gdmunet.dataset import Case
from gdmunet.device import find_device, gpu_identities
from gdmunet.inference.cases.dicom import DicomOptions, open_dicom
from gdmunet.inference.cases.files import FileCases
from gdmunet.inference.cases.one import OneCase
from gdmunet.inference.cases.remote import RemoteCases
from gdmunet.inference.cases.scans import ScanCases
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.dial import NoDialError
from gdmunet.inference.folder import UNCERTAINTY_FOLDER, Elsewhere, PredictedCases, predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.owners import sweep
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.scheduling import own_share
from gdmunet.workers import run_in_workers
from gdmunet.workflows.models import chosen_model
from gdmunet.workflows.parts import has_scheduler
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
    """Predict every case of a folder, or one case.

    Raises
    ------
    GdmError
        No model or several fit; a case cannot be read or predicted, and is named. Finished predictions stay.
    """
    predictor = _predictor(request, folders, find_device(request.device))
    for note in predictor.source.notes if predictor.source else ():
        say(note)
    if predictor.descriptor.mask and request.mask is None:
        say(_NO_MASKS)
    if predictor.admission.ranges is None:
        say(_NO_RANGES)
    options = _options(request)
    folder, single = request.output_folder, request.single
    with contextlib.ExitStack() as claims:
        held = [
            claims.enter_context(Claim.on_folder(place, "prediction", options))
            for place in dict.fromkeys(filter(None, (None if single else folder, request.dicom_out)))
        ]
        if single:  # others may predict other files into the same folder
            file = folder / f".running_{single}.json"
            held.append(claims.enter_context(Claim(file, "prediction", "another process writes this file")))
        sweep(folder / UNCERTAINTY_FOLDER)
        cases = _cases(request, predictor, folders)
        elsewhere = _elsewhere(request, folders) if has_scheduler(request) else None
        done = predict_cases(cases, folder, predictor, options, elsewhere)
        for claim in held:
            claim.check()
    for note in done.notes:
        say(note)
    if done.waits.seconds:
        say(done.waits.sentence("CPU" if predictor.device.type == "cpu" else "GPU"))
    return done


def _options(request: PredictRequest) -> PredictionOptions:
    return PredictionOptions(
        continue_prediction=request.continue_prediction,
        num_parts=request.num_parts,
        part_id=request.part_id,
        preprocess_workers=request.reading_processes,
        export_workers=request.saving_processes,
        as_float=request.as_float,
        uncertainty=request.uncertainty or request.samples > 1,
        show_progress=request.show_progress,
        describe=request.single is None,
        single=request.single,
    )


@dataclass(frozen=True)
class _Loaded:
    """What a worker of a scheduler keeps from case to case of one run."""

    predictor: Predictor
    source: CaseSource
    cases: dict[str, Case]


_LOADED: dict[str, _Loaded] = {}
_LOADING = threading.Lock()


def _elsewhere(request: PredictRequest, folders: Folders) -> Elsewhere:
    """Cases go to the workers of the scheduler, each of which loads the model once."""
    run = uuid.uuid4().hex

    def predict_them(names: list[str]) -> PredictedCases:
        items = [(name, (request, folders, run, name)) for name in names]
        done = run_in_workers(_predict_one, items, 1, request.show_progress, "predicting")
        predicted = {name: one.predicted[name] for name, one in zip(names, done, strict=True)}
        return PredictedCases(predicted, (), tuple(note for one in done for note in one.notes))

    return predict_them


def _predict_one(request: PredictRequest, folders: Folders, run: str, name: str) -> PredictedCases:
    """Predict one case in a worker of a scheduler, and write its files."""
    with _LOADING:
        if run not in _LOADED:
            _LOADED.clear()
            predictor = _predictor(request, folders, _own_device(request))
            source = _cases(request, predictor, folders)
            _LOADED[run] = _Loaded(predictor, source, {case.identifier: case for case in source.list_cases()})
        loaded = _LOADED[run]
    options = replace(
        _options(request),
        continue_prediction=False,
        num_parts=1,
        part_id=0,
        preprocess_workers=0,
        export_workers=0,
        show_progress=False,
        describe=False,
    )
    one = OneCase(loaded.source, loaded.cases[name])
    return predict_cases(one, request.output_folder, loaded.predictor, options)


def _own_device(request: PredictRequest) -> torch.device:
    """The device of a worker of a scheduler: a GPU that no other worker of its machine has, or the CPU."""
    device = find_device(request.device)
    if device.type != "cuda":
        return device
    return torch.device("cuda", gpu_identities().index(own_share(gpu_identities, "GPU")))


def _predictor(request: PredictRequest, folders: Folders, device: torch.device) -> Predictor:
    try:
        return Predictor.from_folder(
            chosen_model(request, folders),
            request.folds,
            request.checkpoint,
            device=device,
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


def _cases(request: PredictRequest, predictor: Predictor, folders: Folders) -> CaseSource:
    """Scans if a flag says so; else files behind a URL, or DICOM series or files, as the folder holds them."""
    if request.is_remote:
        return RemoteCases(request.input, predictor.descriptor, folders.copies, request.mask)
    if request.scans:
        return ScanCases(
            request.paths[0],
            "sinogram" if request.sinogram else "simulate",
            request.output,
            predictor,
            mask_folder=request.mask_path,
            consistency=request.consistency,
        )
    options = DicomOptions(
        request.series,
        request.fix_geometry,
        request.dicom_out,
        request.accept,
        copy_structures=request.rtstruct == "copy",
    )
    series = open_dicom(request.paths[0], predictor, options, request.mask_path)
    return series or FileCases(request.paths, predictor.descriptor, request.mask_path)
