"""The request of ``gdm_demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gdmunet.workflows.requests.declaration import ProgressRequest, Synopsis, option, request
from gdmunet.workflows.requests.values import COUNT


@request
class DemoRequest(ProgressRequest):
    """Run the whole pipeline on a small data set."""

    synopsis = Synopsis(
        "gdm_demo",
        "Make a small data set, plan, preprocess, train, predict and evaluate: the commands are printed as they run. "
        "Ends with a table, one picture per test case and a file of the numbers.",
    )
    task: Literal["svct", "mr2ct"] = option(
        "--task",
        help="svct: few-view CT to full-view CT of real volumes; mr2ct: MR to CT of generated head phantoms",
        default="svct",
    )
    out: Path | None = option(
        "--out",
        help="new or empty folder for everything; default: gdm_demo_out/TASK",
        default=None,
        metavar="DIR",
    )
    method: Literal["regression", "gdm"] = option(
        "--method",
        help="regression: fidelity alone; gdm: the method, whose drift joins at 0.6 of the steps and needs more time",
        default="regression",
    )
    epochs: int | None = option(
        "--epochs",
        help="epochs of the training; default: chosen for a few minutes",
        default=None,
        metavar="N",
        bounds=COUNT,
    )
    overwrite: bool = option("--overwrite", help="remove an earlier demonstration in DIR first", default=False)

    @property
    def folder(self) -> Path:
        """The folder of the demonstration."""
        return self.out or Path("gdm_demo_out") / self.task
