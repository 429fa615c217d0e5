"""Settings of a simulated scan: the part of dataset.json about the origin of its conditions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gdmunet.errors import GdmError

if TYPE_CHECKING:
    import numpy as np

Beam = Literal["parallel", "fan", "cone"]
FilterName = Literal["ramp", "shepp-logan", "hann"]
BackendName = Literal["torch", "skimage", "astra", "rtk"]
# Linear attenuation of water in 1/mm (about 70 keV).
MU_WATER = 0.0192
# Numbers of views that publications use.
VIEW_PRESETS = (18, 36, 60, 72, 144)


@dataclass(frozen=True)
class ScanSpec:
    """Settings that the scans of a data set share.

    Attributes
    ----------
    beam
        ``parallel`` and ``fan``: slice by slice; ``cone``: the volume at once.
    views, range_degrees, start_degrees
        Number of views, evenly over 180 or 360 degrees from the start angle on. Fan and cone beams need 360.
    random_offset
        Whether each case starts at a random angle of up to one step between views, drawn from its name.
    filter
        Filter of the filtered back-projection.
    mu_water
        Linear attenuation of water in 1/mm: HU = 1000 (mu / mu_water - 1).
    photons, electronic_noise
        Photons per ray without an object (I0), None: no noise; standard deviation of the electronics in photons.
    seed
        Seed of noise and random offset, together with the name of the case.
    field_of_view
        Diameter in mm of a circle about the rotation axis beyond which there is air; None: the detector covers the
        slice's diagonal.
    source_to_axis
        mm from the source to the rotation axis; fan and cone beams only.
    backend
        Program that projected and reconstructed.
    """

    views: int = 36
    beam: Beam = "parallel"
    range_degrees: float = 180.0
    start_degrees: float = 0.0
    random_offset: bool = False
    filter: FilterName = "ramp"
    mu_water: float = MU_WATER
    photons: float | None = None
    electronic_noise: float = 0.0
    seed: int = 0
    field_of_view: float | None = None
    source_to_axis: float = 570.0
    backend: BackendName = "torch"

    def __post_init__(self) -> None:
        _require(self.views >= 1, "a scan needs a view", self.views, "1 or more")
        _require(
            self.range_degrees in (180, 360), "views lie over a half or a full turn", self.range_degrees, "180, 360"
        )
        _require(
            self.beam == "parallel" or self.range_degrees == 360,
            f"a {self.beam} beam over half a turn does not measure every line",
            f"{self.range_degrees:g} degrees",
            "360 degrees",
        )
        _require(self.mu_water > 0, "water attenuates", self.mu_water, "mu_water above 0")
        _require(self.photons is None or self.photons >= 1, "a ray needs photons", self.photons, "1 or more")
        _require(self.electronic_noise >= 0, "noise has no negative spread", self.electronic_noise, "0 or more")
        _require(self.electronic_noise == 0 or self.photons is not None, "electronic noise is counted in photons of a "
                 "ray", "no photons", "photons (--i0) as well")  # fmt: skip
        _require(self.field_of_view is None or self.field_of_view > 0, "the field of view is empty",
                 self.field_of_view, "a diameter in mm")  # fmt: skip
        _require(self.source_to_axis > 0, "the source lies on the axis", self.source_to_axis, "a distance in mm")

    def angles(self, identifier: str) -> tuple[float, ...]:
        """Angles in degrees of a case's views."""
        step = self.range_degrees / self.views
        start = self.start_degrees
        if self.random_offset:
            start += float(case_generator(self.seed, identifier, "offset").uniform(0, step))
        return tuple(start + step * view for view in range(self.views))


def case_generator(seed: int, identifier: str, purpose: str) -> np.random.Generator:
    """Random numbers that depend on the seed, the case's name and their purpose alone, not on the order of cases."""
    import numpy as np  # here, so that --help, which reads the names of beams and filters, needs none

    digest = hashlib.sha256(f"{seed}/{purpose}/{identifier}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _require(condition: bool, problem: str, found: object, expected: str) -> None:
    if not condition:
        raise GdmError(problem, found=found, expected=expected, remedy="correct these settings of the scan")
