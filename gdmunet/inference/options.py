"""Options of a prediction: of a model on one volume, and of a run over many cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gdmunet.device import Precision
from gdmunet.errors import GdmError
from gdmunet.inference.windows import check_step_size
from gdmunet.parts import PartOptions
from gdmunet.plausibility.findings import check_names


@dataclass(frozen=True)
class PredictorOptions:
    """Options of a model on a volume.

    Attributes
    ----------
    device
        Device of the networks.
    step_size
        Distance of neighbouring windows as a share of the window.
    fast
        Whether windows are as large as memory holds and overlap by an eighth, whatever `step_size` says.
    compiled
        Whether networks are compiled by `torch.compile`, which pays for many windows on a GPU.
    tta
        Whether mirrored windows are averaged as well (8 passes in 3D, 4 in 2D).
    precision
        Precision of the networks; None: bfloat16 on GPUs that have it, float16 on other GPUs, float32 elsewhere.
    batch_size
        Windows in one pass; None: the configuration's on a GPU and for slices, else two small ones or a large one.
    skip_empty
        Whether windows without a body voxel are filled with the background, without running the networks on them.
    samples
        Draws whose mean is the prediction; more than one needs a sampler that draws noise.
    seed
        Seed of that noise.
    realism
        Place of the dial from 0, the most faithful prediction, to 1, the most plausible one; None: the place that
        validation chose, as a checkpoint holds it, else 0. Networks without a dial refuse any.
    accept
        Names of checks of plausibility whose findings are accepted, beside those that planning accepted.
    """

    device: str | torch.device = "cpu"
    step_size: float = 0.5
    fast: bool = False
    compiled: bool = False
    tta: bool = False
    precision: Precision | None = None
    batch_size: int | None = None
    skip_empty: bool = True
    samples: int = 1
    seed: int = 0
    realism: float | None = None
    accept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.accept)
        check_step_size(self.step_size)
        if self.samples < 1:
            raise GdmError("a prediction needs at least one sample", found=self.samples, remedy="give 1 sample or more")
        if self.batch_size is not None and self.batch_size < 1:
            raise GdmError(
                "a pass needs at least one window",
                found=f"batch_size {self.batch_size}",
                remedy="give 1 window or more",
            )


@dataclass(frozen=True)
class PredictionOptions(PartOptions):
    """Options of a run over many cases, or over a part of them.

    Attributes
    ----------
    continue_prediction
        Whether cases whose prediction is there and can be read are skipped.
    preprocess_workers, export_workers
        Cases that are read ahead or written behind while one is computed; 0: none, which needs the least memory. None
        for reading: two on a GPU, which waits for one, else one.
    as_float
        Whether float32 is written also where whole numbers are enough (CT).
    uncertainty
        Whether the standard deviation over folds, mirrored windows and samples is written too.
    describe
        Whether prediction_settings.json is written; of several processes that share a folder, one does.
    single
        Name of the one predicted volume, whose source has one case; None: each case has its identifier and the ending
        of the data set.
    """

    continue_prediction: bool = False
    preprocess_workers: int | None = None
    export_workers: int = 1
    as_float: bool = False
    uncertainty: bool = False
    describe: bool = True
    show_progress: bool = True
    single: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.preprocess_workers or 0, self.export_workers) < 0:
            raise GdmError(
                "a number of workers is negative",
                found=f"{self.preprocess_workers} and {self.export_workers}",
                remedy="give 0 workers or more",
            )
