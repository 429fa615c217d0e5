"""Requests of the commands that score and show results."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.results import COMPARISON_FILE, JOURNAL_FILE, REPORT_FILE, SEGMENTATION_FOLDER, SUMMARY_FILE
from gdmunet.workflows.requests.declaration import ProgressRequest, Request, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    accept_option,
    groups_option,
    judge_file_option,
    own_metrics_option,
    part_id_option,
    parts_option,
    processes_option,
    scheduler_option,
)
from gdmunet.workflows.requests.values import NATURAL, POSITIVE


@request
class EvaluateRequest(ProgressRequest):
    """Score a folder of predictions against a folder of references."""

    synopsis = Synopsis(
        "gdm_evaluate",
        "Score a folder of predictions against a folder of references with the image metrics of SynthRAD2025 and "
        "further ones, by case and by group. Files belong together by their names without the ending.",
        folders=("raw",),
    )
    reference: Path = option("-ref", "--reference", help="folder of the references (targets)", metavar="DIR")
    prediction: Path = option("-pred", "--prediction", help="folder of predictions", metavar="DIR")
    mask: Path | None = option(
        "-mask",
        "--mask",
        help="folder of body masks inside which the scores are taken; default: none, the whole volume",
        default=None,
        metavar="DIR",
    )
    fov: Path | None = option(
        "--fov",
        help="folder of masks of the field of view: scores are taken inside body and field of view; default: none",
        default=None,
        metavar="DIR",
    )
    labels_ref: Path | None = option(
        "--labels_ref",
        help="folder of label maps of the references (a segmentation of each): adds Dice and HD95; default: none",
        default=None,
        metavar="DIR",
    )
    labels_pred: Path | None = option(
        "--labels_pred", help="folder of label maps of the predictions; default: none", default=None, metavar="DIR"
    )
    segment: str | None = option(
        "--segment",
        help="make these label maps by a program and keep them in segmentation/ beside the scores: totalsegmentator, "
        'totalsegmentator:fast, or any command on NIfTI files, such as "segment {in} {out}"; default: none',
        default=None,
        metavar="COMMAND",
    )
    output: Path | None = option(
        "-o",
        "--output",
        help=f"file of the scores; default: {SUMMARY_FILE} in the folder of predictions",
        default=None,
        metavar="FILE",
    )
    dataset: str | None = option(
        "-d",
        "--dataset",
        help=f"data set whose {DESCRIPTOR_FILE} gives the groups and the target's unit; default: none",
        default=None,
    )
    groups: Path | None = groups_option(
        "table with the header case,patient and further groups (region, ...) to give the scores by; default: those of "
        "the data set"
    )
    synthrad: bool = option(
        "--synthrad",
        help="print the table of the SynthRAD challenge: MAE, PSNR, MS-SSIM (2023: SSIM) and, with label maps, Dice "
        "and HD95 of its structures, by region and over all cases; regions come from -d, --groups or the identifiers",
        default=False,
    )
    judge: tuple[str, ...] = option(
        "--judge",
        help="also compare predictions and references as distributions: Frechet distance and MMD in the features of "
        "these encoders, of which none may have trained the generator, and a classifier two-sample test; names as for "
        "planning; default: none",
        default=(),
        metavar="ENCODER",
    )
    judge_file: Path | None = judge_file_option()
    metric: tuple[str, ...] = own_metrics_option()
    range: Literal["2023", "2025"] | None = option(
        "--range",
        help="range of HU of that year's SynthRAD (2025: -1024 to 3071; 2023: -1024 to 3000); default: 2025 for CT; "
        "with --synthrad 2023 where all regions are brain or pelvis",
        default=None,
        group="range",
    )
    data_range: tuple[float, float] | None = option(
        "--data_range",
        help="range in the target's unit; default for targets other than CT: the range of each reference",
        default=None,
        metavar=("LOW", "HIGH"),
        group="range",
    )
    csv: Path | None = option(
        "--csv", help="also write a table, one line for each case; default: none", default=None, metavar="FILE"
    )
    html: Path | None = option("--html", help="also write a page; default: none", default=None, metavar="FILE")
    accept: tuple[str, ...] = accept_option()
    allow_missing: bool = option(
        "--allow_missing",
        help="write a row that says why a case cannot be scored, instead of stopping",
        default=False,
    )
    processes: int = processes_option()
    num_parts: int = parts_option()
    part_id: int = part_id_option()
    scheduler: str | None = scheduler_option()

    def __post_init__(self) -> None:
        """Refuse label maps of predictions that are both given and made (RequestError)."""
        super().__post_init__()
        if self.segment is not None and self.labels_pred is not None:
            raise RequestError("--segment makes the label maps that --labels_pred gives", remedy="omit one of the two")
        if self.segment is not None and self.num_parts > 1:
            raise RequestError(
                "--segment makes the label maps of all cases, in one process",
                remedy="make them by a run without parts, then give them by --labels_ref and --labels_pred",
            )

    @property
    def segmentation_folder(self) -> Path:
        """Folder of the label maps that are made."""
        return self.summary_file.parent / SEGMENTATION_FOLDER

    @property
    def summary_file(self) -> Path:
        """File of the scores."""
        return self.output or self.prediction / SUMMARY_FILE

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that the command writes: of the scores, and the tables and pages that are asked for."""
        return tuple(file for file in (self.summary_file, self.csv, self.html) if file)


