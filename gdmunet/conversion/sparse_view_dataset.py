"""From CT volumes to a data set of sparse-view CT: the work of ``gdm_simulate_svct``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from skimage.morphology import convex_hull_image

from gdmunet.claims import CLAIM_FILE
from gdmunet.conversion.held_out import SplitOptions, choose_test
from gdmunet.conversion.scan_fitness import check_cts
from gdmunet.conversion.unfinished import begin, check_description, complete, growing_folder
from gdmunet.dataset import Case, DatasetDescriptor, list_cases
from gdmunet.dataset_names import RawFolders, Split
from gdmunet.errors import GdmError
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import HU_RANGE
from gdmunet.imageio import CaseVolumes, Volume, read_case, read_mask, read_volume, write_volume
from gdmunet.part_results import FOLDER, CaseWork, CrewOptions, KeptResults, all_kept, alone, key_of, run_part
from gdmunet.parts import WHOLE, OpenParts, PartOptions
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.quantities import counted
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.simulation import simulate_scan, stored_ct
from gdmunet.tomography.sinogram import ENDING, read_sinogram, write_sinogram
from gdmunet.workers import check_processes, run_in_workers

VOLUME_ENDING = ".nii.gz"
CUT_SHARE = 0.05
"""A patient is cut where more of the slices' edge than this is body."""


@dataclass(frozen=True)
class SparseViewOptions:
    """Choices for the data set, and the files beside condition and target.

    Attributes
    ----------
    convex_body
        Whether the body mask is the convex hull in every axial slice: for crops whose field of view cuts the patient,
        where lungs are not enclosed by tissue.
    save_sinograms
        Whether ``sinogramsTr/CASE.npz`` is written too.
    device
        Device of the back end torch.
    split
        Choice of the cases that are held out.
    part
        Share of the cases that is made; the data set is whole once all parts are.
    processes
        Cases that are worked on at once.
    show_progress
        Whether a progress bar is shown.

    Raises
    ------
    GdmError
        No process.
    """

    convex_body: bool = False
    save_sinograms: bool = False
    device: str = "cpu"
    split: SplitOptions = field(default_factory=SplitOptions)
    part: PartOptions = WHOLE
    processes: int = 1
    show_progress: bool = True

    def __post_init__(self) -> None:
        check_processes(self.processes)


@dataclass(frozen=True)
class SparseViewDataset:
    """The data set's folder, the cases that were made, those that were there already, and those with a cut patient.

    `cut` holds cases whose body reaches the edge of the slices inside the field of view (see `edge_share`); `missing`
    are the parts without which the data set is not whole.
    """

    folder: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    cut: tuple[str, ...]
    missing: OpenParts | None = None


@dataclass(frozen=True)
class _Made:
    """Whether a case had to be made, and the `edge_share` of its mask."""

    new: bool
    edge_share: float


def make_sparse_view_dataset(
    raw_folder: Path,
    number: int,
    name: str,
    cts: Mapping[str, Path],
    settings: ScanSpec,
    options: SparseViewOptions | None = None,
) -> SparseViewDataset:
    """Write ``DatasetXXX_Name``: condition few-view reconstruction, target the CT, mask the body in the field of view.

    Every file is written whole or not at all, the condition of a case last. Run again after an interruption, cases
    that are complete and belong to their CT are kept.

    Parameters
    ----------
    cts
        Identifier to CT volume in HU (see `find_ct_files`).
    settings
        Settings of the scan that is simulated.

    Raises
    ------
    GdmError
        The folder holds another data set, or CTs that cannot be scanned: all of them, before one is begun.
    """
    options = options or SparseViewOptions()
    held_out = choose_test(list(cts), options.split)
    descriptor = _describe(name, cts, held_out, settings, options)
    folder = growing_folder(Path(raw_folder), number, name)
    check_description(folder, descriptor)
    split: dict[str, Split] = {case: "Ts" if case in held_out else "Tr" for case in cts}
    mine = options.part.part_of(list(cts))
    last = {case: RawFolders(folder, split[case]).image(case, VOLUME_ENDING) for case in mine}
    missing = {case: cts[case] for case in mine if not last[case].is_file()}
    for line in check_cts(missing, settings, options.processes, options.show_progress):
        say(line)
    work = [
        CaseWork(case, _make_case, (case, path, folder, split[case], settings, options), _key(path, settings, options))
        for case, path in cts.items()
    ]
    title = f"{counted(settings.views, 'view')}, {settings.beam} beam"
    crew = CrewOptions(options.processes, options.show_progress, title)
    files = _files(folder, mine, held_out, options.save_sinograms)
    if not options.part.is_whole:
        return _make_part(work, folder, descriptor, options.part, crew, files)
    begin(folder, descriptor)
    items = [(one.name, one.arguments) for one in work]
    made = run_in_workers(_make_case, items, crew.processes, crew.show_progress, crew.title)
    list_cases(folder, descriptor)
    check_promised(files)
    complete(folder)
    results = dict(zip(cts, made, strict=True))
    return _dataset(folder, results, results)


def _describe(
    name: str,
    cts: Collection[str],
    held_out: Collection[str],
    settings: ScanSpec,
    options: SparseViewOptions,
) -> DatasetDescriptor:
    return DatasetDescriptor(
        channel_names={"0": "CT"},
        target_name="CT",
        file_ending=VOLUME_ENDING,
        numTraining=len(cts) - len(held_out),
        name=name,
        mask=True,
        groups=options.split.groups_of(cts),
        simulation=settings,
        info=_information(settings, options),
    )


