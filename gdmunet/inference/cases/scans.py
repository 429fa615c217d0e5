"""Predicting from scans: sinograms, or whole CTs that are scanned first; and whether predictions explain the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gdmunet.dataset import FILE_ENDINGS, Case
from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.errors import GdmError
from gdmunet.imageio import read_case, read_volume, write_volume
from gdmunet.inference.cases.parts import take_part
from gdmunet.inference.export import whole_numbers
from gdmunet.inference.predictor import Predictor
from gdmunet.preprocessing.preprocessor import predicted_body
from gdmunet.progress import track
from gdmunet.scan import ScanSettings
from gdmunet.serialization import load_json, save_json
from gdmunet.tomography.consistency import consistency_steps, projection_residual
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.reconstruction import filtered_back_projection
from gdmunet.tomography.simulation import (
    attenuation_of,
    hu_of,
    reconstruct_volume,
    simulate_scan,
    slices_of,
    stored_ct,
)
from gdmunet.tomography.sinogram import ENDING, Sinogram, read_sinogram, write_sinogram
from gdmunet.volume_folders import find_volumes

ScanInput = Literal["sinogram", "simulate"]
CONDITIONS = "conditions"
SINOGRAMS = "sinograms"
BEFORE_CONSISTENCY = "before_consistency"
RESIDUALS_FILE = "projection_residuals.json"


@dataclass(frozen=True)
class ScannedCase:
    """A case whose condition was reconstructed from a sinogram."""

    case: Case
    sinogram: Path


@dataclass(frozen=True)
class CaseResidual:
    """How far projections are from the measured ones: mean \\|A y - p\\| as a share of mean \\|p\\|.

    `consistent` is that after the consistency steps; None where none were taken.
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
        """One line a case, in per cent of the measured projections."""
        lines = [f"{'projections differ by':<24}{'reconstruction':>16}{'prediction':>12}{'consistent':>12}"]
        for name, case in self.cases.items():
            last = "" if case.consistent is None else f"{100 * case.consistent:.2f} %"
            lines.append(f"{name:<24}{100 * case.condition:>14.2f} %{100 * case.prediction:>10.2f} %{last:>12}")
        return "\n".join(lines)


def prepare_scans(
    input_folder: Path,
    kind: ScanInput,
    output_folder: Path,
    predictor: Predictor,
    *,
    mask_folder: Path | None = None,
    num_parts: int = 1,
    part_id: int = 0,
    show_progress: bool = True,
) -> list[ScannedCase]:
    """Write the condition of every case to ``conditions/CASE_0000.ext`` inside the output folder.

    Parameters
    ----------
    input_folder
        ``CASE.npz`` as `write_sinogram` writes them; or CT volumes in HU, which are scanned as the model's data set
        was: their sinograms go to ``sinograms/CASE.npz``.
    mask_folder
        Body masks ``CASE.ext``.

    Raises
    ------
    GdmError
        The model was not trained on simulated scans, nothing to read, or a file that cannot be used.
    """
    settings = _settings_of(predictor)
    ending = predictor.descriptor.file_ending
    if Path(input_folder).resolve() == output_folder.resolve():
        raise GdmError("the output folder is the input folder", file=output_folder, remedy="give another with -o")
    endings = (ENDING,) if kind == "sinogram" else FILE_ENDINGS
    files = take_part(_list_inputs(Path(input_folder), endings), num_parts, part_id)
    scanned = []
    for identifier, file in track("reconstructing" if kind == "sinogram" else "scanning", files, show_progress):
        condition = output_folder / CONDITIONS / f"{identifier}_0000{ending}"
        try:
            if kind == "sinogram":
                sinogram, kept = read_sinogram(file), file
                volume = reconstruct_volume(sinogram)
            else:
                scan = simulate_scan(stored_ct(read_volume(file, identifier)), settings, identifier)
                sinogram, volume = scan.sinogram, scan.reconstruction
                kept = output_folder / SINOGRAMS / f"{identifier}{ENDING}"
                write_sinogram(kept, sinogram)
        except GdmError as error:
            error.located(case=identifier)
            raise
        write_volume(condition, np.rint(volume).astype(np.int16), sinogram.header.grid)
        mask = mask_folder / f"{identifier}{ending}" if mask_folder else None
        scanned.append(ScannedCase(Case(identifier, (condition,), mask=mask), kept))
    return scanned


