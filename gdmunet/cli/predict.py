"""``gdm_predict``: predict a folder of cases with a trained model."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.prediction import PredictRequest


@command(PredictRequest)
def main(request: PredictRequest, folders: Folders) -> None:
    """Entry point of ``gdm_predict``."""
    from gdmunet.workflows.predict import predict

    done = predict(request, folders)
    there = f", {len(done.skipped)} were there already" if done.skipped else ""
    print(f"predicted {len(done.predicted)} cases into {request.output}{there}")
