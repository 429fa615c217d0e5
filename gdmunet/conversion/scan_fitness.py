"""Whether CTs can be scanned as asked, and what the scan does to them: found out before the first one is simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.errors import GdmError
from gdmunet.geometry import canonical_axes
from gdmunet.imageio import Volume, read_volume
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.quantities import counted
from gdmunet.scan_spec import ScanSpec
from gdmunet.splits import named
from gdmunet.tomography.scan_geometry import plan_geometry
from gdmunet.tomography.simulation import stored_ct
from gdmunet.workers import run_in_workers

# Below as many photons in a bin, a ray says little but noise.
_FEW_PHOTONS = 10.0


@dataclass(frozen=True)
class ScanEffect:
    """What a scan does to one CT.

    Attributes
    ----------
    outside
        Share of the body's voxels beyond the field of view.
    photons
        Photons that are left behind the widest part of the body, taken as water; None: no noise.
    sharp_radius
        mm from the axis within which the views lie closer than a pixel (pixel / step of the angle); the distance
        beyond which few views leave streaks.
    radius
        mm from the axis to the body's farthest voxel.
    """

    outside: float
    photons: float | None
    sharp_radius: float
    radius: float


def check_cts(cts: Mapping[str, Path], settings: ScanSpec, processes: int, show_progress: bool) -> list[str]:
    """Refuse CTs that cannot be scanned, all of them at once; lines about what the scan does to the others.

    Raises
    ------
    GdmError
        Lists every CT that cannot be read or scanned, with its reason.
    """
    items = [(name, (name, path, settings)) for name, path in cts.items()]
    answers = dict(zip(cts, run_in_workers(_examine, items, processes, show_progress, "checking CTs"), strict=True))
    unfit = {name: answer for name, answer in answers.items() if isinstance(answer, GdmError)}
    if unfit:
        first = next(iter(unfit))
        raise GdmError(
            f"{counted(unfit, 'CT')} of {len(cts)} cannot be scanned in this way; none was begun",
            case=first,
            file=cts[first],
            found="".join(f"\n    {name}: {error.problem} ({error.found})" for name, error in unfit.items()),
            expected=unfit[first].expected,
            remedy=f"{unfit[first].remedy or 'mend the file'}; or leave these CTs out of -i",
        )
    return describe({name: answer for name, answer in answers.items() if isinstance(answer, ScanEffect)}, settings)


def describe(effects: Mapping[str, ScanEffect], settings: ScanSpec) -> list[str]:
    """Lines for people: what field of view, noise and number of views do to the CTs."""
    lines = []
    cut = sorted((name for name, one in effects.items() if one.outside > 0), key=lambda name: -effects[name].outside)
    if cut:
        lines.append(
            f"field of view: a circle of {settings.field_of_view:g} mm cuts the body of {counted(cut, 'CT')} of "
            f"{len(effects)}, up to {100 * effects[cut[0]].outside:.0f} % of it ({named(cut)}); there is air beyond it"
        )
    weakest = min(effects, key=lambda name: effects[name].photons or math.inf, default=None)
    if weakest is not None and (photons := effects[weakest].photons) is not None:
        lines.append(
            f"noise: of {settings.photons:g} photons about {photons:.3g} are left behind the widest body ({weakest}): "
            + (f"fewer than {_FEW_PHOTONS:g}, rays there hold little but noise" if photons < _FEW_PHOTONS else
               f"{100 / math.sqrt(photons):.2g} % noise in those rays")
        )  # fmt: skip
    streaky = sorted(name for name, one in effects.items() if one.radius > one.sharp_radius)
    if streaky:
        sharp = min(effects[name].sharp_radius for name in streaky)
        lines.append(
            f"views: {counted(settings.views, 'view')} lie closer than a pixel up to {sharp:.0f} mm from the axis; "
            f"beyond it {counted(streaky, 'CT')} of {len(effects)} get streaks, the more the farther out"
        )
    return lines


def _examine(identifier: str, file: Path, settings: ScanSpec) -> ScanEffect | GdmError:
    try:
        return examine_ct(stored_ct(read_volume(file, identifier)), settings, identifier)
    except GdmError as error:
        return error.located(case=identifier, file=file)


def examine_ct(ct: Volume, settings: ScanSpec, identifier: str) -> ScanEffect:
    """What a scan does to a CT in HU.

    Raises
    ------
    GdmError
        Axial pixels that are not square, a source inside the patient, or no body inside the field of view.
    """
    axes = canonical_axes(ct.geometry)
    grid = axes.apply_to_geometry(ct.geometry)
    scan = plan_geometry(settings, grid.shape[1:], grid.spacing, identifier)
    body = derive_body_mask(axes.apply(ct.array)[None], ("CT",), grid.spacing)
    seen = body & scan.inside().numpy()
    if not seen.any():
        raise GdmError(
            "no body lies inside the field of view",
            case=identifier,
            found=f"a circle of {settings.field_of_view:g} mm about the middle of the slices",
            remedy="give a larger --field-of-view",
        )
    y, x = np.nonzero(seen.any(axis=0))
    height, width = grid.shape[1:]
    radius = scan.pixel * float(np.hypot(y - height // 2, x - width // 2).max())
    # Of the widest slice along the better axis: a ray through it meets about that much of water.
    longest = scan.pixel * max(int(seen.sum(axis=axis).max()) for axis in (1, 2))
    photons = None if settings.photons is None else settings.photons * math.exp(-settings.mu_water * longest)
    step = math.radians(settings.range_degrees) / settings.views
    return ScanEffect(1 - float(seen.sum()) / float(body.sum()), photons, scan.pixel / step, radius)
