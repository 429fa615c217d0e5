"""Work on trained models and their predictions: compare, average, pack, unpack."""

from __future__ import annotations

from pathlib import Path

from gdmunet.claims import Claim
from gdmunet.evaluation.scores import configurations
from gdmunet.inference import archive
from gdmunet.inference.container import write_container
from gdmunet.inference.ensemble import ensemble_folders
from gdmunet.inference.network_export import DESCRIPTION_FILE, NETWORK_FILES, export_network
from gdmunet.inference.trained_models import describe_model, resolve_model
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.workflows.hub import HubModel, fetch_model, push_model
from gdmunet.workflows.requests.models import (
    EnsembleRequest,
    ExportModelRequest,
    FindBestConfigurationRequest,
    ImportModelRequest,
    PushModelRequest,
)
from gdmunet.workflows.requests.node import ListenRequest
from gdmunet.workflows.requests.prediction import PredictRequest


def chosen_model(
    request: PredictRequest | ExportModelRequest | PushModelRequest | ListenRequest, folders: Folders
) -> Path:
    """The folder of the model that a request names, or of the only one that fits it, which is then said.

    Raises
    ------
    GdmError
        No model or several fit.
    """
    if request.model is not None:
        shared = HubModel.parse(request.model.as_posix())
        return request.model if shared is None else fetch_model(shared, folders)
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


def find_best_configuration(
    request: FindBestConfigurationRequest, folders: Folders
) -> configurations.BestConfiguration:
    """Compare the trained models of a data set, and pairs of them, by the validation of their folds.

    Raises
    ------
    GdmError
        Unknown data set, or no validated model.
    """
    return configurations.find_best_configuration(
        folders.results,
        folders.raw,
        request.dataset,
        configurations.CandidateOptions(
            trainers=request.trainer,
            plans=request.plans,
            configurations=request.configuration,
            folds=request.folds,
            ensembles=request.ensembling,
            processes=request.processes,
            show_progress=request.show_progress,
        ),
    )


def ensemble(request: EnsembleRequest, _folders: Folders) -> list[Path]:
    """Average the predictions of several folders; gives the files that were written.

    Raises
    ------
    GdmError
        Cases or grids that differ.
    """
    with Claim.on_folder(request.output, "averaging") as claim:
        made = ensemble_folders(
            request.input, request.output, as_float=request.as_float, show_progress=request.show_progress
        )
        claim.check()
    return made


def export_model(request: ExportModelRequest, folders: Folders) -> Path:
    """Pack a trained model into one zip file, write its network or the folder of a container, and give the path.

    Raises
    ------
    GdmError
        No model or several fit, a fold without the checkpoint, or a network that the format cannot hold.
    """
    if request.container is not None:
        made = write_container(chosen_model(request, folders), request.output, request.folds, request.checkpoint)
        check_promised([made / "Dockerfile"])
        return made
    if request.format != "zip":
        model = chosen_model(request, folders)
        written = export_network(model, request.output, request.format, request.folds, request.checkpoint)
        check_promised([written / DESCRIPTION_FILE, written / NETWORK_FILES[request.format]])
        return written
    file = archive.export_model(chosen_model(request, folders), request.output, request.folds, request.checkpoint)
    check_promised([file])
    return file


def import_model(request: ImportModelRequest, folders: Folders) -> Path:
    """Unpack a model into the results folder, and give its folder.

    Raises
    ------
    GdmError
        The file does not hold a model, or a model of that name is there.
    """
    return archive.import_model(request.file, folders.results, request.overwrite)


def push(request: PushModelRequest, folders: Folders) -> str:
    """Share a trained model on a hub, and give the address of the commit.

    Raises
    ------
    GdmError
        No model or several fit, or the hub does not take it.
    """
    return push_model(request, chosen_model(request, folders))
