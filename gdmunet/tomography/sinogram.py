"""Sinograms as files: ``CASE.npz`` with the projections and, as JSON, the data that a reconstruction needs."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from gdmunet.atomic import atomic_file
from gdmunet.errors import GdmError
from gdmunet.foreign import reading
from gdmunet.geometry import Geometry
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import parse_as, to_json
from gdmunet.tomography.scan_geometry import ScanGeometry

ENDING = ".npz"
_AGAIN = "write the sinogram again"
# Bytes of arrays over those of their file: a scan of little more than air shrinks by a tenth of it.
_MOST_RATIO = 200


@dataclass(frozen=True)
class ScanHeader:
    """The header of a sinogram file.

    Attributes
    ----------
    settings
        Settings with which it was simulated (or is to be reconstructed).
    scan
        Geometry of its rays in the slices.
    grid
        The grid of the volume, in the orientation of its file. Slices are those of its canonical (S, P, L) axes.
    """

    settings: ScanSpec
    scan: ScanGeometry
    grid: Geometry


@dataclass(frozen=True)
class Sinogram:
    """Line integrals (slices, views, bins), no unit, float32; for cone beams (rows, views, bins)."""

    header: ScanHeader
    projections: torch.Tensor


def write_sinogram(path: Path, sinogram: Sinogram) -> None:
    """Write ``projections`` (float32), ``angles`` (degrees) and ``header`` (JSON text) in a .npz, compressed."""
    header = json.dumps(to_json(sinogram.header))
    with atomic_file(path) as stream:
        np.savez_compressed(
            stream,
            projections=sinogram.projections.numpy().astype(np.float32, copy=False),
            angles=np.asarray(sinogram.header.scan.angles),
            header=np.array(header),
        )


def read_sinogram(path: Path) -> Sinogram:
    """Read a sinogram file.

    Raises
    ------
    GdmError
        Missing, damaged, values that are not finite, or projections of another shape than the header says.
    """
    expected = "a .npz of projections, angles and header, as gdm_simulate_svct --save-sinograms writes it"
    if not Path(path).is_file():
        raise GdmError("the file is missing", file=path, remedy="check the path")
    with (
        reading("the sinogram cannot be read", path, expected=expected, remedy="simulate it again"),
        open(path, "rb") as stream,
    ):
        _check_packed(stream, Path(path).stat().st_size)
        with np.load(stream, allow_pickle=False) as content:
            header = parse_as(ScanHeader, str(content["header"]), "header")
            projections = content["projections"]
    scan = header.scan
    if projections.ndim != 3 or projections.shape[1:] != (scan.views, scan.bins):
        raise GdmError(
            "the projections are not what the header says",
            file=path,
            found=projections.shape,
            expected=f"(slices, {scan.views} views, {scan.bins} bins)",
            remedy=_AGAIN,
        )
    if not np.isfinite(projections).all():
        raise GdmError(
            "the sinogram has values that are not numbers",
            file=path,
            expected="finite line integrals",
            remedy="write the sinogram again, from a CT with numbers alone",
        )
    return Sinogram(header, torch.from_numpy(projections.astype(np.float32, copy=False)))


def _check_packed(stream: BinaryIO, size: int) -> None:
    """Refuse a file whose arrays claim more than its bytes can hold; line integrals shrink by less than half."""
    members = {member.filename: member for member in zipfile.ZipFile(stream).infolist()}
    stream.seek(0)
    unpacked = sum(member.file_size for member in members.values())
    if len(members) > 8 or unpacked > _MOST_RATIO * size + 1_000_000 or any(m.flag_bits & 1 for m in members.values()):
        raise GdmError(
            "the sinogram is not packed as gdmunet packs it", found=f"{unpacked} bytes in {size}", remedy=_AGAIN
        )
    if (header := members.get("header.npy")) is not None and header.file_size > 64 << 20:
        raise GdmError("the header of the sinogram is too large", found=f"{header.file_size} bytes", remedy=_AGAIN)
