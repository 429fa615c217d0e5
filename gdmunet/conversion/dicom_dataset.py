"""A raw data set from DICOM: one folder per case, in it one folder per channel and one for the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from gdmunet.atomic import remove, scratch_folder
from gdmunet.claims import CLAIM_FILE
from gdmunet.conversion.case_files import SourceFolders, check_channels
from gdmunet.conversion.dicom_volumes import write_exactly
from gdmunet.conversion.folders import NewDatasetOptions, free_folder, named_folder, new_dataset
from gdmunet.conversion.held_out import Groups, SplitOptions
from gdmunet.conversion.series_choice import SeriesChoice, check_choices, chosen_series
from gdmunet.dicom.agreement import ChannelSeries, check_case_series
from gdmunet.dicom.reading import DicomVolume, read_series
from gdmunet.dicom.series import BY_FOLDER, choose_series, left_out_of, scan_series
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry, GridDifference
from gdmunet.hounsfield import HU_AIR, is_hounsfield
from gdmunet.imageio import Volume
from gdmunet.part_results import FOLDER, CaseWork, CrewOptions, KeptResults, all_kept, alone, key_of, run_part
from gdmunet.parts import OpenParts, PartOptions
from gdmunet.quantities import counted
from gdmunet.volume_formats.itk import to_image
from gdmunet.workers import check_processes, run_in_workers

_ENDING = ".nii.gz"
_TITLE = "reading DICOM"


@dataclass(frozen=True)
class DicomLayout:
    """The folders of each case's series: ``ROOT/CASE/<condition>/...`` for every channel, ``ROOT/CASE/<target>``."""

    root: Path
    conditions: tuple[str, ...] = ("condition",)
    target: str = "target"


@dataclass(frozen=True)
class DicomDataset:
    """The new folder, its cases, what is said of them, and the parts without which there is no data set yet."""

    folder: Path
    cases: tuple[str, ...]
    notes: tuple[str, ...]
    missing: OpenParts | None = None


@dataclass(frozen=True)
class _Converted:
    patient: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DicomDatasetOptions:
    """Choices for a data set from DICOM series.

    Attributes
    ----------
    channels, target
        Modality words of the condition channels, in the order of `DicomLayout.conditions`, and of the target.
    split
        Choice of the cases that are held out. Without groups, cases of one patient ID are one patient, called
        ``patient_001`` and so on; no ID is written anywhere.
    fix_geometry
        Whether series that do not form a regular grid are resampled.
    resample
        Whether target and further channels are interpolated linearly onto the first channel's grid; False: refuse a
        case of several grids.
    accept
        Checks of the series that are insisted on (see `check_case_series`).
    series
        Series that are meant in folders that hold several.
    part
        Share of the cases that is converted, and kept until all are; None: all of them, and none is kept before.
    processes
        Cases that are worked on at once.
    show_progress
        Whether a progress bar is shown.
    """

    channels: tuple[str, ...]
    target: str
    split: SplitOptions = field(default_factory=SplitOptions)
    fix_geometry: bool = False
    resample: bool = False
    accept: tuple[str, ...] = ()
    series: tuple[SeriesChoice, ...] = ()
    part: PartOptions | None = None
    processes: int = 1
    show_progress: bool = False

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_processes(self.processes)


def convert_dicom_dataset(
    layout: DicomLayout, raw_folder: Path, number: int, name: str, options: DicomDatasetOptions
) -> DicomDataset:
    """Build ``DatasetXXX_Name`` of NIfTI files; it appears whole or not at all.

    Raises
    ------
    GdmError
        Names the case: no or several series in a folder, different grids, different frames of reference.
    """
    if len(options.channels) != len(layout.conditions):
        raise GdmError(
            "every channel needs its folder",
            found=f"{counted(options.channels, 'channel')}, {counted(layout.conditions, 'condition folder')}",
            remedy="give --channel and --condition_folder the same number of values",
        )
    raw_folder = Path(raw_folder)
    names = _case_names(layout)
    check_choices(options.series, names)
    if options.part is not None:
        return _convert_part(layout, raw_folder, names, (number, name), options)
    free_folder(raw_folder, number, name)
    with scratch_folder(raw_folder / "volumes") as building:
        jobs = [(case, (case, layout, building, options)) for case in names]
        converted = run_in_workers(_convert_case, jobs, options.processes, options.show_progress, _TITLE)
        return _build(building, raw_folder, dict(zip(names, converted, strict=True)), (number, name), options)