@request
class PageRequest(Request):
    """Choices for a page of results."""

    folder: Path = option(
        help=f"folder with {SUMMARY_FILE} (an evaluation), {JOURNAL_FILE} (a trained fold) or {COMPARISON_FILE} (a "
        "comparison)"
    )
    input: Path | None = option(
        "-i",
        "--input",
        help="folder of the conditions; default: images beside the targets",
        default=None,
        metavar="DIR",
    )
    reference: Path | None = option(
        "-ref",
        "--reference",
        help="folder of the targets; default: the one that was scored",
        default=None,
        metavar="DIR",
    )
    mask: Path | None = option(
        "-mask",
        "--mask",
        help="folder of the masks; default: the one that was scored with",
        default=None,
        metavar="DIR",
    )
    channel: int = option("--channel", help="channel of the condition to show", default=0, metavar="N", bounds=NATURAL)
    metric: str | None = option(
        "--metric",
        help=f"score of {SUMMARY_FILE} that says which cases are the worst and the best; default: the mean absolute "
        "error",
        default=None,
    )


@request
class ReportRequest(PageRequest, ProgressRequest):
    """Write the page of an evaluation, a training or a comparison."""

    synopsis = Synopsis(
        "gdm_report",
        "Write one HTML page that needs no network and no other file: scores, distributions, training curves, slices "
        "of every case with the worst and best ones first, and a viewer.",
    )
    output: Path | None = option(
        "-o", "--output", help=f"file of the page; default: {REPORT_FILE} in the folder", default=None, metavar="FILE"
    )
    max_size: float = option(
        "--max_size",
        help="largest size of the page, MB of 1e6 bytes",
        default=60.0,
        metavar="MB",
        bounds=POSITIVE,
    )
    pictures: int = option(
        "--pictures",
        help="largest number of cases with slices, worst and best first",
        default=100,
        metavar="N",
        bounds=NATURAL,
    )
    volumes: int = option(
        "--volumes",
        help="largest number of cases with coarse volumes for the viewer, worst and best first",
        default=4,
        metavar="N",
        bounds=NATURAL,
    )
    processes: int = processes_option()
    scheduler: str | None = scheduler_option()


@request
class ViewRequest(PageRequest):
    """Serve the page with whole volumes."""

    synopsis = Synopsis(
        "gdm_view",
        "Show the page of gdm_report with whole volumes of every case, served to this machine alone until Ctrl-C.",
    )
    port: int = option("--port", help="port of the page; default: any free one", default=0, metavar="N", bounds=NATURAL)
    open: bool = option("--open", help="also open the address in the web browser", default=False)
