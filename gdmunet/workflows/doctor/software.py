"""Versions of what gdmunet stands on, and whether they fit each other."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata

from packaging.requirements import Requirement
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

from gdmunet.version import __version__
from gdmunet.workflows.doctor.finding import Finding

_AREA = "software"
_LIBRARIES = ("numpy", "scipy", "SimpleITK", "scikit-image", "pydicom", "blosc2", "dynamic-network-architectures")
# Compressions that scanners and archives use.
_COMPRESSIONS = {
    "RLE": uid.RLELossless,
    "JPEG": uid.JPEGBaseline8Bit,
    "JPEG Lossless": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}


def software_findings() -> list[Finding]:
    """Python, libraries, the pair of torch and torchvision, decoders of DICOM."""
    libraries = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in _LIBRARIES)
    return [
        Finding(_AREA, "gdmunet", __version__),
        Finding(_AREA, "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        vision_pair(version_of("torch"), version_of("torchvision"), metadata.requires),
        Finding(_AREA, "libraries", libraries),
        dicom_decoders(),
    ]


def version_of(package: str) -> str | None:
    """The installed version; None: it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def vision_pair(torch: str | None, torchvision: str | None, requires: Callable[[str], list[str] | None]) -> Finding:
    """Whether torchvision is the one that was made for this torch: another one fails when it is imported."""
    found = f"torch {torch}, torchvision {torchvision or 'missing'}"
    if torch is None or torchvision is None:
        return Finding(
            _AREA, "torch and torchvision", found, "bad", "install both in one command: pip install torch torchvision"
        )
    wanted = [one for one in map(Requirement, requires("torchvision") or []) if one.name == "torch"]
    if all(one.specifier.contains(torch, prereleases=True) for one in wanted):
        return Finding(_AREA, "torch and torchvision", found)
    expected = ", ".join(f"torch{one.specifier}" for one in wanted)
    return Finding(
        _AREA,
        "torch and torchvision",
        f"{found}, which needs {expected}",
        "bad",
        "install both in one command, with the index of your CUDA version: pip install torch torchvision",
    )


def dicom_decoders() -> Finding:
    """The compressions of DICOM files that cannot be read."""
    missing = [name for name, syntax in _COMPRESSIONS.items() if not get_decoder(syntax).is_available]
    if not missing:
        return Finding(_AREA, "compressed DICOM", "every usual compression can be read")
    return Finding(
        _AREA,
        "compressed DICOM",
        f"cannot be read: {', '.join(missing)}",
        "note",
        'for such files: pip install "gdmunet[dicom]"',
    )
