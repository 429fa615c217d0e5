"""The request of the command that looks at the machine."""

from __future__ import annotations

from gdmunet.workflows.requests.declaration import ProgressRequest, Synopsis, option, request
from gdmunet.workflows.requests.shared import Device, device_option


@request
class DoctorRequest(ProgressRequest):
    """Look at the machine before the first training, or for a bug report."""

    synopsis = Synopsis(
        "gdm_doctor",
        "Look at what gdmunet stands on: versions that must fit each other, GPUs and their driver, cores, memory, the "
        "three folders (permissions, room, speed), encoders, decoders of DICOM; then take training steps for five "
        "seconds. Each finding has its advice. The exit status is 1 if one of them is bad.",
        folders=("raw", "preprocessed", "results"),
    )
    device: Device | None = device_option("device of the training steps")
    json: bool = option("--json", help="print the findings as JSON alone", default=False, group="form")
    paste: bool = option("--paste", help="print a block for a bug report alone", default=False, group="form")
