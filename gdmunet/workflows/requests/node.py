"""The request of ``gdm_listen``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.workflows.requests.declaration import Request, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    Checkpoint,
    Device,
    accept_option,
    checkpoint_option,
    device_option,
    model_configuration_option,
    model_dataset_option,
    model_folder_option,
    model_folds_option,
    model_plans_option,
    model_trainer_option,
)
from gdmunet.workflows.requests.values import NATURAL, POSITIVE


@request
class ListenRequest(Request):
    """Serve predictions as a DICOM node."""

    synopsis = Synopsis(
        "gdm_listen",
        "A DICOM node: receives the series of one study after the other, predicts a CT, and sends it on as a series. "
        "For research on a trusted network: DICOM's titles are names, not a proof. Until Ctrl-C.",
        folders=("results",),
    )
    send: str = option("--send", help="node that gets the predictions, HOST:PORT:AET", metavar="HOST:PORT:AET")
    allow: tuple[str, ...] = option("--allow", help="application entity titles that may connect", metavar="AET")
    model: Path | None = model_folder_option("folder of the model, or hf:owner/name@revision of a hub")
    dataset: str | None = model_dataset_option()
    configuration: str | None = model_configuration_option()
    trainer: str | None = model_trainer_option()
    plans: str | None = model_plans_option()
    folds: tuple[str, ...] | None = model_folds_option("folds to average; default: every numbered fold that is there")
    checkpoint: Checkpoint = checkpoint_option()
    port: int = option("--port", help="port to listen on; 0: any free one", default=11112, metavar="N", bounds=NATURAL)
    address: str = option(
        "--address", help="address to listen on; default: this machine alone can connect", default="127.0.0.1"
    )
    title: str = option("--title", help="application entity title of this node", default="GDMUNET", metavar="AET")
    rtstruct: Literal["copy"] | None = option(
        "--rtstruct", help="send structure sets that came with the series along; default: no", default=None
    )
    folder: Path = option(
        "--folder",
        help="folder for received files until their case is done",
        default=Path("gdm_received"),
        metavar="DIR",
    )
    most: float = option(
        "--most",
        help="largest size of received files that wait, GB of 1e9 bytes; more is refused",
        default=4.0,
        metavar="GB",
        bounds=POSITIVE,
    )
    quiet: float = option(
        "--quiet",
        help="seconds without a further file after which a study is complete",
        default=5.0,
        metavar="SECONDS",
        bounds=POSITIVE,
    )
    fix_geometry: bool = option(
        "--fix-geometry",
        help="resample series with uneven, missing, doubled or tilted slices (default: refuse them)",
        default=False,
    )
    accept: tuple[str, ...] = accept_option()
    device: Device | None = device_option()

    def __post_init__(self) -> None:
        """Refuse a receiver that is not HOST:PORT:AET, and titles that DICOM does not have (RequestError)."""
        super().__post_init__()
        host, _, rest = self.send.partition(":")
        port, _, title = rest.partition(":")
        if not (host and port.isdigit() and 0 < int(port) < 1 << 16 and title):
            raise RequestError(f"{self.send} is not a node", remedy="give --send as HOST:PORT:AET")
        for one in (title, self.title, *self.allow):
            if not 0 < len(one.strip()) <= 16:
                raise RequestError(f"{one!r} is not a title", remedy="give 1 to 16 characters")
