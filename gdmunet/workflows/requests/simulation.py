"""The request of ``gdm_simulate_svct``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.scan_spec import MU_WATER, VIEW_PRESETS, BackendName, Beam, FilterName, ScanSpec
from gdmunet.workflows.requests.declaration import ProgressRequest, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    HELD_OUT,
    NEW_NUMBER,
    groups_option,
    held_out_option,
    part_id_option,
    parts_option,
    processes_option,
    scheduler_option,
)
from gdmunet.workflows.requests.values import COUNT, NATURAL, POSITIVE


@request
class SimulateSvctRequest(ProgressRequest):
    """Make a data set of sparse-view CT from CT volumes."""

    synopsis = Synopsis(
        "gdm_simulate_svct",
        "Scan CT volumes with few views and reconstruct them: the reconstruction becomes the condition, the CT the "
        "target. After an interruption the same command goes on where it stopped.",
        folders=("raw",),
    )
    input: tuple[Path, ...] = option("-i", "--input", help="CTs in HU, or folders of them", metavar="PATH")
    dataset: int = option("-d", "--dataset", help=NEW_NUMBER, metavar="NUMBER")
    name: str = option(
        "-n", "--name", help="name of the new data set: letters, digits, _ and -", default="SparseViewCT"
    )
    views: int = option(
        "--views",
        help=f"number of views; fewer: more streaks, nearer to the axis; usual: {', '.join(map(str, VIEW_PRESETS))}",
        default=36,
        metavar="N",
        bounds=COUNT,
    )
    geometry: Beam = option(
        "--geometry",
        help="parallel or fan: slice by slice; cone: the volume at once, with --backend rtk",
        default="parallel",
    )
    range: Literal[180, 360] | None = option(
        "--range",
        help="angle in degrees over which the views lie, 180 or 360; default: 180 for parallel beams, 360 for others",
        default=None,
        metavar="DEGREES",
    )
    start_offset: float = option("--start_offset", help="angle of the first view", default=0.0, metavar="DEGREES")
    random_offset: bool = option(
        "--random_offset", help="start each case at a random angle of up to one step between views", default=False
    )
    filter: FilterName = option("--filter", help="filter of the filtered back-projection", default="ramp")
    mu_water: float = option(
        "--mu_water",
        help="linear attenuation of water, in 1/mm",
        default=MU_WATER,
        metavar="PER_MM",
        bounds=POSITIVE,
    )
    i0: float | None = option(
        "--i0",
        help="photons per ray without an object; fewer: more noise, most behind wide bodies; default: no noise",
        default=None,
        metavar="PHOTONS",
        bounds=POSITIVE,
    )
    electronic_noise: float = option(
        "--electronic_noise",
        help="standard deviation of the electronic noise; needs --i0",
        default=0.0,
        metavar="PHOTONS",
    )
    seed: int = option("--seed", help="seed of noise and random offset", default=0, bounds=NATURAL)
    field_of_view: float | None = option(
        "--field_of_view",
        help="diameter of the circle beyond which there is air, in scan, reconstruction and mask; default: the "
        "detector covers the slice's diagonal",
        default=None,
        metavar="MM",
        bounds=POSITIVE,
    )
    source_to_axis: float = option(
        "--source_to_axis",
        help="distance from source to rotation axis, for fan and cone beams",
        default=570.0,
        metavar="MM",
        bounds=POSITIVE,
    )
    backend: BackendName = option("--backend", help="program that projects and reconstructs", default="torch")
    test: tuple[str, ...] = held_out_option(HELD_OUT)
    groups: Path | None = groups_option(
        "table with the header case,patient and any further groups; default: every case is a patient of its own"
    )
    convex_body: bool = option(
        "--convex_body",
        help="body mask: convex hull in every axial slice, for crops that cut the patient",
        default=False,
    )
    save_sinograms: bool = option(
        "--save_sinograms", help="also write sinogramsTr/CASE.npz, for gdm_predict --sinogram", default=False
    )
    device: Literal["cpu", "cuda"] = option(
        "-device", "--device", help="computing device of the back end torch", default="cpu"
    )
    processes: int = processes_option(2)
    num_parts: int = parts_option()
    part_id: int = part_id_option()
    scheduler: str | None = scheduler_option()

    def __post_init__(self) -> None:
        """Refuse an impossible scan (GdmError)."""
        super().__post_init__()
        self.scan  # noqa: B018 - made to be checked

    @property
    def scan(self) -> ScanSpec:
        """Settings of the scan of every CT."""
        return ScanSpec(
            views=self.views,
            beam=self.geometry,
            range_degrees=float(self.range or (180 if self.geometry == "parallel" else 360)),
            start_degrees=self.start_offset,
            random_offset=self.random_offset,
            filter=self.filter,
            mu_water=self.mu_water,
            photons=self.i0,
            electronic_noise=self.electronic_noise,
            seed=self.seed,
            field_of_view=self.field_of_view,
            source_to_axis=self.source_to_axis,
            backend=self.backend,
        )
