"""``gdm_convert_dicom``: DICOM series to volumes and data sets, and CT volumes to DICOM series."""

from __future__ import annotations

from gdmunet.cli.flags import command
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import ConvertDicomRequest


@command(ConvertDicomRequest)
def main(request: ConvertDicomRequest, folders: Folders) -> None:
    """Entry point of ``gdm_convert_dicom``."""
    from gdmunet.workflows.convert_dicom import convert_dicom

    print("\n".join(convert_dicom(request, folders)))
