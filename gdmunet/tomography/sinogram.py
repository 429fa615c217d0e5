"""Sinograms as files: ``CASE.npz`` with the projections and, as JSON, the data that a reconstruction needs."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gdmunet.atomic import atomic_path
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import from_json, to_json
from gdmunet.tomography.scan_geometry import ScanGeometry

ENDING = ".npz"


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
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
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
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as content:
            projections, text = content["projections"], str(content["header"])
        header = from_json(ScanHeader, json.loads(text), "header")
    except FileNotFoundError as error:
        raise GdmError("the file is missing", file=path, remedy="check the path") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise GdmError(
            "the sinogram cannot be read",
            file=path,
            found=str(error),
            expected="a .npz of projections, angles and header, as gdm_simulate_svct --save-sinograms writes it",
        ) from error
    scan = header.scan
    if projections.ndim != 3 or projections.shape[1:] != (scan.views, scan.bins):
        raise GdmError(
            "the projections are not what the header says",
            file=path,
            found=projections.shape,
            expected=f"(slices, {scan.views} views, {scan.bins} bins)",
        )
    if not np.isfinite(projections).all():
        raise GdmError("the sinogram has values that are not numbers", file=path, expected="finite line integrals")
    return Sinogram(header, torch.from_numpy(projections.astype(np.float32, copy=False)))
