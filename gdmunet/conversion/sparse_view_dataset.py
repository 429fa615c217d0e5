"""From CT volumes to a data set of sparse-view CT: the work of ``gdm_simulate_svct``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from skimage.morphology import convex_hull_image

from gdmunet.atomic import move
from gdmunet.conversion.folders import named_folder
from gdmunet.conversion.held_out import SplitOptions, choose_test
from gdmunet.conversion.scan_fitness import check_cts
from gdmunet.dataset import Case, DatasetDescriptor, list_cases
from gdmunet.dataset_names import DESCRIPTOR_FILE, SPLITS, RawFolders, Split, dataset_name
from gdmunet.errors import GdmError
from gdmunet.geometry import canonical_axes
from gdmunet.hounsfield import HU_RANGE
from gdmunet.imageio import CaseVolumes, Volume, read_case, read_mask, read_volume, write_volume
from gdmunet.owners import sweep
from gdmunet.preprocessing.body import derive_body_mask
from gdmunet.progress import say
from gdmunet.promises import check_promised
from gdmunet.quantities import counted
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import load_json, save_json
from gdmunet.tomography.simulation import simulate_scan, stored_ct
from gdmunet.tomography.sinogram import ENDING, read_sinogram, write_sinogram
from gdmunet.volume_formats.files import find_volumes, unique_files
from gdmunet.volume_formats.table import FILE_ENDINGS, ending_of, stem_of
from gdmunet.workers import check_processes, run_in_workers

UNFINISHED_FILE = f"unfinished_{DESCRIPTOR_FILE}"
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
    processes: int = 1
    show_progress: bool = True

    def __post_init__(self) -> None:
        check_processes(self.processes)


@dataclass(frozen=True)
class SparseViewDataset:
    """The data set's folder, the cases that were made, those that were there already, and those with a cut patient.

    `cut` holds cases whose body reaches the edge of the slices inside the field of view (see `edge_share`).
    """

    folder: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    cut: tuple[str, ...]


def find_ct_files(inputs: Sequence[Path]) -> dict[str, Path]:
    """Identifier to file, for CT files and the volumes of folders; the identifier is the name without its ending.

    Raises
    ------
    GdmError
        A missing path, a file of an unknown ending, two files of one identifier, or no file at all.
    """
    ct_files = unique_files(_named_volumes(inputs))
    if not ct_files:
        raise GdmError(
            "there are no CT volumes",
            file=inputs[0] if inputs else None,
            expected="files that end in " + " ".join(FILE_ENDINGS),
            remedy="convert DICOM series to volumes first",
        )
    return dict(sorted(ct_files.items()))


def _named_volumes(inputs: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in inputs:
        if not path.exists():
            raise GdmError("the input is missing", file=path, remedy="check the path")
        for file in find_volumes(path).values() if path.is_dir() else [path]:
            ending = ending_of(file)
            if ending is None:
                raise GdmError(
                    "not a volume",
                    file=file,
                    expected=" ".join(FILE_ENDINGS),
                    remedy="give volumes, or folders of volumes; convert DICOM series first",
                )
            yield stem_of(file), file


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
    descriptor = DatasetDescriptor(
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
    folder = _folder(Path(raw_folder), number, name)
    _check_description(folder, descriptor)
    split: dict[str, Split] = {case: "Ts" if case in held_out else "Tr" for case in cts}
    last = {case: RawFolders(folder, split[case]).image(case, VOLUME_ENDING) for case in cts}
    missing = {case: path for case, path in cts.items() if not last[case].is_file()}
    for line in check_cts(missing, settings, options.processes, options.show_progress):
        say(line)
    _begin(folder, descriptor)
    items = [(case, (case, path, folder, split[case], settings, options)) for case, path in cts.items()]
    title = f"{counted(settings.views, 'view')}, {settings.beam} beam"
    made = run_in_workers(_make_case, items, options.processes, options.show_progress, title)
    list_cases(folder, descriptor)
    check_promised(_files(folder, cts, held_out, options.save_sinograms))
    move(folder / UNFINISHED_FILE, folder / DESCRIPTOR_FILE)
    return SparseViewDataset(
        folder,
        tuple(case for case, (new, _) in zip(cts, made, strict=True) if new),
        tuple(case for case, (new, _) in zip(cts, made, strict=True) if not new),
        tuple(case for case, (_, share) in zip(cts, made, strict=True) if share > CUT_SHARE),
    )


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
) -> tuple[bool, float]:
    """Make one case; gives whether it had to be made, and `edge_share` of its mask."""
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
        return False, edge_share(read_mask(case.mask, identifier))
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
    return True, edge_share(Volume(mask, ct.geometry))


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


def _folder(raw_folder: Path, number: int, name: str) -> Path:
    folder = named_folder(raw_folder, number, name)
    others = [path for path in sorted(raw_folder.glob(dataset_name(number, "*"))) if path != folder]
    if others:
        raise GdmError(
            f"data set {number} is there already",
            file=others[0],
            remedy="choose another number, or the same --name to go on with it",
        )
    return folder


def _described(folder: Path) -> Path | None:
    """The description of an earlier run, whole or not."""
    files = (folder / DESCRIPTOR_FILE, folder / UNFINISHED_FILE)
    return next((file for file in files if file.is_file()), None)


def _begin(folder: Path, descriptor: DatasetDescriptor) -> None:
    """Describe the data set under a name that no command reads, so that half a data set is never taken for a whole one.

    A whole one takes the other name until all cases are there.
    """
    there = _described(folder)
    if there is None:
        save_json(descriptor, folder / UNFINISHED_FILE)
        return
    if there.name == DESCRIPTOR_FILE:
        move(there, folder / UNFINISHED_FILE)
    for split in SPLITS:
        folders = RawFolders(folder, split)
        for part in (folders.images, folders.targets, folders.masks, folders.sinograms):
            sweep(part)


def _check_description(folder: Path, descriptor: DatasetDescriptor) -> None:
    """Refuse a folder whose description does not say the same."""
    there = _described(folder)
    if there is not None and load_json(DatasetDescriptor, there) != descriptor:
        raise GdmError(
            "the folder holds a data set of other cases or settings",
            file=there,
            expected="the same cases, held-out cases and flags as before, to go on with it",
            remedy="choose another number or name, or remove the folder",
        )


def _information(settings: ScanSpec, options: SparseViewOptions) -> dict[str, str]:
    body = "convex hull, in each axial slice, of the body" if options.convex_body else "body"
    return {
        "condition": f"filtered back-projection ({settings.filter} filter) of {settings.views} {settings.beam} views "
        f"over {settings.range_degrees:g} degrees, clipped to [{HU_RANGE[0]:g}, {HU_RANGE[1]:g}] HU",
        "mask": f"{body} derived from the target, inside the field of view",
    }
