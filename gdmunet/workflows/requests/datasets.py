"""Requests of the commands that make a raw data set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.dataset_names import DESCRIPTOR_FILE
from gdmunet.volume_formats.table import FILE_ENDINGS
from gdmunet.workflows.requests.declaration import ProgressRequest, Request, RequestError, Synopsis, option, request
from gdmunet.workflows.requests.shared import (
    HELD_OUT,
    NEW_NUMBER,
    accept_series_option,
    groups_option,
    held_out_option,
    part_id_option,
    parts_option,
    processes_option,
    scheduler_option,
)

Transfer = Literal["copy", "hardlink", "symlink"]


@request
class NewDatasetRequest(Request):
    """Build a raw data set from plain folders."""

    synopsis = Synopsis(
        "gdm_new_dataset",
        f"Build DatasetXXX_Name with its {DESCRIPTOR_FILE} from two or three plain folders: images, targets and, if "
        "there are any, body masks. Files belong together by their names.",
        folders=("raw",),
    )
    dataset: int = option("-d", "--dataset", help=NEW_NUMBER, metavar="NUMBER")
    name: str = option("-n", "--name", help="name of the new data set: letters, digits, _ and -")
    images: tuple[Path, ...] = option(
        "-i",
        "--images",
        help="one folder for each condition channel, or one folder whose files end in the channel number (_0000, "
        "_0001)",
        metavar="DIR",
    )
    targets: Path = option("-t", "--targets", help="folder of the targets", metavar="DIR")
    masks: Path | None = option(
        "-m", "--masks", help="folder of the body masks; default: none", default=None, metavar="DIR"
    )
    channel: tuple[str, ...] = option(
        "--channel", help="modality of each condition channel: CT, CBCT, MR, T1, T2, FLAIR, ...", metavar="MODALITY"
    )
    target: str = option("--target", help="modality of the target", metavar="MODALITY")
    image_suffix: tuple[str, ...] = option(
        "--image_suffix",
        help="text after the identifier in the image files' names (_mr in head_001_mr.nii.gz), one for each folder; "
        "only files that carry it are taken; default: none",
        default=(),
        metavar="TEXT",
    )
    target_suffix: str = option(
        "--target_suffix", help="the same for targets; default: none", default="", metavar="TEXT"
    )
    mask_suffix: str = option("--mask_suffix", help="the same for masks; default: none", default="", metavar="TEXT")
    test: tuple[str, ...] = held_out_option(HELD_OUT)
    seed: int = option("--seed", help="seed with which a share of patients is drawn", default=12345)
    groups: Path | None = groups_option(
        "table with the header case,patient and any further groups (region, ...); default: every case is a patient of "
        "its own"
    )
    link: Transfer = option("--link", help="copy the files, or link to them", default="copy")
    convert: str | None = option(
        "--convert",
        help="write every file with this ending; default: keep theirs, and refuse a mixture",
        default=None,
        choices=FILE_ENDINGS,
    )


@request
class ConvertDicomRequest(ProgressRequest):
    """Turn DICOM series into volumes or a data set, or a volume into a series."""

    synopsis = Synopsis(
        "gdm_convert_dicom",
        "A DICOM series to a volume (-i FOLDER -o FILE), a folder of cases to a data set (-i FOLDER -d NUMBER), or a "
        "CT volume to a DICOM series (-i FILE -o FOLDER). With -i FOLDER alone the series of the folder are listed.",
        folders=("raw",),
    )
    input: Path = option(
        "-i",
        "--input",
        help="folder of DICOM files (of case folders with -d); or a CT volume file, in HU",
        metavar="PATH",
    )
    output: Path | None = option(
        "-o",
        "--output",
        help="volume file such as ct.nii.gz; or folder of the new series; default: list the series of -i",
        default=None,
        metavar="PATH",
    )
    series: tuple[str, ...] = option(
        "--series",
        help="number or UID of the series; with -d: FOLDER=NUMBER for a sub-folder of every case, CASE/FOLDER=NUMBER "
        "for one; default: the only one that is a volume",
        default=(),
        metavar="SERIES",
    )
    fix_geometry: bool = option(
        "--fix-geometry",
        help="resample uneven, missing, doubled or tilted slices onto a regular grid (default: refuse them)",
        default=False,
    )
    reference: Path | None = option(
        "--reference",
        help="with -i FILE: folder of the series that the CT was made from (--series chooses one), whose patient, "
        "study and frame of reference are kept; default: a new study, with the file's name as patient ID",
        default=None,
        metavar="DIR",
    )
    description: str | None = option(
        "--description",
        help="with -i FILE: series description, marked as synthetic; default: Synthetic CT",
        default=None,
        metavar="TEXT",
    )
    dataset: int | None = option(
        "-d", "--dataset", help=f"{NEW_NUMBER}; default: none is made", default=None, metavar="NUMBER"
    )
    name: str = option("-n", "--name", help="with -d: name of the new data set", default="Dicom")
    channel: tuple[str, ...] = option(
        "--channel", help="with -d: modality of each condition channel", default=("MR",), metavar="MODALITY"
    )
    target: str = option("--target", help="with -d: modality of the target", default="CT", metavar="MODALITY")
    condition_folder: tuple[str, ...] = option(
        "--condition_folder",
        help="with -d: sub-folder of each case that holds the condition, one for each channel",
        default=("condition",),
        metavar="NAME",
    )
    target_folder: str = option(
        "--target_folder",
        help="with -d: sub-folder of each case that holds the target",
        default="target",
        metavar="NAME",
    )
    resample: bool = option(
        "--resample",
        help="with -d: interpolate target and further channels onto the grid of the first channel (default: refuse "
        "cases of several grids)",
        default=False,
    )
    accept: tuple[str, ...] = accept_series_option("with -d")
    test: tuple[str, ...] = held_out_option("with -d: cases to hold out, or a share of the patients")
    seed: int = option("--seed", help="with -d: seed with which a share is drawn", default=12345)
    groups: Path | None = groups_option(
        "with -d: table of case,patient[,region ...]; default: cases of one patient ID are one patient"
    )
    processes: int = processes_option(text="with -d: cases converted at a time")
    num_parts: int = parts_option()
    part_id: int = part_id_option()
    scheduler: str | None = scheduler_option()

    def __post_init__(self) -> None:
        """Refuse flags of a single series if a data set is made (RequestError)."""
        super().__post_init__()
        if self.dataset is not None and (self.output or self.reference):
            raise RequestError("-d builds a data set", remedy="leave out -o and --reference")
        bare = [text for text in self.series if "=" not in text]
        if self.dataset is not None and bare:
            raise RequestError(
                f"--series {bare[0]} does not say a folder", remedy=f"write --series {self.target_folder}={bare[0]}"
            )
        if self.dataset is None and (len(self.series) > 1 or len(bare) < len(self.series)):
            raise RequestError("one series is read", remedy="give --series one number or UID, or make a data set: -d")
        if self.dataset is None and self.num_parts > 1:
            raise RequestError("one series has no parts", remedy="omit -num_parts, or make a data set with -d")

    @property
    def only_series(self) -> str | None:
        """Number or UID of the one series that is read; None: the only one that is a volume."""
        return self.series[0] if self.series else None


@request
class ConvertSynthradRequest(ProgressRequest):
    """Build a raw data set from the archives of SynthRAD."""

    synopsis = Synopsis(
        "gdm_convert_synthrad2025",
        "Build DatasetXXX_Name from the unpacked archives of SynthRAD2025 or SynthRAD2023, with region and centre as "
        "groups. Cases are found by the names of their folders, at any depth; overviews and copies are ignored.",
        folders=("raw",),
    )
    input: tuple[Path, ...] = option(
        "-i",
        "--input",
        help="folders in which the archives were unpacked (training, validation input, ...)",
        metavar="DIR",
    )
    dataset: int = option("-d", "--dataset", help=NEW_NUMBER, metavar="NUMBER")
    name: str | None = option(
        "-n", "--name", help="name of the new data set; default: SynthRAD2025Task1 and so on", default=None
    )
    task: Literal[1, 2] | None = option(
        "--task", help="1: MR to CT, 2: CBCT to CT; default: the one that is there", default=None
    )
    regions: tuple[Literal["AB", "HN", "TH", "brain", "pelvis"], ...] | None = option(
        "--regions",
        help="only these: AB, HN, TH (2025), brain, pelvis (2023); default: all that are there",
        default=None,
        metavar="REGION",
    )
    year: Literal["auto", "2023", "2025"] = option("--year", help="year; auto: the one that is there", default="auto")
    target: Literal["deformed", "rigid"] = option(
        "--target",
        help="deformed: the deformed CT, on which SynthRAD2025 scores, where a case has one (ct_def); rigid: always ct",
        default="deformed",
    )
    link: Transfer = option(
        "--link",
        help="copy the files, or link to them; --link alone is --link symlink",
        default="copy",
        const="symlink",
    )
    skip_incomplete: bool = option(
        "--skip_incomplete", help="omit cases that lack a file, and list them", default=False
    )
