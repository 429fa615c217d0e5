"""``gdm_pretrain_encoder``: an encoder trained on the user's target volumes."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.encoders import AuditEncoderRequest, PretrainEncoderRequest


@command(PretrainEncoderRequest)
def main(request: PretrainEncoderRequest, folders: Folders) -> AuditEncoderRequest:
    """Entry point of ``gdm_pretrain_encoder``."""
    from gdmunet.progress import say
    from gdmunet.workflows.pretrain_encoder import pretrain_encoder

    folder = pretrain_encoder(request, folders)
    say(f"encoder: mae:{folder}")
    return AuditEncoderRequest(
        encoder=f"mae:{folder}",
        dataset=request.dataset,
        configuration=request.configuration,
        fold=request.fold,
        plans=request.plans,
        dimensions=request.dimensions,
    )