def _build(
    building: Path,
    raw_folder: Path,
    converted: Mapping[str, _Converted],
    called: tuple[int, str],
    options: DicomDatasetOptions,
) -> DicomDataset:
    """The data set of converted volumes, which lie in a folder for each channel and one for the targets."""
    names = list(converted)
    sources = SourceFolders(tuple(building / str(i) for i in range(len(options.channels))), building / "target")
    split = options.split
    if not split.groups:
        split = replace(split, groups=_groups(names, [one.patient for one in converted.values()]))
    described = NewDatasetOptions(options.channels, options.target, split)
    folder = new_dataset(raw_folder, *called, sources, described)
    return DicomDataset(folder, tuple(names), tuple(note for one in converted.values() for note in one.notes))


def _convert_part(
    layout: DicomLayout,
    raw_folder: Path,
    names: Sequence[str],
    called: tuple[int, str],
    options: DicomDatasetOptions,
) -> DicomDataset:
    """Convert a part of the cases; whoever finds all of them converted builds the data set.

    The records of the cases stay beside the data set, so that a part that is run again finds its work done.
    """
    part = options.part or PartOptions()
    folder = named_folder(raw_folder, *called)
    building = raw_folder / f"{FOLDER}_{folder.name}"
    places = (*map(str, range(len(options.channels))), "target")
    kept = KeptResults(building, _Converted, tuple(f"{place}/{{}}{_ENDING}" for place in places))
    plain = replace(options, part=None, processes=1, show_progress=False)
    work = [CaseWork(name, _convert_case, (name, layout, building, plain), _key(name, layout, plain)) for name in names]
    done = all_kept(work, KeptResults(building, _Converted), part)
    if folder.is_dir() and not isinstance(done, OpenParts):
        return DicomDataset(folder, tuple(names), tuple(note for one in done for note in one.notes))
    free_folder(raw_folder, *called)
    run_part(work, kept, part, CrewOptions(options.processes, options.show_progress, _TITLE))
    with alone(building / CLAIM_FILE, "putting parts together"):
        if folder.is_dir():
            done = all_kept(work, KeptResults(building, _Converted), part)
        else:
            done = all_kept(work, kept, part)
        if isinstance(done, OpenParts):
            return DicomDataset(folder, (), (), done)
        converted = dict(zip(names, done, strict=True))
        if folder.is_dir():  # another part was faster
            return DicomDataset(folder, tuple(names), tuple(note for one in done for note in one.notes))
        built = _build(building, raw_folder, converted, called, options)
        for place in places:
            remove(building / place)
    if options.part is not None and part.is_whole:
        remove(building)
    return built


