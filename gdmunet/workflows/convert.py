"""Raw data sets from plain folders, from the archives of a challenge, and from CT volumes that are scanned."""

from __future__ import annotations

from pathlib import Path

from gdmunet.conversion import folders as plain_folders
from gdmunet.conversion import synthrad
from gdmunet.conversion.case_files import Sources
from gdmunet.conversion.held_out import read_groups
from gdmunet.conversion.sparse_view_dataset import (
    SparseViewDataset,
    SparseViewOptions,
    find_ct_files,
    make_sparse_view_dataset,
)
from gdmunet.paths import Folders
from gdmunet.workflows.requests.datasets import ConvertSynthradRequest, NewDatasetRequest
from gdmunet.workflows.requests.simulation import SimulateSvctRequest


def new_dataset(request: NewDatasetRequest, folders: Folders) -> Path:
    """Build a raw data set from plain folders; gives its folder.

    Raises
    ------
    GdmError
        Files that do not belong together or do not fit; the number is taken.
    """
    sources = Sources(
        request.images,
        request.targets,
        request.masks,
        request.image_suffix,
        request.target_suffix,
        request.mask_suffix,
    )
    return plain_folders.new_dataset(
        folders.raw,
        request.dataset,
        request.name,
        sources,
        channels=request.channel,
        target=request.target,
        test=request.test,
        groups=read_groups(request.groups) if request.groups else None,
        transfer=request.link,
        file_ending=request.convert,
        seed=request.seed,
    )


def convert_synthrad(request: ConvertSynthradRequest, folders: Folders) -> synthrad.SynthradDataset:
    """Build a raw data set from the archives of SynthRAD.

    Raises
    ------
    GdmError
        No cases, cases of several tasks or years, or cases that lack a file.
    """
    return synthrad.convert_synthrad(
        request.input,
        folders.raw,
        request.dataset,
        request.name,
        task=request.task,
        regions=request.regions,
        year=None if request.year == "auto" else request.year,
        target=request.target,
        transfer=request.link,
        skip_incomplete=request.skip_incomplete,
        show_progress=request.show_progress,
    )


def simulate_svct(request: SimulateSvctRequest, folders: Folders) -> SparseViewDataset:
    """Scan CT volumes with few views, and build the data set of their reconstructions.

    Raises
    ------
    GdmError
        No CTs, CTs that cannot be scanned, or a data set of other cases or settings in the way.
    """
    return make_sparse_view_dataset(
        folders.raw,
        request.dataset,
        request.name,
        find_ct_files(request.input),
        request.scan,
        SparseViewOptions(request.convex_body, request.save_sinograms, request.device),
        test=request.test,
        groups=read_groups(request.groups) if request.groups else None,
        processes=request.processes,
        show_progress=request.show_progress,
    )