def _make_part(
    work: Sequence[CaseWork[_Made]],
    folder: Path,
    descriptor: DatasetDescriptor,
    part: PartOptions,
    crew: CrewOptions,
    files: Sequence[Path],
) -> SparseViewDataset:
    """Make the cases of a part; the data set gets its description once the cases of all parts are made."""
    kept, turn = KeptResults(folder / FOLDER, _Made), folder / FOLDER / CLAIM_FILE
    with alone(turn, "beginning a data set"):
        begin(folder, descriptor)
    run_part(work, kept, part, crew, again=True)
    check_promised(files)
    with alone(turn, "putting parts together"):
        found = all_kept(work, kept, part)
        if not isinstance(found, OpenParts):
            list_cases(folder, descriptor)
            complete(folder)
    mine = {one.name: made for one in part.part_of(work) if (made := kept.read(one.name, one.key))}
    if isinstance(found, OpenParts):
        return _dataset(folder, mine, {}, found)
    return _dataset(folder, mine, {one.name: made for one, made in zip(work, found, strict=True)})


def _dataset(
    folder: Path, mine: Mapping[str, _Made], everything: Mapping[str, _Made], missing: OpenParts | None = None
) -> SparseViewDataset:
    return SparseViewDataset(
        folder,
        tuple(case for case, made in mine.items() if made.new),
        tuple(case for case, made in mine.items() if not made.new),
        tuple(case for case, made in everything.items() if made.edge_share > CUT_SHARE),
        missing,
    )


def _key(path: Path, settings: ScanSpec, options: SparseViewOptions) -> str:
    """Hash of a CT file and of the settings with which it is scanned."""
    stat = path.stat()
    choices = options.convex_body, options.save_sinograms, options.device
    return key_of(path.name, stat.st_size, stat.st_mtime_ns, settings, choices)


def _files(folder: Path, identifiers: Iterable[str], held_out: Collection[str], sinograms: bool) -> list[Path]:
    """The files of these cases."""
    files = []
    for name in identifiers:
        folders = RawFolders(folder, "Ts" if name in held_out else "Tr")
        files += [folders.image(name, VOLUME_ENDING), folders.target(name, VOLUME_ENDING)]
        files += [folders.mask(name, VOLUME_ENDING)]
        files += [folders.sinograms / f"{name}{ENDING}"] if sinograms else []
    return files


def body_of_ct(ct: Volume, convex: bool = False) -> np.ndarray:
    """Body (bool) on the grid of a CT in HU; `convex`: the hull of the visible body in every axial slice."""
    axes = canonical_axes(ct.geometry)
    grid = axes.apply_to_geometry(ct.geometry)
    body = derive_body_mask(axes.apply(ct.array)[None], ("CT",), grid.spacing)
    if convex:
        body = np.stack([convex_hull_image(part) if part.any() else part for part in body])
    return np.ascontiguousarray(axes.inverse().apply(body))


def edge_share(body: Volume) -> float:
    """Share of the edge of the axial slices that is body.

    A patient who is cut straight along the edge has, in the views along it, a step in every projection; few views leave
    it as an error of a thousand HU and more along that edge, which no scanner shows.
    """
    slices = canonical_axes(body.geometry).apply(body.array > 0)
    edge = np.ones(slices.shape[1:], dtype=bool)
    edge[1:-1, 1:-1] = False
    return float(slices[:, edge].mean())


def _make_case(
    identifier: str, source: Path, folder: Path, split: Split, settings: ScanSpec, options: SparseViewOptions
) -> _Made:
    """Make one case, unless it is there and whole."""
    ct = stored_ct(read_volume(source, identifier))
    folders = RawFolders(folder, split)
    case = Case(
        identifier,
        (folders.image(identifier, VOLUME_ENDING),),
        folders.target(identifier, VOLUME_ENDING),
        folders.mask(identifier, VOLUME_ENDING),
    )
    assert case.target is not None
    assert case.mask is not None
    sinogram = folders.sinograms / f"{identifier}{ENDING}"
    if _is_finished(case, ct, sinogram if options.save_sinograms else None):
        return _Made(False, edge_share(read_mask(case.mask, identifier)))
    scan = simulate_scan(ct, settings, identifier, options.device)
    mask = body_of_ct(ct, options.convex_body) & scan.field_of_view
    if not mask.any():
        raise GdmError(
            "no body lies inside the field of view",
            case=identifier,
            file=source,
            found=f"a circle of {settings.field_of_view:g} mm about the middle of the slices",
            remedy="give a larger --field-of-view, or leave the case out",
        )
    write_volume(case.target, ct.array, ct.geometry)
    write_volume(case.mask, mask, ct.geometry)
    if options.save_sinograms:
        write_sinogram(sinogram, scan.sinogram)
    write_volume(case.conditions[0], np.rint(scan.reconstruction).astype(np.int16), ct.geometry)
    return _Made(True, edge_share(Volume(mask, ct.geometry)))


def _is_finished(case: Case, ct: Volume, sinogram: Path | None) -> bool:
    """Whether all files are there and whole, on the CT's grid, and the target is this CT."""
    try:
        volumes: CaseVolumes = read_case(case)
        if sinogram is not None:
            read_sinogram(sinogram)
    except GdmError:
        return False
    same_grid = volumes.geometry.difference(ct.geometry) is None
    return same_grid and volumes.target is not None and np.array_equal(volumes.target, ct.array)


def _information(settings: ScanSpec, options: SparseViewOptions) -> dict[str, str]:
    body = "convex hull, in each axial slice, of the body" if options.convex_body else "body"
    return {
        "condition": f"filtered back-projection ({settings.filter} filter) of {settings.views} {settings.beam} views "
        f"over {settings.range_degrees:g} degrees, clipped to [{HU_RANGE[0]:g}, {HU_RANGE[1]:g}] HU",
        "mask": f"{body} derived from the target, inside the field of view",
    }
