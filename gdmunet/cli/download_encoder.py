"""``gdm_download_encoder``: fetch the weights of a frozen encoder, or list the encoders."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.encoders import DownloadEncoderRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest


@command(DownloadEncoderRequest)
def main(request: DownloadEncoderRequest, folders: Folders) -> DownloadEncoderRequest | PlanAndPreprocessRequest:
    """Entry point of ``gdm_download_encoder``."""
    from gdmunet.progress import say
    from gdmunet.workflows.download_encoder import download_encoder, encoder_table

    if request.list:
        say(encoder_table(request, folders))
        return DownloadEncoderRequest(name="NAME", folder=request.folder)
    fetched = download_encoder(request, folders)
    say(f"{fetched.name}: {fetched.file}")
    if fetched.sha256 is not None:
        say(f"sha256: {fetched.sha256}, revision {fetched.revision}")
    say(f"licence of the weights: {fetched.licence}")
    return PlanAndPreprocessRequest(dataset=("DATASET",), encoder=fetched.name)