def differing_settings(scanned: Sequence[ScannedCase], predictor: Predictor) -> list[str]:
    """One line for each case that was scanned otherwise than the model's training cases."""
    trained = _settings_of(predictor)
    lines = []
    for one in scanned:
        settings = read_sinogram(one.sinogram).header.settings
        names = ("views", "beam", "range_degrees", "filter", "field_of_view")
        facts = [
            f"{name} {getattr(settings, name)} against {getattr(trained, name)}"
            for name in names
            if getattr(settings, name) != getattr(trained, name)
        ]
        if facts:
            what = ", ".join(facts)
            lines.append(f"note: {one.case.identifier} was scanned otherwise than the training cases: {what}")
    return lines


def check_predictions(
    scanned: Sequence[ScannedCase],
    output_folder: Path,
    predictor: Predictor,
    *,
    steps: int = 0,
    predicted: Sequence[str] | None = None,
    as_float: bool = False,
    show_progress: bool = True,
) -> ResidualReport:
    """Compare the projections of every prediction with the measured ones; take consistency steps where asked for.

    A prediction has air outside the body, where a scan has a table: there the reconstruction stands in for it. The
    steps take of it only what is denser than half of water, since its streaks there would be moved into the body, and
    only the body changes. What the network gave is kept in ``before_consistency/``.
    Writes projection_residuals.json. Cone beams are left out, for which there is no projector of our own.

    Parameters
    ----------
    predicted
        Cases whose prediction is new; the steps of others were taken by an earlier run if their prediction from
        before lies there. None: all are new.
    """
    ending = predictor.descriptor.file_ending
    residuals: dict[str, CaseResidual] = {}
    for one in track("comparing projections", list(scanned), show_progress):
        name = f"{one.case.identifier}{ending}"
        sinogram = read_sinogram(one.sinogram)
        if sinogram.header.scan.beam == "cone":
            if steps:
                raise GdmError(
                    "consistency steps need the built-in projector",
                    case=one.case.identifier,
                    found="a cone beam",
                    expected="a parallel or fan beam",
                    remedy="predict without --consistency",
                )
            continue
        final, before = output_folder / name, output_folder / BEFORE_CONSISTENCY / name
        is_new = predicted is None or one.case.identifier in predicted
        source = read_volume(before if before.is_file() and not is_new else final, one.case.identifier)
        body = predicted_body(read_case(one.case), predictor.configuration, predictor.descriptor)
        residual, volume = make_consistent(source.array, sinogram, body, steps)
        residuals[one.case.identifier] = residual
        if volume is not None:
            write_volume(before, source.array if as_float else whole_numbers(source.array), source.geometry)
            write_volume(final, volume if as_float else whole_numbers(volume), source.geometry)
    return _write_report(output_folder / RESIDUALS_FILE, ResidualReport(steps, residuals))


def make_consistent(
    prediction: np.ndarray, sinogram: Sinogram, body: np.ndarray, steps: int
) -> tuple[CaseResidual, np.ndarray | None]:
    """Residuals of a prediction in HU, and its better.

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
    found = CaseResidual(
        projection_residual(reconstruction, measured, projector).relative,
        projection_residual(start, measured, projector).relative,
    )
    if not steps:
        return found, None
    start[elsewhere & (start < 0.5 * header.settings.mu_water)] = 0
    better = consistency_steps(start, measured, projector, steps)
    after = projection_residual(better, measured, projector).relative
    volume = np.where(body, hu_of(better, header), prediction)
    return CaseResidual(found.condition, found.prediction, after), volume


def _write_report(file: Path, report: ResidualReport) -> ResidualReport:
    """Add to the report of other parts of the same prediction, so that they may share a folder."""
    earlier = load_json(ResidualReport, file) if file.is_file() else report
    if earlier.consistency_steps == report.consistency_steps:
        report = ResidualReport(report.consistency_steps, earlier.cases | report.cases)
    save_json(report, file)
    return report


def _settings_of(predictor: Predictor) -> ScanSettings:
    if predictor.descriptor.simulation is None:
        raise GdmError(
            "the model was not trained on simulated scans",
            found=f"data set {predictor.descriptor.name} without a simulation in its {DESCRIPTOR_FILE}",
            expected="a data set that gdm_simulate_svct made",
            remedy="predict from conditions, without --sinogram and --simulate",
        )
    return predictor.descriptor.simulation


def _list_inputs(folder: Path, endings: tuple[str, ...]) -> list[tuple[str, Path]]:
    if not folder.is_dir():
        raise GdmError("the input folder is not there", file=folder, remedy="check the path")
    found = find_volumes(folder, endings)
    if not found:
        raise GdmError("there are no cases", file=folder, expected=" ".join(f"CASE{ending}" for ending in endings))
    return list(found.items())
