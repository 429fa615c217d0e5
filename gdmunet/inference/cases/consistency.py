"""Whether a prediction explains the projections that it was made from, and steps that bring it nearer to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gdmunet.serialization import load_json, save_json
from gdmunet.tomography.consistency import consistency_steps, projection_residual
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.reconstruction import filtered_back_projection
from gdmunet.tomography.simulation import attenuation_of, hu_of, slices_of
from gdmunet.tomography.sinogram import Sinogram

RESIDUALS_FILE = "projection_residuals.json"


@dataclass(frozen=True)
class CaseResidual:
    """Distance of projections from the measured ones: mean \\|A y - p\\| as a share of mean \\|p\\|.

    `consistent` is the same after the consistency steps; None if none were taken.
    """

    condition: float
    prediction: float
    consistent: float | None = None


@dataclass(frozen=True)
class ResidualReport:
    """The content of projection_residuals.json."""

    consistency_steps: int
    cases: dict[str, CaseResidual]

    def table(self) -> str:
        """One line for each case, in per cent of the measured projections."""
        lines = [f"{'projections differ by':<24}{'reconstruction':>16}{'prediction':>12}{'consistent':>12}"]
        for name, case in self.cases.items():
            last = "" if case.consistent is None else f"{100 * case.consistent:.2f} %"
            lines.append(f"{name:<24}{100 * case.condition:>14.2f} %{100 * case.prediction:>10.2f} %{last:>12}")
        return "\n".join(lines)


def make_consistent(
    prediction: np.ndarray, sinogram: Sinogram, body: np.ndarray, steps: int
) -> tuple[CaseResidual, np.ndarray | None]:
    """Residuals of a prediction in HU, and the prediction after consistency steps.

    Parameters
    ----------
    body
        bool on the prediction's grid; outside it the prediction stays what it is.

    Returns
    -------
    residuals, volume
        The prediction after the steps, in HU on its own grid; None without steps.
    """
    header, measured = sinogram.header, sinogram.projections
    projector = Projector(header.scan)
    reconstruction = filtered_back_projection(measured, projector, header.settings.filter)
    start = attenuation_of(prediction, header)
    elsewhere = slices_of(~body, header)
    start[elsewhere] = reconstruction[elsewhere]
    residual = CaseResidual(
        projection_residual(reconstruction, measured, projector).relative,
        projection_residual(start, measured, projector).relative,
    )
    if not steps:
        return residual, None
    start[elsewhere & (start < 0.5 * header.settings.mu_water)] = 0
    better = consistency_steps(start, measured, projector, steps)
    after = projection_residual(better, measured, projector).relative
    volume = np.where(body, hu_of(better, header), prediction)
    return CaseResidual(residual.condition, residual.prediction, after), volume


def add_to_report(file: Path, report: ResidualReport) -> ResidualReport:
    """Add to the report of other parts of the same prediction, so that they may share a folder."""
    earlier = load_json(ResidualReport, file) if file.is_file() else report
    if earlier.consistency_steps == report.consistency_steps:
        report = ResidualReport(report.consistency_steps, earlier.cases | report.cases)
    save_json(report, file)
    return report
