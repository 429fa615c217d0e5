"""`gdm_audit_encoder`: an encoder on the user's volumes, beside its random twin."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdmunet.atomic import check_writable
from gdmunet.encoders import audit
from gdmunet.encoders.audit_report import EncoderAudit, plain_numbers
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.download import DownloadOptions
from gdmunet.encoders.random_weights import randomise
from gdmunet.errors import GdmError
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import HU_AIR, is_hounsfield
from gdmunet.imageio import read_volume
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.plans import STANDARD_HU
from gdmunet.serialization import save_json
from gdmunet.volume_formats.files import find_volumes
from gdmunet.volume_formats.table import FILE_ENDINGS
from gdmunet.workflows.encoder_data import TargetSource
from gdmunet.workflows.planned import find_planned
from gdmunet.workflows.requests.encoders import AuditEncoderRequest


@dataclass(frozen=True)
class AuditResult:
    """The audit of an encoder, and of its random twin if one was asked for."""

    audit: EncoderAudit
    random: EncoderAudit | None


def audit_encoder(request: AuditEncoderRequest, folders: Folders) -> AuditResult:
    """Audit an encoder, and write the numbers if a file was asked for.

    Raises
    ------
    GdmError
        Unknown encoder or data set, missing weights, unreadable volumes, or none.
    """
    if request.json:
        check_writable(request.json)  # before the work, not after it
    units, volumes = _from_files(request) if request.input else _from_dataset(request, folders)
    encoder = _choose(request, units, folders)
    audited = _audit(encoder, volumes, request, request.encoder)
    random = None
    if request.random:
        random = _audit(randomise(copy.deepcopy(encoder), request.seed), volumes, request, "random weights")
    if request.json:
        audits = {"audit": audited, "random": random}
        save_json({name: plain_numbers(audit) for name, audit in audits.items() if audit}, request.json)
    return AuditResult(audited, random)


def _audit(
    encoder: FrozenEncoder, volumes: Mapping[str, np.ndarray], request: AuditEncoderRequest, name: str
) -> EncoderAudit:
    return audit.audit_encoder(
        encoder, volumes, name=name, window=request.window, windows=request.windows, seed=request.seed
    )


def _choose(request: AuditEncoderRequest, units: VolumeUnits, folders: Folders) -> FrozenEncoder:
    options = EncoderOptions(
        folders.encoders,
        request.encoder_path,
        allow_download=downloads_allowed(),
        trust_checkpoint=request.trust_checkpoint,
        download=DownloadOptions(show_progress=request.show_progress),
    )
    choice = choose_encoder(request.encoder, units, request.dimensions, options)
    if choice.encoder is None:
        raise GdmError(
            "there is no such encoder", found=choice.because, remedy="choose an encoder that can be loaded here"
        )
    return choice.encoder


def _from_dataset(request: AuditEncoderRequest, folders: Folders) -> tuple[VolumeUnits, dict[str, np.ndarray]]:
    assert request.dataset is not None  # the request has files or a data set
    plans = find_planned(folders, request.dataset, request.plans)
    name = request.configuration or ("2d" if request.dimensions == 2 else "3d_fullres")
    source = TargetSource.find(plans, name, request.fold, folders)
    return source.units, source.held_out(request.volumes)


def _from_files(request: AuditEncoderRequest) -> tuple[VolumeUnits, dict[str, np.ndarray]]:
    hounsfield = is_hounsfield(request.modality)
    spec = STANDARD_HU if hounsfield else replace(STANDARD_HU, scale=1.0)
    background = HU_AIR if hounsfield else 0.0
    volumes = {}
    for path in _list(request.input)[: request.volumes]:
        volume = read_volume(path)
        array = canonical_axes(volume.geometry).apply(volume.array)
        volumes[path.name] = array / spec.scale if hounsfield else _standardised(array)
        background = background if hounsfield else min(background, float(volumes[path.name].min()))
    return VolumeUnits(spec, background, request.modality), volumes


def _list(files: tuple[Path, ...]) -> list[Path]:
    listed: list[Path] = []
    for path in files:
        if path.is_dir():
            listed += find_volumes(path).values()
        else:
            listed.append(path)
    if not listed:
        raise GdmError(
            "there are no volumes",
            file=files[0],
            expected=f"files ending in {', '.join(FILE_ENDINGS)}",
            remedy="check the path",
        )
    return listed


def _standardised(array: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 inside the body, nearly as the map of a data set."""
    low = float(array.min())
    body = array[array > low + 0.1 * (np.percentile(array, 99) - low)]
    standardised: np.ndarray = (array - body.mean()) / max(float(body.std()), 1e-6)
    return standardised
