"""Cases that are scans: sinograms, or whole CTs that are scanned first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gdmunet.dataset import Case
from gdmunet.dataset_names import DESCRIPTOR_FILE, condition_name
from gdmunet.errors import GdmError
from gdmunet.imageio import CaseVolumes, read_case, read_volume, write_volume
from gdmunet.inference.cases.consistency import (
    RESIDUALS_FILE,
    CaseResidual,
    ResidualReport,
    add_to_report,
    make_consistent,
)
from gdmunet.inference.cases.files import with_masks
from gdmunet.inference.cases.source import CaseSource
from gdmunet.inference.export import whole_numbers
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.prediction_settings import CONDITIONS
from gdmunet.inference.predictor import Predictor
from gdmunet.preprocessing.preprocessor import predicted_body
from gdmunet.progress import say, track
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.simulation import reconstruct_volume, simulate_scan, stored_ct
from gdmunet.tomography.sinogram import ENDING, read_sinogram, write_sinogram
from gdmunet.volume_formats.files import find_volumes, left_out_of, list_volumes
from gdmunet.volume_formats.table import FILE_ENDINGS

ScanInput = Literal["sinogram", "simulate"]
SINOGRAMS = "sinograms"
BEFORE_CONSISTENCY = "before_consistency"


class ScanCases(CaseSource):
    """Cases whose conditions are reconstructed from projections.

    The condition of every case is written to ``conditions/CASE_0000.ext`` inside the output folder, before the first is
    predicted. In the end the projections of every prediction are compared with the measured ones, and consistency steps
    are taken where they are asked for.

    Parameters
    ----------
    folder
        ``CASE.npz`` as `write_sinogram` writes them; or CT volumes in HU, which are scanned as the model's data set
        was: their sinograms go to ``sinograms/CASE.npz``.
    kind
        Kind of the input: sinograms or volumes to be scanned.
    output_folder
        Folder of the predictions.
    predictor
        Predictor, which knows how its training cases were scanned.
    mask_folder
        Body masks ``CASE.ext``; None: the body is derived from the condition.
    consistency
        Number of steps that bring a prediction nearer to the measured projections.

    Raises
    ------
    GdmError
        The model was not trained on simulated scans.
    """

    def __init__(
        self,
        folder: Path,
        kind: ScanInput,
        output_folder: Path,
        predictor: Predictor,
        *,
        mask_folder: Path | None = None,
        consistency: int = 0,
    ) -> None:
        self.input_folder, self.mask_folder = Path(folder), mask_folder
        self._kind, self._output, self._predictor, self._steps = kind, Path(output_folder), predictor, consistency
        self._settings = _settings_of(predictor)
        self._ending = predictor.descriptor.file_ending
        self._inputs: dict[str, Path] = {}

    def list_cases(self) -> list[Case]:
        """The scans of the folder; their conditions are not there before `prepare`."""
        assert self.input_folder is not None
        self._inputs = _list_inputs(self.input_folder, (ENDING,) if self._kind == "sinogram" else FILE_ENDINGS)
        conditions = {
            name: (self._output / CONDITIONS / f"{condition_name(name)}{self._ending}",) for name in self._inputs
        }
        return with_masks(conditions, self.mask_folder)

    def left_out(self) -> list[str]:
        """What lies beside the scans and the masks."""
        endings = (ENDING,) if self._kind == "sinogram" else FILE_ENDINGS
        assert self.input_folder is not None
        beside = list_volumes(self.input_folder, endings).sentence()
        return [*([beside] if beside else []), *left_out_of([self.mask_folder])]

    def files_beside(self, identifier: str) -> list[Path]:
        """The condition that was reconstructed."""
        return [self._output / CONDITIONS / f"{condition_name(identifier)}{self._ending}"]

    def prepare(self, cases: Sequence[Case], options: PredictionOptions) -> None:
        """Reconstruct and write the conditions; says which cases were scanned otherwise than the training cases."""
        title = "reconstructing" if self._kind == "sinogram" else "scanning"
        for case in track(title, list(cases), options.show_progress):
            try:
                self._write_condition(case)
            except GdmError as error:
                error.located(case=case.identifier)
                raise
        for line in self.differing_settings(cases):
            say(line)

    def reading(self) -> dict[str, str]:
        """The kind of input; consistency steps are taken anew from the network's own output, if asked for."""
        return {"kind": self._kind}

    def read(self, case: Case) -> CaseVolumes:
        """Read the condition that was reconstructed."""
        return read_case(case)

    def finish(self, cases: Sequence[Case], predicted: Collection[str], options: PredictionOptions) -> list[str]:
        """Compare the projections; gives the table of residuals."""
        return [self.check_predictions(cases, predicted, options).table()]

    def differing_settings(self, cases: Sequence[Case]) -> list[str]:
        """One line for each case that was scanned otherwise than the model's training cases."""
        lines = []
        for case in cases:
            settings = read_sinogram(self._sinogram(case)).header.settings
            facts = [
                f"{name} {getattr(settings, name)} against {getattr(self._settings, name)}"
                for name in ("views", "beam", "range_degrees", "filter", "field_of_view")
                if getattr(settings, name) != getattr(self._settings, name)
            ]
            if facts:
                what = ", ".join(facts)
                lines.append(f"note: {case.identifier} was scanned with other settings than the training cases: {what}")
        return lines

    def check_predictions(
        self, cases: Sequence[Case], predicted: Collection[str], options: PredictionOptions
    ) -> ResidualReport:
        """Compare the projections of every prediction with the measured ones; take the consistency steps.

        A prediction has air outside the body, where a scan has a table: there the reconstruction stands in for it. The
        steps take of it only what is denser than half of water, since its streaks there would be moved into the body,
        and only the body changes. The network's own output is kept in ``before_consistency/``.
        Writes projection_residuals.json. Cone beams are skipped, since the built-in projector cannot do them.

        Parameters
        ----------
        predicted
            Cases whose prediction is new; the steps of others were taken by an earlier run if their prediction from
            before lies there.
        """
        residuals: dict[str, CaseResidual] = {}
        for case in track("comparing projections", list(cases), options.show_progress):
            residual = self._check(case, case.identifier in predicted, options.as_float)
            if residual is not None:
                residuals[case.identifier] = residual
        return add_to_report(self._output / RESIDUALS_FILE, ResidualReport(self._steps, residuals))

    def _check(self, case: Case, is_new: bool, as_float: bool) -> CaseResidual | None:
        sinogram = read_sinogram(self._sinogram(case))
        if sinogram.header.scan.beam == "cone":
            if self._steps:
                raise GdmError(
                    "consistency steps need the built-in projector",
                    case=case.identifier,
                    found="a cone beam",
                    expected="a parallel or fan beam",
                    remedy="predict without --consistency",
                )
            return None
        name = f"{case.identifier}{self._ending}"
        final, before = self._output / name, self._output / BEFORE_CONSISTENCY / name
        source = read_volume(before if before.is_file() and not is_new else final, case.identifier, constant=True)
        body = predicted_body(read_case(case), self._predictor.configuration, self._predictor.descriptor)
        residual, volume = make_consistent(source.array, sinogram, body, self._steps)
        if volume is not None:
            write_volume(before, source.array if as_float else whole_numbers(source.array), source.geometry)
            write_volume(final, volume if as_float else whole_numbers(volume), source.geometry)
        return residual

    def _sinogram(self, case: Case) -> Path:
        if self._kind == "sinogram":
            return self._inputs[case.identifier]
        return self._output / SINOGRAMS / f"{case.identifier}{ENDING}"

    def _write_condition(self, case: Case) -> None:
        file = self._inputs[case.identifier]
        if self._kind == "sinogram":
            sinogram = read_sinogram(file)
            volume = reconstruct_volume(sinogram)
        else:
            scan = simulate_scan(stored_ct(read_volume(file, case.identifier)), self._settings, case.identifier)
            sinogram, volume = scan.sinogram, scan.reconstruction
            write_sinogram(self._sinogram(case), sinogram)
        write_volume(case.conditions[0], np.rint(volume).astype(np.int16), sinogram.header.grid)


def _settings_of(predictor: Predictor) -> ScanSpec:
    if predictor.descriptor.simulation is None:
        raise GdmError(
            "the model was not trained on simulated scans",
            found=f"data set {predictor.descriptor.name} without a simulation in its {DESCRIPTOR_FILE}",
            expected="a data set that gdm_simulate_svct made",
            remedy="predict from conditions, without --sinogram and --simulate",
        )
    return predictor.descriptor.simulation


def _list_inputs(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    volumes = find_volumes(folder, endings)
    if not volumes:
        raise GdmError(
            "there are no cases",
            file=folder,
            expected=" ".join(f"CASE{ending}" for ending in endings),
            remedy="check -i",
        )
    return volumes
