"""The data set of ``gdm_demo``: few-view CT to full-view CT of the three small CT volumes inside the package."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

from gdmunet.conversion.held_out import SplitOptions
from gdmunet.conversion.sparse_view_dataset import SparseViewOptions, make_sparse_view_dataset
from gdmunet.scan_spec import ScanSpec

VIEWS = 36
TRAINING = ("abdomen", "heart")
HELD_OUT = ("lung",)


def make_sparse_view_demo(raw_folder: Path, *, processes: int = 1, show_progress: bool = True) -> Path:
    """Write ``Dataset501_Demo``: train on abdomen and heart, hold out the lung.

    Condition: filtered back-projection of 36 parallel views over 180 degrees. Target: the CT itself. Mask: the body
    as it shows in the CT, not in the streaky condition, because it is the region in which the score is taken; its
    convex hull, because the field of view cuts all three patients. demo/volumes/NOTICE names the sources.
    """
    with ExitStack() as stack:
        folder = files("gdmunet") / "demo" / "volumes"
        cts = {name: stack.enter_context(as_file(folder / f"{name}.nii.gz")) for name in TRAINING + HELD_OUT}
        return make_sparse_view_dataset(
            raw_folder,
            501,
            "Demo",
            cts,
            ScanSpec(views=VIEWS),
            SparseViewOptions(
                convex_body=True, split=SplitOptions(HELD_OUT), processes=processes, show_progress=show_progress
            ),
        ).folder
