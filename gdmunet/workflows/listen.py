"""A model as a DICOM node: what is received goes through prediction as any folder of DICOM does."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from gdmunet.device import find_device
from gdmunet.dicom.node import CaseReport, DicomNode, NodeOptions, Peer
from gdmunet.inference.cases.dicom import DicomOptions, open_dicom
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.workflows.models import chosen_model
from gdmunet.workflows.requests.node import ListenRequest


def listen(request: ListenRequest, folders: Folders) -> DicomNode:
    """A node for a model, which is loaded once; it listens from its `__enter__` on.

    Raises
    ------
    GdmError
        No model or several fit, or pynetdicom is missing.
    """
    predictor = Predictor.from_folder(
        chosen_model(request, folders),
        request.folds,
        request.checkpoint,
        device=find_device(request.device),
        accept=request.accept,
    )

    def predict(folder: Path, case: str) -> Iterable[Path]:
        """Files of the predicted series, and of its structure sets, of a folder of received ones."""
        received, made = folder / "received" / case, folder / "made"
        received.mkdir(parents=True)
        for file in sorted(folder.glob("*.dcm")):
            shutil.move(file, received / file.name)
        options = DicomOptions(
            fix_geometry=request.fix_geometry,
            output=made / "dicom",
            accept=request.accept,
            copy_structures=request.rtstruct == "copy",
        )
        cases = open_dicom(received, predictor, options)
        if cases is not None:
            done = predict_cases(cases, made / "volumes", predictor, PredictionOptions(show_progress=False))
            for note in done.notes:
                say(note)
        return sorted((made / "dicom" / case).iterdir())

    options = NodeOptions(
        send=Peer.parse(request.send),
        folder=request.folder,
        allowed=request.allow,
        port=request.port,
        address=request.address,
        title=request.title,
        most_bytes=request.most * 1e9,
        quiet_seconds=request.quiet,
    )
    return DicomNode(options, predict, _said)


def _said(report: CaseReport) -> None:
    say(str(report))
