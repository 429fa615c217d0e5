"""``gdm_doctor``: look at the machine before the first training."""

from __future__ import annotations

import json

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.doctor import DoctorRequest


@command(DoctorRequest)
def main(request: DoctorRequest, folders: Folders) -> int:
    """Entry point of ``gdm_doctor``."""
    from gdmunet.progress import say
    from gdmunet.workflows.doctor.diagnosis import diagnose
    from gdmunet.workflows.doctor.finding import findings_json, findings_text, pasteable

    findings = diagnose(request, folders)
    if request.json:
        print(json.dumps(findings_json(findings), indent=2))
    elif request.paste:
        say(pasteable(findings))
    else:
        say(findings_text(findings))
        say("\nfor a bug report: gdm_doctor --paste")
    return int(any(one.state == "bad" for one in findings))
