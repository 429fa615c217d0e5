"""DICOM series to volumes and data sets, and CT volumes to DICOM series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gdmunet.conversion.dicom_dataset import DicomDatasetOptions, DicomLayout, convert_dicom_dataset
from gdmunet.conversion.dicom_volumes import series_to_volume, volume_to_series
from gdmunet.conversion.folders import claim_number
from gdmunet.conversion.held_out import SplitOptions, read_groups
from gdmunet.conversion.series_choice import SeriesChoice
from gdmunet.dicom.files import other_files, slice_name
from gdmunet.dicom.series import UnchosenSeriesError, scan_series
from gdmunet.parts import OpenParts
from gdmunet.paths import Folders
from gdmunet.promises import check_promised
from gdmunet.quantities import counted, listed
from gdmunet.workflows.parts import has_scheduler, say_missing, share_of
from gdmunet.workflows.requests.datasets import ConvertDicomRequest
from gdmunet.workflows.requests.declaration import RequestError
from gdmunet.workflows.requests.spelling import command_line


@dataclass(frozen=True)
class ConvertedDicom:
    """Lines to be printed, what was found or written; and the parts without which there is no data set yet."""

    lines: tuple[str, ...]
    missing: OpenParts | None = None


def convert_dicom(request: ConvertDicomRequest, folders: Folders) -> ConvertedDicom:
    """List series, or write a volume, a series or a data set, as input and output ask.

    Raises
    ------
    RequestError
        The options do not fit the kind of input.
    GdmError
        No series, several, or one that is not a volume.
    """
    try:
        return _convert(request, folders)
    except UnchosenSeriesError as error:
        if error.largest is None:
            raise
        raise _with_choice(error, error.largest, request) from None


def _with_choice(error: UnchosenSeriesError, series: str, request: ConvertDicomRequest) -> UnchosenSeriesError:
    """The error with the command that takes the largest volume."""
    chosen: tuple[str, ...] = (series,)
    if request.dataset is not None:
        folders = (*request.condition_folder, request.target_folder)
        folder = Path(str(error.file)).relative_to(request.input / str(error.case)).as_posix()
        one = SeriesChoice(error.case, folder, series)
        others = [SeriesChoice.of(text, folders) for text in request.series]
        chosen = (*(str(other) for other in others if (other.case, other.folder) != (one.case, one.folder)), str(one))
        error.remedy = f"the largest is chosen by {{command}}; --series {folder}={series} chooses it in every case"
    else:
        error.remedy = "the largest is chosen by {command}; others by their number or UID (the last column)"
    error.command = command_line(replace(request, series=chosen))
    return error


def _convert(request: ConvertDicomRequest, folders: Folders) -> ConvertedDicom:
    if request.dataset is not None:
        return _make_dataset(request, request.dataset, folders)
    if request.input.is_file():
        if request.output is None:
            raise RequestError("-o FOLDER is needed to write a DICOM series", remedy="add -o FOLDER")
        return ConvertedDicom(_write_series(request, request.output))
    if request.reference or request.description:
        raise RequestError(
            "--reference and --description belong to -i FILE, a volume to be written as DICOM",
            remedy="give -i FILE, or omit both",
        )
    if request.output is None:
        return ConvertedDicom(_list(request.input))
    return ConvertedDicom(_write_volume(request, request.output))


def _list(folder: Path) -> tuple[str, ...]:
    series = scan_series(folder)
    lines = [f"{len(series)} series in {folder}: number, modality, images, description, UID", *map(str, series)]
    if others := [file.name for file in other_files(folder)]:
        kind = "they do not begin as DICOM files do: 128 bytes, then DICM"
        lines.append(f"other files, left out: {len(others)} ({kind}): {listed(others)}")
    return tuple(lines)


def _write_volume(request: ConvertDicomRequest, output: Path) -> tuple[str, ...]:
    read = series_to_volume(request.input, output, request.only_series, request.fix_geometry)
    check_promised([output])
    geometry = read.volume.volume.geometry
    shape = " x ".join(map(str, geometry.shape))
    spacing = " x ".join(f"{value:.4g}" for value in geometry.spacing)
    return (
        f"wrote {output} from series\n{read.volume.series}",
        f"  {shape} voxels of {spacing} mm (z y x)",
        *(f"  resampled onto a regular grid; {repair}" for repair in read.volume.repairs),
        *(f"  {line}" for line in read.left_out),
    )


def _write_series(request: ConvertDicomRequest, output: Path) -> tuple[str, ...]:
    written = volume_to_series(request.input, output, request.reference, request.only_series, request.description)
    check_promised([output / slice_name(number + 1) for number in range(written.slices)])
    rounded = ("  values were rounded to whole HU",) if written.rounded else ()
    return (f"wrote {written.slices} slices into {output}, series {written.uid}", *rounded)


def _make_dataset(request: ConvertDicomRequest, number: int, folders: Folders) -> ConvertedDicom:
    part = share_of(request)
    case_folders = (*request.condition_folder, request.target_folder)
    options = DicomDatasetOptions(
        request.channel,
        request.target,
        SplitOptions(request.test, read_groups(request.groups) if request.groups else {}, request.seed),
        request.fix_geometry,
        request.resample,
        request.accept,
        tuple(SeriesChoice.of(text, case_folders) for text in request.series),
        None if part.is_whole and not has_scheduler(request) else part,
        processes=request.processes,
        show_progress=request.show_progress,
    )
    layout = DicomLayout(request.input, request.condition_folder, request.target_folder)
    with claim_number(folders.raw, number, part):
        done = convert_dicom_dataset(layout, folders.raw, number, request.name, options)
    if done.missing:
        say_missing(done.missing, request, folders)
        return ConvertedDicom((f"part {part.part_id} of {part.num_parts} is converted",), done.missing)
    return ConvertedDicom((*done.notes, f"wrote {done.folder}, {counted(done.cases, 'case')}"))
