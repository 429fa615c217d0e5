"""All findings about the machine."""

from __future__ import annotations

from collections.abc import Callable

from gdmunet.paths import Folders
from gdmunet.progress import track
from gdmunet.training.trainers.trainer_settings import TrainerSettings
from gdmunet.workflows.doctor.finding import Finding
from gdmunet.workflows.doctor.machine import machine_findings
from gdmunet.workflows.doctor.software import software_findings
from gdmunet.workflows.doctor.storage import storage_findings
from gdmunet.workflows.doctor.trial import trial_finding
from gdmunet.workflows.requests.doctor import DoctorRequest


def diagnose(request: DoctorRequest, folders: Folders) -> list[Finding]:
    """Look at software, machine, folders and encoders, and take a few training steps."""
    length = TrainerSettings.length()
    parts: tuple[Callable[[], list[Finding]], ...] = (
        software_findings,
        machine_findings,
        lambda: storage_findings(folders),
        lambda: [trial_finding(request.device, length)],
    )
    return [finding for part in track("looking at the machine", parts, request.show_progress) for finding in part()]
