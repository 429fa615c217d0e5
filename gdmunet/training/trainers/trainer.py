"""The training loop. The loop owns the order; subclasses own the pieces, each a short method or a setting."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal, NoReturn

import torch
from torch import nn

from gdmunet.checkpoint import ONE_STEP, SamplerSpec
from gdmunet.device import Precision, default_precision
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.errors import GdmError
from gdmunet.networks import build_checkpointed_network, build_network, checkpoint_stages
from gdmunet.paths import Folders
from gdmunet.plans import MemoryFootprint, NetworkSpec, Plans
from gdmunet.preprocessing.casestore import CaseStore
from gdmunet.preprocessing.memory import training_footprint
from gdmunet.progress import Progress
from gdmunet.results import ResultsFolder
from gdmunet.training import distributed
from gdmunet.training.loop import state
from gdmunet.training.loop.ema import WeightAverage
from gdmunet.training.loop.epoch import EpochMeter, check_finite
from gdmunet.training.loop.epoch_end import finish_epoch
from gdmunet.training.loop.interruption import Interruption
from gdmunet.training.loop.journal import Journal
from gdmunet.training.patches.augmentation import Augmentation, hu_intensity, mr_intensity
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.fold import cases_of_fold
from gdmunet.training.patches.source import PatchSource
from gdmunet.training.patches.stream import BatchStream, PatchLoader
from gdmunet.training.trainers.options import TrainerSettings
from gdmunet.training.trainers.schedule import learning_rate_factor


class Trainer(TrainerSettings):
    """Trains one fold of one configuration.

    Parameters
    ----------
    plans, configuration
        The plans and the name of one of their configurations.
    fold
        Number of a fold, or ``"all"`` to train on every case.
    folders
        Where the prepared cases are and the results go.
    device
        Where to train.

    Notes
    -----
    A subclass overrides settings (bare names) and any of: `network_spec`, `sampler`, `build_network`,
    `build_optimizer`, `generate`, `loss_terms`, `combine`, `augmentation`. `train_step` is written once.
    """

    uses_encoder: ClassVar[bool] = False

    def __init__(
        self, plans: Plans, configuration: str, fold: int | str, folders: Folders, device: torch.device
    ) -> None:
        self.plans, self.fold, self.folders, self.device = plans, str(fold), folders, device
        self.configuration = plans.configuration(configuration)
        results = ResultsFolder(folders.results)
        self.model_folder = results.model(plans.dataset_name, type(self).__name__, plans.name, configuration)
        self.fold_folder = self.model_folder.fold(fold)
        self.store = CaseStore(folders.preprocessed / plans.dataset_name, plans.name, configuration)
        chosen = cases_of_fold(plans, self.store, self.fold)
        self.training_cases, self.validation_cases = chosen.training, chosen.validation
        self.iteration = 0
        self.best_mae = float("inf")
        self.mae_average: float | None = None
        self.meter = EpochMeter()
        self._draws = (-1, torch.Generator())
        self._notes: dict[str, list[torch.Tensor]] = {}
        self.journal = Journal(self.fold_folder, speak=distributed.rank() == 0)
        self._prepare_network()

    # ---- what a subclass may override -------------------------------------------------------------------------

    @property
    def network_spec(self) -> NetworkSpec:
        """The generator in numbers: the planned one; it is stored with the weights."""
        return self.configuration.network

    @property
    def sampler(self) -> SamplerSpec:
        """How predictions are drawn from the trained network; it is stored with the weights."""
        return ONE_STEP

    def build_network(self) -> nn.Module:
        """The generator with fresh weights."""
        return build_network(self.network_spec)

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """AdamW; no weight decay on biases and norms, as usual."""
        weights = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas)

    def generate(self, batch: Batch) -> torch.Tensor:
        """Prediction (B, 1, ...) of a batch, in network units; runs under autocast."""
        return self.parallel_network(batch.condition)

    def loss_terms(self, batch: Batch, prediction: torch.Tensor) -> dict[str, torch.Tensor]:
        """Named scalar losses of a float32 prediction."""
        raise TypeError(f"{type(self).__name__} defines no loss_terms; derive from FidelityTrainer or write them")

    def combine(self, terms: dict[str, torch.Tensor], prediction: torch.Tensor) -> None:
        """Send gradients into the generator: here, of the sum of the terms."""
        self.scaler.scale(torch.stack(list(terms.values())).sum() / self.accumulation).backward()

    def augmentation(self) -> Augmentation:
        """What may happen to a training patch."""
        thick = (
            self.configuration.dimensions == 3 and self.configuration.spacing[0] > 3 * self.configuration.spacing[-1]
        )
        affine = all(spec.scheme == "affine" for spec in self.configuration.condition_normalization)
        intensity = (hu_intensity() if affine else mr_intensity()) if self.intensity_augmentation else None
        return Augmentation(
            self.spatial_probability, self.rotation, in_plane=thick, mirror=self.mirror, intensity=intensity
        )

    @classmethod
    def footprint(
        cls,
        network: NetworkSpec,
        patch_size: tuple[int, ...],
        batch_size: int,
        precision: Precision,
        encoder: FrozenEncoder | None = None,
    ) -> MemoryFootprint:
        """Predicted peak memory of this trainer's step, before anything is allocated; here without the encoder."""
        if cls.activation_checkpointing:
            # What is computed anew cannot be counted in mixed precision: float32 is an upper bound.
            return training_footprint(network, patch_size, batch_size, "float32", build=build_checkpointed_network)
        return training_footprint(network, patch_size, batch_size, precision)

    # ---- the loop ---------------------------------------------------------------------------------------------

    def train(self, loader_workers: int, show_progress: bool = True) -> None:
        """Train to the last iteration; Ctrl-C and SIGTERM save ``latest`` first."""
        stream = self._open_stream(loader_workers)
        try:
            with Interruption() as interruption:
                while self.iteration < self.total_iterations:
                    self._train_epoch(stream, interruption, show_progress and distributed.rank() == 0)
        finally:
            stream.close()
        self.save("final")

    def train_step(self, batches: list[Batch]) -> dict[str, float]:
        """One optimiser step over `accumulation` batches; returns what the journal averages over an epoch.

        These are ``loss_NAME`` of every term, ``gradient_norm``, and what the pieces gave to `note`.

        Raises
        ------
        GdmError
            A loss that is not a number; nothing has been written then.
        """
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        self._notes = {}
        for batch in batches:
            with self.autocast():
                prediction = self.generate(batch)
            terms = self.loss_terms(batch, prediction.float())
            self.combine(terms, prediction)
            for name, value in terms.items():
                self.note(f"loss_{name}", value)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self.note("gradient_norm", norm)
        # One transfer from the device a step: all values together.
        values = torch.stack([torch.stack(notes).mean() for notes in self._notes.values()]).tolist()
        report = dict(zip(self._notes, values, strict=True))
        identifiers = {identifier for batch in batches for identifier in batch.identifiers}
        # float16 steps with an infinite gradient are skipped, by design
        check_finite(report, self.iteration, identifiers, gradient_too=not self.scaler.is_enabled())
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate_now
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(self.network)
        return report

    def note(self, name: str, value: torch.Tensor) -> None:
        """Report a scalar of the present step: the journal holds its mean over the epoch."""
        self._notes.setdefault(name, []).append(value.detach().float().reshape(()).to(self.device))

    def autocast(self) -> AbstractContextManager:
        """Mixed precision as the settings and the device say."""
        precision = self.precision_on(self.device)
        if precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, precision))

    @classmethod
    def precision_on(cls, device: torch.device) -> Precision:
        """Precision of the forward pass; ``auto`` takes the best that the device has."""
        return default_precision(device) if cls.precision == "auto" else cls.precision

    @property
    def epoch(self) -> int:
        """0-based number of the present epoch."""
        return self.epoch_of(self.iteration)

    @property
    def learning_rate_now(self) -> float:
        """Learning rate of the present step."""
        warmup = round(self.warmup_share * self.total_iterations)
        return self.learning_rate * learning_rate_factor(self.iteration, self.total_iterations, warmup, self.schedule)

    @property
    def unit(self) -> str:
        """Unit of the errors that are reported: that of the target."""
        return "HU" if self.plans.dataset.hounsfield else f"{self.plans.dataset.target_name} units"

    def description(self) -> str:
        """What a subclass has to say before training starts, beside its settings; may be empty."""
        return ""

    def extra_state(self) -> dict[str, Any]:
        """What a subclass adds to the resume state: tensors and plain values."""
        return {}

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    def save_latest(self) -> None:
        """Everything that continuing needs, and the averaged weights."""
        if distributed.rank() == 0:
            state.save_resume_state(self)
            self.save("latest")

    def save(self, name: Literal["latest", "best", "final"]) -> None:
        """Write the averaged weights as ``checkpoint_NAME.safetensors``."""
        if distributed.rank() == 0:
            state.save_weights_of(self, name)

    def step_generator(self) -> torch.Generator:
        """Source of this step's draws: a function of seed, iteration and rank, so that resuming repeats them."""
        if self._draws[0] != self.iteration:
            seed = (self.seed * 1_000_003 + self.iteration) * 64 + distributed.rank()
            self._draws = (self.iteration, torch.Generator().manual_seed(seed % 2**63))
        return self._draws[1]

    def patch_source(self, cases: tuple[str, ...], seed: int) -> PatchSource:
        """Where patches of those cases come from; `seed` names the stream."""
        return PatchSource(
            self.store, cases, self.configuration.window_size, self.configuration.dimensions,
            self.configuration.background, self.body_share, seed,
        )  # fmt: skip

    def batch_of(self, loader: PatchLoader) -> Batch:
        """The next batch of a loader that works in this process, on the device."""
        return Batch.from_arrays(loader.generate_train_batch()).to(self.device)

    # ---- its parts --------------------------------------------------------------------------------------------

    def _prepare_network(self) -> None:
        torch.manual_seed(self.seed)
        self.network: Any = self.build_network().to(self.device)
        self.optimizer = self.build_optimizer(self.network)
        self.average = WeightAverage(self.network, self.ema_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision_on(self.device) == "float16")
        if self.activation_checkpointing:
            checkpoint_stages(self.network)
        if distributed.world_size() > 1 and self.device.type == "cuda":
            # Statistics over the whole batch, as one process would have them.
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        network = torch.compile(self.network) if self.compile_network else self.network
        if distributed.world_size() > 1:
            on_gpu = self.device.type == "cuda"
            network = nn.parallel.DistributedDataParallel(network, device_ids=[self.device.index] if on_gpu else None)
        self.parallel_network: Any = network

    def _open_stream(self, workers: int) -> BatchStream:
        world = distributed.world_size()
        if self.configuration.batch_size % world:
            raise GdmError(f"a batch of {self.configuration.batch_size} cannot be shared by {world} processes")
        share = self.configuration.batch_size // world
        source = self.patch_source(self.training_cases, self.seed)
        start, place = self.iteration * self.accumulation, distributed.rank() * share
        loader = PatchLoader(source, self.augmentation(), share, workers, start, place)
        return BatchStream(loader, workers, pin_memory=self.device.type == "cuda")

    def _train_epoch(self, stream: BatchStream, interruption: Interruption, show_progress: bool) -> None:
        self.meter.started, saved = time.perf_counter(), time.monotonic()
        last = min(self.total_iterations, (self.epoch + 1) * self.iterations_per_epoch)
        title = f"epoch {self.epoch + 1}/{self.total_epochs}"
        with Progress(title, last - self.iteration, show_progress, every=30.0) as progress:
            while self.iteration < last:
                asked = time.perf_counter()
                try:
                    batches = [next(stream).to(self.device) for _ in range(self.accumulation)]
                except (GdmError, RuntimeError):
                    # A job's SIGTERM also ends the processes that make patches: no error, the end that was asked for.
                    if interruption.requested is not None:
                        self._save_and_stop()
                    raise
                waited = time.perf_counter() - asked
                self.meter.add(self.train_step(batches), waited)
                self.iteration += 1
                progress.step(self.meter.losses())
                self._stop_if_asked(interruption)
                if time.monotonic() - saved > 60 * self.save_minutes and self.iteration < last:
                    self.save_latest()
                    saved = time.monotonic()
        finish_epoch(self)

    def _stop_if_asked(self, interruption: Interruption) -> None:
        if distributed.any_rank(interruption.requested is not None, self.device):
            self._save_and_stop()

    def _save_and_stop(self) -> NoReturn:
        self.save_latest()
        if distributed.rank() == 0:
            self.journal.say(f"stopped at iteration {self.iteration}; continue with --c")
        raise KeyboardInterrupt
