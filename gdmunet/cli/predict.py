"""``gdm_predict``: predict a folder of cases with a trained model."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.quantities import counted
from gdmunet.workflows.requests.evaluation import EvaluateRequest
from gdmunet.workflows.requests.prediction import PredictRequest


@command(PredictRequest)
def main(request: PredictRequest, folders: Folders) -> EvaluateRequest:
    """Entry point of ``gdm_predict``."""
    from gdmunet.workflows.predict import predict

    done = predict(request, folders)
    there = f", {len(done.skipped)} were there already" if done.skipped else ""
    print(f"predicted {counted(done.predicted, 'case')} into {request.output}{there}")
    targets = request.input.with_name("targetsTs")
    known = request.input.name == "imagesTs" and targets.is_dir()
    reference = targets if known else Path("REFERENCE_FOLDER")
    return EvaluateRequest(reference=reference, prediction=request.output, mask=request.mask)
