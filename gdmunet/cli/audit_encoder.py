"""``gdm_audit_encoder``: an encoder on the user's volumes, level by level."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.encoders import AuditEncoderRequest
from gdmunet.workflows.requests.planning import PlanAndPreprocessRequest


@command(AuditEncoderRequest)
def main(request: AuditEncoderRequest, folders: Folders) -> PlanAndPreprocessRequest:
    """Entry point of ``gdm_audit_encoder``."""
    from gdmunet.encoders.audit_report import audit_table
    from gdmunet.progress import say
    from gdmunet.workflows.audit_encoder import audit_encoder

    result = audit_encoder(request, folders)
    say(f"{result.audit.encoder} on {', '.join(result.audit.volumes)}\n")
    say(audit_table(result.audit, result.random))
    return PlanAndPreprocessRequest(
        dataset=(request.dataset or "DATASET",),
        encoder=request.encoder,
        encoder_path=request.encoder_path,
        trust_checkpoint=request.trust_checkpoint,
    )
