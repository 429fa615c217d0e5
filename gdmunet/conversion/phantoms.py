"""Randomised head phantoms: exact pairs of MR and CT from numbers alone. They show no real person.

Warped ellipsoids become a tissue map; a table of tissue properties turns the map into a CT in HU and, through the
spin-echo signal equation, into an MR image with a bias field and Rician noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from gdmunet.dataset import DatasetDescriptor
from gdmunet.dataset_names import DESCRIPTOR_FILE, RawFolders
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.hounsfield import HU_RANGE
from gdmunet.imageio import write_volume
from gdmunet.progress import track
from gdmunet.serialization import save_json

Contrast = Literal["T1", "T2", "PD"]
Triple = np.ndarray | tuple[float, float, float]
# A phantom fills a cube of this side, whatever its number of voxels.
FIELD_OF_VIEW_MM = 180.0
_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Tissue:
    """CT value and its spread in HU, proton density (water 1), relaxation times in ms."""

    hu: float
    hu_spread: float
    proton_density: float
    t1: float
    t2: float


AIR, SCALP, SKULL, FLUID, GREY, WHITE, SINUS, LESION = range(8)
TISSUES = {
    AIR: Tissue(-1000, 5, 0.0, 1, 1),
    SCALP: Tissue(-80, 15, 0.9, 300, 70),
    SKULL: Tissue(900, 150, 0.12, 300, 5),
    FLUID: Tissue(5, 6, 1.0, 4000, 1500),
    GREY: Tissue(37, 5, 0.85, 1350, 95),
    WHITE: Tissue(29, 5, 0.72, 850, 75),
    SINUS: Tissue(-1000, 5, 0.0, 1, 1),
    LESION: Tissue(45, 8, 0.9, 1600, 110),
}
# Ranges of repetition and echo time in ms.
_TIMES = {"T1": ((400, 650), (8, 15)), "T2": ((3500, 5500), (80, 110)), "PD": ((2500, 4000), (10, 20))}


@dataclass(frozen=True)
class Phantom:
    """One pair: MR in arbitrary units (float32), CT in HU (int16), body mask (bool), all (z, y, x)."""

    mr: np.ndarray
    ct: np.ndarray
    mask: np.ndarray


def make_phantom(seed: int, size: int, contrast: Contrast = "T1") -> Phantom:
    """One phantom of `size` voxels along each side; the same seed gives the same phantom."""
    rng = np.random.default_rng(seed)
    tissue = _tissue_map(rng, size)
    ct, mr = np.zeros(tissue.shape, np.float32), np.zeros(tissue.shape, np.float32)
    repetition, echo = (float(rng.uniform(*limits)) for limits in _TIMES[contrast])
    for label, values in TISSUES.items():
        where = tissue == label
        mean = values.hu + rng.normal(0, values.hu_spread * 0.3)
        ct[where] = mean + rng.normal(0, values.hu_spread, where.sum()) * 0.5
        mr[where] = _spin_echo(values, values.t1 * rng.uniform(0.95, 1.05), repetition, echo)
    ct = gaussian_filter(ct, 0.7) + rng.normal(0, 8, tissue.shape)
    mr = gaussian_filter(mr, 0.6) * np.exp(_smooth_field(rng, size, 4, 0.15))
    mr /= mr.max()
    noise = rng.uniform(0.01, 0.03)
    mr = np.hypot(mr + rng.normal(0, noise, tissue.shape), rng.normal(0, noise, tissue.shape)) * 1000
    mask = gaussian_filter((tissue > AIR).astype(np.float32), 1) > 0.3
    return Phantom(mr.astype(np.float32), np.clip(ct, *HU_RANGE).astype(np.int16), mask)


def make_phantom_demo(
    raw_folder: Path, *, cases: int = 12, size: int = 48, seed: int = 0, show_progress: bool = True
) -> Path:
    """Write ``Dataset502_DemoPhantoms``: T1-weighted MR to CT, every fourth case held out.

    Raises
    ------
    GdmError
        Fewer than four cases, or fewer than 16 voxels along each side.
    """
    if cases < 4 or size < 16:
        raise GdmError(
            "the phantoms are too few or too small",
            found=f"{cases} of {size}^3",
            expected="4 of 16^3",
            remedy="ask for more or larger ones",
        )
    folder = Path(raw_folder) / "Dataset502_DemoPhantoms"
    geometry = Geometry((size,) * 3, (FIELD_OF_VIEW_MM / size,) * 3)
    held_out = range(3, cases, 4)
    for index in track("phantoms", list(range(cases)), show_progress):
        phantom, name = make_phantom(seed + index, size), f"head_{index:03d}"
        folders = RawFolders(folder, "Ts" if index in held_out else "Tr")
        write_volume(folders.image(name, _ENDING), phantom.mr, geometry)
        write_volume(folders.target(name, _ENDING), phantom.ct, geometry)
        write_volume(folders.mask(name, _ENDING), phantom.mask, geometry)
    save_json(_descriptor(cases - len(held_out), size, seed), folder / DESCRIPTOR_FILE)
    return folder


def _descriptor(training: int, size: int, seed: int) -> DatasetDescriptor:
    return DatasetDescriptor(
        channel_names={"0": "T1"},
        target_name="CT",
        file_ending=_ENDING,
        numTraining=training,
        name="DemoPhantoms",
        mask=True,
        info={"made_by": "gdmunet.conversion.phantoms", "what": "generated head phantoms", "size": size, "seed": seed},
    )


def _tissue_map(rng: np.random.Generator, size: int) -> np.ndarray:
    """Labels (size, size, size) of a head of nested, warped ellipsoids; the first axis is the long one."""
    grid = _warped_grid(rng, size)
    stretch = rng.uniform(0.92, 1.08, 3)
    radii = np.array([0.86, 0.9, 0.72]) * stretch

    def inside(semiaxes: Triple, centre: Triple = (0.0, 0.0, 0.0)) -> np.ndarray:
        radius: np.ndarray = sum(((grid[i] - centre[i]) / semiaxes[i]) ** 2 for i in range(3))
        return radius

    tissue = np.zeros((size,) * 3, np.uint8)
    scalp, skull = rng.uniform(0.05, 0.08), rng.uniform(0.06, 0.1)
    brain = radii - scalp - skull - rng.uniform(0.02, 0.05)
    shells = ((SCALP, radii), (SKULL, radii - scalp), (FLUID, radii - scalp - skull), (GREY, brain))
    for label, semiaxes in shells:
        tissue[inside(semiaxes) < 1] = label
    # The folded border of grey and white matter.
    tissue[inside(brain * 0.8) + _smooth_field(rng, size, 9, 0.12) < 1] = WHITE
    for side in (-1, 1):
        tissue[inside((0.3 * stretch[0], 0.28 * stretch[1], 0.09), (0.02, 0.05, side * 0.12)) < 1] = FLUID
        tissue[inside((0.1, 0.12, 0.09), (-0.05, -0.1, side * 0.2)) < 1] = GREY
    tissue[inside((0.12, 0.16, 0.13), (-0.45, -0.72 * stretch[1], 0)) < 1] = SINUS
    if rng.random() < 0.5:
        tissue[inside(rng.uniform(0.06, 0.14, 3), rng.uniform(-0.3, 0.3, 3)) < 1] = LESION
    return tissue


def _warped_grid(rng: np.random.Generator, size: int) -> np.ndarray:
    """Coordinates (3, size, size, size) from -1 to 1, smoothly warped and turned about the first axis."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"))
    z, y, x = grid + np.stack([_smooth_field(rng, size, 5, 0.06) for _ in range(3)])
    angle = rng.uniform(-0.2, 0.2)
    return np.stack([z, np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x])


def _smooth_field(rng: np.random.Generator, size: int, knots: int, spread: float) -> np.ndarray:
    """A random field (size, size, size): normal values on knots^3 points, cubic between them."""
    coarse = rng.normal(0, spread, (knots,) * 3).astype(np.float32)
    field: np.ndarray = zoom(coarse, size / knots, order=3)[:size, :size, :size]
    return field


def _spin_echo(tissue: Tissue, t1: float, repetition: float, echo: float) -> float:
    """Signal PD (1 - exp(-TR/T1)) exp(-TE/T2), times in ms."""
    return float(tissue.proton_density * (1 - np.exp(-repetition / t1)) * np.exp(-echo / tissue.t2))
