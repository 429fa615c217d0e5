"""From a trained model and a condition to a prediction in physical units, in memory."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gdmunet.dataset import Case, DatasetDescriptor
from gdmunet.device import default_precision, find_device
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry, Shape
from gdmunet.host_memory import planned_memory
from gdmunet.imageio import CaseVolumes
from gdmunet.inference.admission import Admission
from gdmunet.inference.cases.memory import VolumeInput, gather_case
from gdmunet.inference.dial import dialled, naming_folds
from gdmunet.inference.fast_windows import WindowPlan, fast_plan, pass_bytes
from gdmunet.inference.members import MeanNetwork, RunningMoments, flip_members, on_windows, place
from gdmunet.inference.options import PredictorOptions
from gdmunet.inference.passes import Passes, ProgressCallback
from gdmunet.inference.prediction import NetworkPrediction, Prediction
from gdmunet.inference.samplers import check_samples, with_steps
from gdmunet.inference.trained_models import load_model
from gdmunet.inference.window_batches import windows_per_pass
from gdmunet.inference.window_options import Network, WindowCount, WindowOptions
from gdmunet.plans import Configuration
from gdmunet.plausibility.range_spec import RangeSpec
from gdmunet.preprocessing.normalization import IntensityMap
from gdmunet.preprocessing.preprocessor import (
    CaseProperties,
    PreparedCase,
    prepare_case,
    restore_prediction,
)
from gdmunet.results import CheckpointName
from gdmunet.sampler_spec import ONE_STEP, SamplerSpec


@dataclass(frozen=True)
class ModelSource:
    """Folder and checkpoint that the networks were loaded from; None for networks given as objects.

    `weights` is each fold's sha256; `notes` are lines for people about what was loaded.
    """

    folder: Path
    folds: tuple[str, ...]
    checkpoint: CheckpointName
    weights: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Predictor:
    """Prepares a case, runs the windows through the networks, and brings the mean back onto the case's own grid.

    Parameters
    ----------
    networks
        (B, C, z, y, x) -> (B, 1, z, y, x), or (B, C, y, x) -> (B, 1, y, x) for a 2D configuration, in network
        units; torch modules or any callables. Several are averaged.
    configuration, descriptor
        The ones that the networks were trained with.
    source
        Folder that the networks were loaded from; None for networks given as objects.
    ranges
        Ranges of the training cases, outside of which a condition is doubted; None: they are not known.
    sampler
        Sampler of the networks: one pass, or several as their checkpoints say.
    options
        Fields of `PredictorOptions`, such as device, fast, tta, batch_size, samples, realism.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        configuration: Configuration,
        descriptor: DatasetDescriptor,
        *,
        source: ModelSource | None = None,
        ranges: RangeSpec | None = None,
        sampler: SamplerSpec = ONE_STEP,
        **options: Any,
    ) -> None:
        _check_any(networks)
        self.configuration, self.descriptor, self.source = configuration, descriptor, source
        self.options, self.sampler = PredictorOptions(**options), sampler
        self.admission = Admission(descriptor, ranges, self.options.accept)
        check_samples(sampler, self.options.samples)
        self.device = find_device(self.options.device)
        self.precision = self.options.precision or default_precision(self.device)
        self.batch_size = self.options.batch_size or windows_per_pass(configuration, self.device)
        # The networks as they are, and with their dials set; `realism`: the place of these; None: they have none.
        self.undialled = [place(network, self.device, self.options.compiled) for network in networks]
        dials, self.realism = dialled(self.undialled, self.options.realism)
        self.networks = on_windows(dials, configuration.dimensions)
        self.mirror_axes = tuple(range(3 - configuration.dimensions, 3)) if self.options.tta else ()

    @classmethod
    def from_folder(
        cls,
        model_folder: str | Path,
        folds: Sequence[str | int] | str | None = None,
        checkpoint: CheckpointName = "best",
        *,
        steps: int | None = None,
        **options: Any,
    ) -> Predictor:
        """Load a trained model; nothing but its folder is read.

        Parameters
        ----------
        model_folder
            ``<Trainer>__<plans>__<configuration>`` with plans.json and fold folders.
        folds
            Folds such as ``("0", "1")`` or ``"all"`` (the fold of that name); None: all that have this checkpoint.
        checkpoint
            ``best``, ``final`` or ``latest``.
        steps
            Steps of a model that predicts in several; None: the number that its trainer chose.
        options
            Fields of `PredictorOptions`, such as device, fast, tta, batch_size, samples, realism.

        Raises
        ------
        GdmError
            Plans of another version, a missing fold or checkpoint, or one that does not fit the plans; steps or samples
            for a model of one pass.
        """
        model = load_model(Path(model_folder), folds, checkpoint)
        with naming_folds(model.folds):
            return cls(
                model.networks,
                model.plans.configuration(model.configuration),
                model.plans.dataset,
                source=ModelSource(Path(model_folder), model.folds, checkpoint, model.weights, model.notes),
                ranges=model.plans.ranges,
                sampler=with_steps(model.sampler, steps),
                **model.completed(options),
            )

    def predict(
        self,
        condition: VolumeInput | Sequence[VolumeInput],
        mask: VolumeInput | None = None,
        spacing: Sequence[float] | None = None,
        *,
        identifier: str | None = None,
        uncertainty: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Prediction:
        """Predict one volume, or the channels of one case given as a list.

        Parameters
        ----------
        condition
            Array (z, y, x) in the raw unit of the training data, SimpleITK image, path, or a list of these.
        mask
            Body mask of any of these kinds; without one the body is derived from the condition.
        spacing
            Voxel size (z, y, x) in mm; for arrays only, whose axes are taken to point to superior, posterior, left.
        uncertainty
            Whether the standard deviation over folds and flips is given as well (every member takes its own pass).

        Raises
        ------
        GdmError
            The input cannot be used; the message says why.
        """
        channels = self.descriptor.channels
        return self._predict(lambda: gather_case(condition, channels, mask, spacing, identifier), uncertainty, progress)

    def predict_case(
        self, volumes: CaseVolumes, *, uncertainty: bool = False, progress: ProgressCallback | None = None
    ) -> Prediction:
        """Predict a case that was read already; its target is not looked at."""
        return self._predict(lambda: volumes, uncertainty, progress)

    def prepare(self, volumes: CaseVolumes, case: Case | None = None) -> PreparedCase:
        """Plausibility, orientation, crop, normalisation, resampling; a target is left out. Warnings name `case`."""
        with planned_memory(volumes.crop_bytes, "preparing the case", volumes.identifier):
            return prepare_case(self.admission.admit(volumes, case), self.configuration, self.descriptor)

    def predict_network_units(
        self,
        prepared: PreparedCase,
        *,
        uncertainty: bool = False,
        progress: ProgressCallback | None = None,
        offset: Shape = (0, 0, 0),
    ) -> NetworkPrediction:
        """Predict a prepared case on its grid, in network units; `offset` shifts the windows by that many voxels."""
        self.check_uncertainty(uncertainty)
        members, mirror_axes = flip_members(self.networks, self.mirror_axes), self.mirror_axes[:0]
        if not uncertainty:
            members = [MeanNetwork(tuple(self.networks)) if len(self.networks) > 1 else self.networks[0]]
            mirror_axes = self.mirror_axes
        run, samples = self.passes(prepared, mirror_axes, offset), self.options.samples
        with planned_memory(lambda: _bytes_of(self, prepared), "predicting the case", prepared.properties.identifier):
            if len(members) * samples == 1:
                array, count = run(members[0], 0, progress)
                return NetworkPrediction(array, None, count)
            moments, total = RunningMoments(), WindowCount()
            for draw, member in itertools.product(range(samples), members):
                array, count = run(member, draw, progress)
                moments.add(array)
                total = total + count
            return NetworkPrediction(moments.mean, moments.deviation() if uncertainty else None, total)

    def passes(self, prepared: PreparedCase, mirror_axes: tuple[int, ...] = (), offset: Shape = (0, 0, 0)) -> Passes:
        """The passes of one network over a prepared case."""
        background = float(prepared.properties.target_map.apply(np.array(self.configuration.background)))
        plan = self.window_plan(prepared.mask.shape)
        asked, batch, precision = self.options, plan.batch_size, self.precision
        planned = functools.partial(pass_bytes, self.configuration.network, self.configuration.patch_size)
        windows = WindowOptions(
            plan.step_size, background, self.device, batch, mirror_axes, precision, asked.skip_empty, offset, planned
        )
        return Passes(prepared, plan.window, windows, self.sampler, asked.seed)

    def window_plan(self, shape: Shape) -> WindowPlan:
        """Size, step and batch of the windows of a prepared volume."""
        if self.options.fast:
            return fast_plan(shape, self.configuration, self.device)
        return WindowPlan(self.configuration.window_size, self.options.step_size, self.batch_size)

    def restore(self, raw: NetworkPrediction, mask: np.ndarray, properties: CaseProperties) -> Prediction:
        """Back to physical units on the case's own grid; air (the target's background) outside the body."""
        name, geometry, grid = properties.identifier, properties.geometry, (mask, properties, self.configuration)
        with planned_memory(_restored_bytes(raw, geometry), "bringing the prediction onto the grid of its case", name):
            array, uncertainty = restore_prediction(raw.array, *grid), _restore_deviation(raw.deviation, *grid)
        return Prediction(name, array, geometry, self.descriptor.target_name, uncertainty, raw.windows)

    @property
    def parameters(self) -> int:
        """Weights of all networks that are torch modules."""
        return sum(map(_weights_of, self.networks))

    def check_uncertainty(self, wanted: bool) -> None:
        """Refuse an uncertainty map of a single prediction."""
        if wanted and len(self.networks) == 1 and not self.mirror_axes and self.options.samples == 1:
            raise _one_pass_error()

    def _predict(
        self, read: Callable[[], CaseVolumes], uncertainty: bool, progress: ProgressCallback | None
    ) -> Prediction:
        self.check_uncertainty(uncertainty)
        # What was read is let go once it is prepared, and the condition once it is predicted: two volumes less.
        prepared = self.prepare(read())
        raw = self.predict_network_units(prepared, uncertainty=uncertainty, progress=progress)
        mask, properties = prepared.mask, prepared.properties
        del prepared
        return self.restore(raw, mask, properties)


def _bytes_of(predictor: Predictor, prepared: PreparedCase) -> int:
    """Planned bytes of a prediction: a pass over a batch of windows, and sums and weights of the volume."""
    configuration, plan = predictor.configuration, predictor.window_plan(prepared.mask.shape)
    passes = plan.batch_size * pass_bytes(configuration.network, configuration.patch_size, plan.window)
    return passes + 8 * prepared.mask.size


def _restored_bytes(raw: NetworkPrediction, geometry: Geometry) -> int:
    """Planned bytes of a prediction on the grid of its case, with one more volume while it is resampled."""
    return 4 * math.prod(geometry.shape) * (2 + (raw.deviation is not None))


def _check_any(networks: Sequence[Network]) -> None:
    if not networks:
        raise GdmError("a prediction needs a network", found="none", remedy="give one network or more")


def _one_pass_error() -> GdmError:
    return GdmError(
        "the uncertainty of one network in one pass cannot be measured",
        found="one fold, no mirroring, one draw",
        expected="several folds, --tta, or several --samples of a model that draws noise",
        remedy="train more folds (-f 0 1 2 ...), or predict with --tta",
    )


def _weights_of(network: Network) -> int:
    if isinstance(network, nn.Module):
        return sum(p.numel() for p in network.parameters())
    inner = getattr(network, "network", None)
    return 0 if inner is None else _weights_of(inner)


def _restore_deviation(
    deviation: np.ndarray | None, mask: np.ndarray, properties: CaseProperties, configuration: Configuration
) -> np.ndarray | None:
    """A deviation is scaled, not shifted, and nothing is uncertain where the background is filled in."""
    if deviation is None:
        return None
    spread = IntensityMap(0.0, float(np.finfo(np.float32).max), 0.0, properties.target_map.scale)
    scaled, without_background = replace(properties, target_map=spread), replace(configuration, background=0.0)
    return restore_prediction(deviation, mask, scaled, without_background)
