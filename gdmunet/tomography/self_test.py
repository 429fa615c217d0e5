"""Do projection and reconstruction give water its number? A cylinder of it, 720 views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.simulation import simulate_scan

TOLERANCE_HU = 5.0
# Pixels at the cylinder's border that are not looked at: every band-limited filter overshoots there.
RIM = 4


@dataclass(frozen=True)
class SelfTest:
    """Mean HU of the rings (one pixel wide) inside and outside the cylinder that deviate the most."""

    inside: float
    outside: float

    @property
    def passed(self) -> bool:
        """Water is 0 HU and air -1000 HU, each within 5 HU."""
        return abs(self.inside) <= TOLERANCE_HU and abs(self.outside + 1000) <= TOLERANCE_HU


def self_test(settings: ScanSpec | None = None, side: int = 128, pixel: float = 1.0) -> SelfTest:
    """Scan and reconstruct a water cylinder of 0.6 of the slice's side, whose border pixels are shared with air."""
    settings = settings or ScanSpec(views=720)
    radius, fine = 0.3 * side, 10
    offsets = (np.arange(side * fine) + 0.5) / fine - 0.5 - side // 2
    share = (np.hypot(*np.meshgrid(offsets, offsets)) <= radius).reshape(side, fine, side, fine).mean((1, 3))
    slices = 3 if settings.beam == "cone" else 1
    cylinder = np.repeat((1000 * share - 1000)[None].astype(np.float32), slices, 0)
    volume = Volume(cylinder, Geometry((slices, side, side), (pixel, pixel, pixel)))
    middle_slice = simulate_scan(volume, settings, "water").reconstruction[slices // 2]
    ring = np.hypot(*(np.mgrid[:side, :side] - side // 2)).astype(int)
    means = np.bincount(ring.ravel(), middle_slice.ravel()) / np.bincount(ring.ravel())
    # Beyond the inscribed circle a ring is a few pixels of the corners.
    inside, outside = means[: int(radius) - RIM], means[int(radius) + RIM : side // 2]
    return SelfTest(_worst(inside, 0.0), _worst(outside, -1000.0))


def _worst(means: np.ndarray, expected: float) -> float:
    return float(means[np.argmax(np.abs(means - expected))])