def _key(name: str, layout: DicomLayout, options: DicomDatasetOptions) -> str:
    """Hash of the files of a case, by name, size and time of change, and of how they are converted."""
    folder = Path(layout.root) / name
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    places = layout.conditions, layout.target
    choices = [options.channels, options.target, options.fix_geometry, options.resample, options.accept]
    choices += [chosen_series(options.series, name, part) for part in (*layout.conditions, layout.target)]
    return key_of([(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats], places, choices)


def _case_names(layout: DicomLayout) -> list[str]:
    root = Path(layout.root)
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []
    if not names:
        raise GdmError(
            "there are no folders of cases",
            file=root,
            expected=f"CASE/{layout.conditions[0]} and CASE/{layout.target}, one folder per case",
            remedy="check -i",
        )
    return names


def _convert_case(case: str, layout: DicomLayout, building: Path, options: DicomDatasetOptions) -> _Converted:
    folders = [Path(layout.root) / case / part for part in (*layout.conditions, layout.target)]
    places = [*map(str, range(len(layout.conditions))), "target"]
    modalities, notes = (*options.channels, options.target), list[str]()
    chosen = []
    for part, folder, modality in zip((*layout.conditions, layout.target), folders, modalities, strict=True):
        found = scan_series(folder, case)
        wanted = chosen_series(options.series, case, part)
        series = choose_series(found, wanted, folder=folder, case=case, remedy=BY_FOLDER)
        notes += left_out_of(folder, found, series, f"{case}/{folder.name}")
        chosen.append(ChannelSeries(series, folder, modality))
    notes += check_case_series(chosen, case, options.accept)
    first: DicomVolume | None = None
    for one, place in zip(chosen, places, strict=True):
        folder, modality = one.folder, one.word
        read = read_series(one.series, options.fix_geometry, case)
        notes += [f"{case}/{folder.name}: resampled onto a regular grid; {repair}" for repair in read.repairs]
        volume = read.volume
        first = first or read
        difference = volume.geometry.difference(first.volume.geometry)
        if difference:
            _check_onto(read, first, difference, folder, case, options.resample)
            volume = _onto(volume, first.volume.geometry, modality)
            notes.append(f"{case}/{folder.name}: resampled onto the grid of {folders[0].name}; {difference}")
        write_exactly(building / place / f"{case}{_ENDING}", volume)
    assert first is not None
    header = pydicom.dcmread(first.series.files[0], stop_before_pixels=True, specific_tags=["PatientID"])
    return _Converted(str(header.get("PatientID") or ""), tuple(notes))


def _check_onto(
    read: DicomVolume, first: DicomVolume, difference: GridDifference, folder: Path, case: str, resample: bool
) -> None:
    if not resample:
        raise GdmError(
            "the series of a case lie on different grids",
            case=case,
            file=folder,
            found=difference.found,
            expected=difference.expected,
            remedy="add --resample: further series are then interpolated onto the grid of the first channel",
        )
    if read.series.frame_of_reference != first.series.frame_of_reference:
        raise GdmError(
            "the series of a case have different frames of reference: their positions cannot be compared",
            case=case,
            file=folder,
            found=f"a frame of reference UID other than {first.series.description or 'the first channel'} has",
            expected="series of one frame of reference, or on one grid",
            remedy="register the two first, and export the moved series in the other's frame of reference",
        )


def _onto(volume: Volume, geometry: Geometry, modality: str) -> Volume:
    """The volume on another grid by linear interpolation; air (the lowest value, where it is not a CT) beyond it."""
    fill = HU_AIR if is_hounsfield(modality) else float(volume.array.min())
    grid = sitk.Image(geometry.shape[::-1], sitk.sitkUInt8)
    grid.SetSpacing(geometry.spacing[::-1])
    grid.SetOrigin(geometry.origin)
    grid.SetDirection(geometry.direction)
    moved = sitk.Resample(
        to_image(volume.array, volume.geometry), grid, sitk.Transform(), sitk.sitkLinear, fill, sitk.sitkFloat32
    )
    array = sitk.GetArrayFromImage(moved)
    # CT is stored in whole HU; half a unit is far below what interpolation itself changes.
    return Volume(np.rint(array) if is_hounsfield(modality) else array, geometry)


def _groups(names: Sequence[str], patients: Sequence[str]) -> Groups:
    """Cases of one patient ID as one patient; nothing where no two cases share an ID, or all do (a placeholder)."""
    known = sorted({patient for patient in patients if patient})
    shared = len(known) < sum(1 for patient in patients if patient)
    if not shared or (len(known) == 1 and all(patients)):
        return {}
    labels = {patient: f"patient_{index:03d}" for index, patient in enumerate(known, start=1)}
    return {name: {"patient": labels.get(patient, name)} for name, patient in zip(names, patients, strict=True)}
