"""Raw data sets from plain folders, from the archives of a challenge, and from CT volumes that are scanned."""

from __future__ import annotations

from pathlib import Path

from gdmunet.conversion import folders as plain_folders
from gdmunet.conversion import synthrad
from gdmunet.conversion.case_files import SourceFolders
from gdmunet.conversion.ct_files import find_ct_files
from gdmunet.conversion.folders import NewDatasetOptions, claim_number
from gdmunet.conversion.held_out import SplitOptions, read_groups
from gdmunet.conversion.sparse_view_dataset import (
    SparseViewDataset,
    SparseViewOptions,
    make_sparse_view_dataset,
)
from gdmunet.paths import Folders
from gdmunet.progress import say
from gdmunet.volume_formats.files import left_out_of
from gdmunet.workflows.parts import say_missing, share_of
from gdmunet.workflows.requests.datasets import ConvertSynthradRequest, NewDatasetRequest
from gdmunet.workflows.requests.simulation import SimulateSvctRequest


def new_dataset(request: NewDatasetRequest, folders: Folders) -> Path:
    """Build a raw data set from plain folders; gives its folder.

    Raises
    ------
    GdmError
        Files that do not belong together or do not fit; the number is taken.
    """
    sources = SourceFolders(
        request.images,
        request.targets,
        request.masks,
        request.image_suffix,
        request.target_suffix,
        request.mask_suffix,
    )
    split = SplitOptions(request.test, read_groups(request.groups) if request.groups else {}, request.seed)
    options = NewDatasetOptions(request.channel, request.target, split, request.link, request.convert)
    with claim_number(folders.raw, request.dataset):
        return plain_folders.new_dataset(folders.raw, request.dataset, request.name, sources, options)


def convert_synthrad(request: ConvertSynthradRequest, folders: Folders) -> synthrad.SynthradDataset:
    """Build a raw data set from the archives of SynthRAD.

    Raises
    ------
    GdmError
        No cases, cases of several tasks or years, or cases that lack a file.
    """
    options = synthrad.SynthradOptions(
        task=request.task,
        regions=request.regions,
        year=None if request.year == "auto" else request.year,
        target=request.target,
        transfer=request.link,
        skip_incomplete=request.skip_incomplete,
        show_progress=request.show_progress,
    )
    with claim_number(folders.raw, request.dataset):
        return synthrad.convert_synthrad(request.input, folders.raw, request.dataset, request.name, options)


def simulate_svct(request: SimulateSvctRequest, folders: Folders) -> SparseViewDataset:
    """Scan CT volumes with few views, and build the data set of their reconstructions.

    Raises
    ------
    GdmError
        No CTs, CTs that cannot be scanned, or a data set of other cases or settings in the way.
    """
    options = SparseViewOptions(
        request.convex_body,
        request.save_sinograms,
        request.device,
        SplitOptions(request.test, read_groups(request.groups) if request.groups else {}),
        share_of(request),
        request.processes,
        request.show_progress,
    )
    cts = find_ct_files(request.input)
    for line in left_out_of(request.input):
        say(line)
    with claim_number(folders.raw, request.dataset, options.part):
        made = make_sparse_view_dataset(folders.raw, request.dataset, request.name, cts, request.scan, options)
    if made.missing:
        say_missing(made.missing, request, folders)
    return made
