"""``gdm_train``: train one fold of one configuration."""

from __future__ import annotations

from pathlib import Path

from gdmunet.cli.flags import command
from gdmunet.dataset_names import RawFolders
from gdmunet.paths import Folders, find_processes
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.training import TrainRequest
from gdmunet.workflows.requests.values import Place


@command(TrainRequest)
def main(request: TrainRequest, folders: Folders) -> PredictRequest | None:
    """Entry point of ``gdm_train``."""
    from gdmunet.progress import say
    from gdmunet.workflows.train import train

    model = train(request, folders)
    place = find_processes()
    if place is not None and place.number:
        return None  # the first process speaks
    say(f"model: {model}")
    images = RawFolders(folders.raw / model.parent.name, "Ts").images
    return PredictRequest(
        input=(Place(images if images.is_dir() else "INPUT_FOLDER"),), output=Path("predictions"), model=model
    )


if __name__ == "__main__":  # torchrun -m gdmunet.cli.train
    raise SystemExit(main(None))
