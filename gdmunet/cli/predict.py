"""``gdm_predict``: predict a folder of cases with a trained model."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.dataset_names import split_of
from gdmunet.paths import Folders
from gdmunet.quantities import counted
from gdmunet.workflows.requests.evaluation import EvaluateRequest
from gdmunet.workflows.requests.prediction import PredictRequest


@command(PredictRequest)
def main(request: PredictRequest, folders: Folders) -> EvaluateRequest | None:
    """Entry point of ``gdm_predict``."""
    from gdmunet.progress import say
    from gdmunet.workflows.predict import predict

    done = predict(request, folders)
    there = f", {len(done.skipped)} were there already" if done.skipped else ""
    say(f"predicted {counted(done.predicted, 'case')} into {request.output}{there}")
    if request.single:
        return None
    split = None if request.is_remote else split_of(request.paths[0])
    reference = split.targets if split and split.targets.is_dir() else Path("REFERENCE_FOLDER")
    return EvaluateRequest(
        reference=reference, prediction=request.output, mask=None if request.is_remote else request.mask_path
    )
