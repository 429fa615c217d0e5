"""The user's consents to code that data name."""

from __future__ import annotations

from gdmunet.consents import allow, read_consents, withdraw
from gdmunet.paths import Folders
from gdmunet.workflows.requests.models import TrustRequest


def trust(request: TrustRequest, folders: Folders) -> list[str]:
    """Allow a file, withdraw its consent, or list what is allowed; gives lines for people.

    Raises
    ------
    GdmError
        The file is missing, or the list cannot be read or written.
    """
    if request.file is None:
        files = read_consents(folders.consents).files
        return [f"{folders.consents}: {'no file is' if not files else 'these files are'} allowed to run"] + [
            f"  {sha256}  {path}" for sha256, path in files.items()
        ]
    sha256 = (withdraw if request.withdraw else allow)(request.file, folders.consents)
    word = "no longer allowed" if request.withdraw else "allowed"
    return [f"{word} to run: {request.file.resolve()} (sha256 {sha256}), in {folders.consents}"]
