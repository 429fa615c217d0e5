"""`gdm_audit_encoder`: an encoder on the user's volumes, beside its random twin."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdmunet.dataset import FILE_ENDINGS, find_dataset
from gdmunet.encoders.audit import audit_encoder
from gdmunet.encoders.audit_report import EncoderAudit
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.download import DownloadOptions
from gdmunet.encoders.random_weights import randomise
from gdmunet.errors import GdmError
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import HU_AIR, is_hounsfield
from gdmunet.imageio import read_volume
from gdmunet.paths import Folders
from gdmunet.plans import STANDARD_HU, find_plans
from gdmunet.workflows.encoder_data import TargetSource


@dataclass(frozen=True)
class AuditRequest:
    """What to audit on what.

    Attributes
    ----------
    files
        Volumes, or folders of them; empty: validation targets of `dataset`.
    modality
        Of `files`; CT and CBCT are read as Hounsfield units, anything else is standardised by its body.
    encoder_file
        Weights that the user gave.
    volumes, windows, window
        Volumes at most, crops a volume, voxels a side of a crop.
    random
        Also audit the same network with random weights.
    """

    encoder: str
    files: tuple[Path, ...] = ()
    dataset: str | None = None
    configuration: str | None = None
    fold: str = "0"
    plans_name: str = "gdmPlans"
    modality: str = "CT"
    dimensions: int = 3
    encoder_file: Path | None = None
    allow_download: bool = True
    trust_checkpoint: bool = False
    volumes: int = 4
    windows: int = 4
    window: int = 64
    seed: int = 0
    random: bool = False
    show_progress: bool = True


@dataclass(frozen=True)
class AuditResult:
    """The audit of an encoder, and of its random twin where one was asked for."""

    audit: EncoderAudit
    random: EncoderAudit | None


def run_audit(request: AuditRequest, folders: Folders) -> AuditResult:
    """Audit an encoder.

    Raises
    ------
    GdmError
        Unknown encoder or data set, missing weights, unreadable volumes, or none.
    """
    units, volumes = _from_files(request) if request.files else _from_dataset(request, folders)
    encoder = _choose(request, units, folders)
    audit = _audit(encoder, volumes, request, request.encoder)
    if not request.random:
        return AuditResult(audit, None)
    twin = randomise(copy.deepcopy(encoder), request.seed)
    return AuditResult(audit, _audit(twin, volumes, request, "random weights"))


def _audit(encoder: FrozenEncoder, volumes: Mapping[str, np.ndarray], request: AuditRequest, name: str) -> EncoderAudit:
    return audit_encoder(encoder, volumes, name=name, window=request.window, windows=request.windows, seed=request.seed)


def _choose(request: AuditRequest, units: VolumeUnits, folders: Folders) -> FrozenEncoder:
    options = EncoderOptions(
        folders.encoders,
        request.encoder_file,
        allow_download=request.allow_download,
        trust_checkpoint=request.trust_checkpoint,
        download=DownloadOptions(show_progress=request.show_progress),
    )
    choice = choose_encoder(request.encoder, units, request.dimensions, options)
    if choice.encoder is None:
        raise GdmError("there is no such encoder", found=choice.because)
    return choice.encoder


def _from_dataset(request: AuditRequest, folders: Folders) -> tuple[VolumeUnits, dict[str, np.ndarray]]:
    if request.dataset is None:
        raise GdmError("there are no volumes to audit on", remedy="give files with -i, or a data set with -d")
    plans = find_plans(find_dataset(folders.preprocessed, request.dataset), request.plans_name)
    name = request.configuration or ("2d" if request.dimensions == 2 else "3d_fullres")
    source = TargetSource.find(plans, name, request.fold, folders)
    return source.units, source.held_out(request.volumes)


def _from_files(request: AuditRequest) -> tuple[VolumeUnits, dict[str, np.ndarray]]:
    hounsfield = is_hounsfield(request.modality)
    spec = STANDARD_HU if hounsfield else replace(STANDARD_HU, scale=1.0)
    background = HU_AIR if hounsfield else 0.0
    volumes = {}
    for path in _list(request.files)[: request.volumes]:
        volume = read_volume(path)
        array = canonical_axes(volume.geometry).apply(volume.array)
        volumes[path.name] = array / spec.scale if hounsfield else _standardised(array)
        background = background if hounsfield else min(background, float(volumes[path.name].min()))
    return VolumeUnits(spec, background, request.modality), volumes


def _list(files: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.name.endswith(FILE_ENDINGS) and not p.name.startswith("."))
        else:
            found.append(path)
    if not found:
        raise GdmError("there are no volumes", file=files[0], expected=f"files ending in {', '.join(FILE_ENDINGS)}")
    return found


def _standardised(array: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 inside the body: what the map of a data set does about."""
    low = float(array.min())
    body = array[array > low + 0.1 * (np.percentile(array, 99) - low)]
    return (array - body.mean()) / max(float(body.std()), 1e-6)
