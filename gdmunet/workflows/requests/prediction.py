"""The request of ``gdm_predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.paths import is_url
from gdmunet.volume_formats.table import ending_of
from gdmunet.workflows.requests.declaration import ProgressRequest, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    Checkpoint,
    Device,
    accept_option,
    checkpoint_option,
    device_option,
    float_option,
    model_configuration_option,
    model_dataset_option,
    model_folder_option,
    model_folds_option,
    model_plans_option,
    model_trainer_option,
    part_id_option,
    parts_option,
    scheduler_option,
)
from gdmunet.workflows.requests.values import COUNT, NATURAL, PART, SHARE, Place


@request
class PredictRequest(ProgressRequest):
    """Predict every case of a folder, or one case, with a trained model."""

    synopsis = Synopsis(
        "gdm_predict",
        "Predict every case of a folder, or one case. With one trained model in the results folder -i and -o are "
        "enough; with several, choose one by -d, -c, -tr, -p or by its folder -m.",
        folders=("results",),
    )
    input: tuple[Place, ...] = option(
        "-i",
        "--input",
        help="folder of conditions, CASE.ext (several channels: CASE_0000.ext, CASE_0001.ext, ...); or one folder for "
        "each channel; or volume files; or folder of a DICOM series, or of a sub-folder of DICOM for each case; a "
        "folder of volume files may be a URL (s3://bucket/folder)",
        metavar="PATH",
    )
    output: Path = option(
        "-o", "--output", help="folder for the predictions, CASE.ext; or, of one case, a volume file", metavar="PATH"
    )
    model: Path | None = model_folder_option(
        "folder of the model, the one that holds fold_0, or hf:owner/name@revision of a hub"
    )
    dataset: str | None = model_dataset_option()
    configuration: str | None = model_configuration_option()
    trainer: str | None = model_trainer_option()
    plans: str | None = model_plans_option()
    folds: tuple[str, ...] | None = model_folds_option(
        "folds to average, or all for the model trained on all cases; default: every numbered fold that is there"
    )
    checkpoint: Checkpoint = checkpoint_option()
    dicom_out: Path | None = option(
        "--dicom-out",
        help="with DICOM input: also write each predicted CT as a DICOM series into DIR/CASE; default: no",
        default=None,
        metavar="DIR",
    )
    rtstruct: Literal["copy"] | None = option(
        "--rtstruct",
        help="with --dicom-out: copy the structure sets that refer to the (first) series into DIR/CASE, referring to "
        "the predicted CT; default: no",
        default=None,
    )
    series: tuple[str, ...] = option(
        "--series",
        help="with DICOM input: number or UID of the series, one for each channel; default: the only one that is a "
        "volume",
        default=(),
        metavar="SERIES",
    )
    fix_geometry: bool = option(
        "--fix-geometry",
        help="with DICOM input: resample series with uneven, missing, doubled or tilted slices (default: refuse them)",
        default=False,
    )
    sinogram: bool = option(
        "--sinogram",
        help="-i is a folder of sinograms CASE.npz; their reconstructions are written to conditions/ and predicted",
        default=False,
        group="scans",
    )
    simulate: bool = option(
        "--simulate",
        help="-i is a folder of whole CTs CASE.ext, which are scanned as the model's training cases were",
        default=False,
        group="scans",
    )
    consistency: int = option(
        "--consistency",
        help="with --sinogram or --simulate: N steps that bring the prediction nearer to the measured projections",
        default=0,
        metavar="N",
        bounds=NATURAL,
    )
    mask: Place | None = option(
        "--mask",
        help="folder (or its URL) of body masks CASE.ext, or the mask of the only case; default: derived from the "
        "conditions",
        default=None,
        metavar="PATH",
    )
    accept: tuple[str, ...] = accept_option()
    step_size: float = option(
        "-step_size",
        "--step_size",
        help="step between windows as a share of the window, above 0 up to 1; smaller: more overlap, slower",
        default=0.5,
        metavar="SHARE",
        bounds=SHARE,
    )
    fast: bool = option(
        "--fast",
        help="windows as large as memory holds, which overlap by an eighth: at most 1.5 passes over the volume; "
        "not with instance normalisation",
        default=False,
    )
    compile: bool = option(
        "--compile",
        help="compile the network with torch.compile: pays for many windows on a GPU, needs a C++ compiler",
        default=False,
    )
    tta: bool = option("--tta", help="average over mirrored inputs (8 times the work in 3D)", default=False)
    uncertainty: bool = option(
        "--uncertainty",
        help="also write the voxelwise standard deviation over folds, mirrored inputs and samples",
        default=False,
    )
    steps: int | None = option(
        "--steps",
        help="steps of a model that predicts in several; default: the number that its trainer chose",
        default=None,
        metavar="N",
        bounds=COUNT,
    )
    samples: int = option(
        "--samples",
        help="draws of a model with noise: writes their mean, and from 2 on their standard deviation as --uncertainty",
        default=1,
        metavar="K",
        bounds=COUNT,
    )
    seed: int = option("--seed", help="seed of the draws' noise", default=0, metavar="N", bounds=NATURAL)
    realism: float | None = option(
        "--realism",
        help="place of the dial of a model that has one, from 0 (least error) to 1 (most like real images); default: "
        "the place that validation chose",
        default=None,
        metavar="R",
        bounds=PART,
    )
    as_float: bool = float_option()
    predict_empty: bool = option(
        "--predict_empty", help="run the network in windows without body too (default: air there)", default=False
    )
    continue_prediction: bool = option(
        "--continue_prediction",
        help="skip cases that have a prediction already, made by the same model and settings",
        default=False,
    )
    reading_processes: int | None = option(
        "-npp",
        "--reading_processes",
        help="cases that are read and prepared ahead while one is computed; 0 needs the least memory; default: 2 on a "
        "GPU, else 1",
        default=None,
        metavar="N",
        bounds=NATURAL,
    )
    saving_processes: int = option(
        "-nps",
        "--saving_processes",
        help="cases that are written behind while one is computed; 0 needs the least memory",
        default=1,
        metavar="N",
        bounds=NATURAL,
    )
    num_parts: int = parts_option()
    part_id: int = part_id_option()
    scheduler: str | None = scheduler_option()
    device: Device | None = device_option()

    def __post_init__(self) -> None:
        """Refuse flags that do not fit the kind of input (RequestError)."""
        super().__post_init__()
        _check_flags(self)
        _check_paths(self)

    @property
    def single(self) -> str | None:
        """Name of the one predicted volume; None: the predictions are files of a folder."""
        return self.output.name if ending_of(self.output) is not None and not self.output.is_dir() else None

    @property
    def output_folder(self) -> Path:
        """Folder of the predictions, or of the one predicted volume."""
        return self.output.parent if self.single else self.output

    @property
    def paths(self) -> tuple[Path, ...]:
        """The input as paths, where it is not behind a URL."""
        return tuple(map(Path, self.input))

    @property
    def mask_path(self) -> Path | None:
        """The masks as a path, where they are not behind a URL."""
        return None if self.mask is None else Path(self.mask)

    @property
    def is_remote(self) -> bool:
        """Whether something that is read lies behind a URL."""
        return any(map(is_url, (*self.input, self.mask)))

    @property
    def scans(self) -> bool:
        """Whether the conditions are computed from projections."""
        return self.sinogram or self.simulate


def _check_flags(request: PredictRequest) -> None:
    """Refuse flags that need others, or exclude them (RequestError)."""
    if request.consistency and not request.scans:
        raise RequestError(
            "--consistency needs projections",
            remedy="give --consistency together with --sinogram or --simulate",
        )
    if request.rtstruct and not request.dicom_out:
        raise RequestError(
            "structure sets are copied beside a written series",
            remedy="give --rtstruct together with --dicom-out DIR",
        )
    if request.fast and request.step_size != type(request).step_size:
        raise RequestError("--fast chooses the step between windows", remedy="omit -step_size, or omit --fast")
    if request.scans and (request.dicom_out or request.series or request.fix_geometry):
        raise RequestError("sinograms and simulated scans are not DICOM input", remedy="omit the DICOM flags")


def _check_paths(request: PredictRequest) -> None:
    """Refuse input and output that do not fit each other (RequestError)."""
    if request.scans and (len(request.input) > 1 or request.single):
        raise RequestError(
            "sinograms and simulated scans lie in one folder, and so do their predictions",
            remedy="give one folder with -i, and a folder with -o",
        )
    if request.is_remote and (request.scans or request.dicom_out or request.series or request.fix_geometry):
        raise RequestError(
            "scans and DICOM series are not read from a URL",
            remedy="copy them to this machine, or convert the series to volumes",
        )
    if request.single and request.num_parts > 1:
        raise RequestError("one file has no parts", remedy="omit -num_parts, or give a folder with -o")
