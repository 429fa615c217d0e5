"""The course of a training: steps, epochs, validation, journal, checkpoints, interruption."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, NoReturn

from gdmunet.checkpoint import CheckpointMetadata, save_weights
from gdmunet.claims import Witness
from gdmunet.device import exact_float32
from gdmunet.device_memory import peak_memory_mb
from gdmunet.errors import GdmError
from gdmunet.progress import Progress
from gdmunet.provenance import ProvenanceSpec
from gdmunet.quantities import joined
from gdmunet.results import CheckpointName, FoldFolder
from gdmunet.serialization import to_json
from gdmunet.training import distributed
from gdmunet.training.draws import Draws
from gdmunet.training.loop.belonging import provenance_of, unwritten_weights
from gdmunet.training.loop.epoch import EpochMeter, describe_epoch
from gdmunet.training.loop.forecast import Forecast
from gdmunet.training.loop.interruption import Interruption
from gdmunet.training.loop.journal import Journal
from gdmunet.training.loop.memory_check import explained_training
from gdmunet.training.loop.optimiser_step import begin_step, take_step
from gdmunet.training.loop.predecessor import settle
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.loop.validation import patch_mae
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.patches.stream import BatchStream, PatchLoader
from gdmunet.training.trainers.step import Preview
from gdmunet.training.trainers.trainer import Trainer

# Names of what an epoch took, in a journal's row.
_COSTS = ("seconds", "validation_seconds", "wait_share", "peak_memory_mb", "seconds_left")


class Loop:
    """Trains one fold.

    Parameters
    ----------
    trainer
        Trainer, which says what is done.
    state
        State of the training: network, optimiser and progress.
    data
        The fold's prepared cases.
    folder
        Folder ``fold_k`` of journal and checkpoints.
    show_progress
        Whether progress bars are shown.

    Attributes
    ----------
    provenance
        Hashes of what the training rests on; checkpoints and the resume state carry them.
    """

    def __init__(
        self, trainer: Trainer, state: TrainingState, data: FoldData, folder: FoldFolder, show_progress: bool = True
    ) -> None:
        self.trainer, self.state, self.data, self.folder = trainer, state, data, folder
        self.provenance = provenance_of(type(trainer), data)
        self.show_progress = show_progress and distributed.rank() == 0
        self.journal = Journal(folder, speak=distributed.rank() == 0)
        self._claim = Witness.of(folder.running)
        self._forecast = Forecast(trainer.total_iterations, trainer.slower_from)

    def train(self, loader_workers: int) -> None:
        """Train to the last iteration; Ctrl-C and SIGTERM save ``latest`` first."""
        # Opened before the processes that make patches: they inherit its handlers, and so no signal's default.
        with Interruption(led=distributed.world_size() > 1) as interruption:
            stream = self._open_stream(loader_workers)
            with closing(stream), explained_training(self.trainer.device, self.data):
                while self.state.iteration < self.trainer.total_iterations:
                    self._train_epoch(stream, interruption)
        self.save("final")
        distributed.barrier()

    def train_step(self, batches: list[Batch]) -> dict[str, float]:
        """One optimiser step; returns the numbers that the journal averages. `state.iteration` does not change.

        Raises
        ------
        GdmError
            A loss that is not a number; nothing has been written then.
        """
        self.begin_step()
        return take_step(self.trainer, self.state, batches)

    def begin_step(self) -> None:
        """Hand the next step to the trainer's hooks, and show the trainer the real patches that it asks for."""
        begin_step(self.trainer, self.state, self._say)
        asked = self.trainer.preview()
        if asked is not None:
            self._show(asked)

    def save(self, name: CheckpointName) -> None:
        """Write the averaged weights as ``checkpoint_NAME.safetensors``."""
        if distributed.rank() != 0:
            return
        self._claim.check()
        metadata = _metadata(self.trainer, self.state, self.data, self.provenance)
        save_weights(self.folder.checkpoint(name), self.state.average.state, self.trainer.network_spec, metadata)

    def save_latest(self) -> None:
        """Write the state for continuing, and the averaged weights; every process calls it.

        An earlier training of the fold that was set aside is let go: this one has got as far.
        """
        self._claim.check()
        self.state.save(self.folder.resume, self.trainer, self.provenance)
        self.save("latest")
        if distributed.rank() == 0:
            settle(self.folder)

    def resume(self) -> None:
        """Continue from ``resume.pt``.

        Raises
        ------
        GdmError
            There is nothing to continue, or settings, plans, split or trainer have changed since.
        """
        self.state.load(self.folder.resume, self.trainer, self.provenance)
        if distributed.rank() == 0:
            self.journal.keep_first(self.trainer.epoch_of(self.state.iteration))
            self._forecast.continue_from(self.journal.rows())
            for name in unwritten_weights(self.state, self.folder):
                self.save(name)

    def _say(self, text: str) -> None:
        if text and distributed.rank() == 0:
            self.journal.say(text)

    def _share(self) -> int:
        """Patches of a batch that this process gets."""
        return self.data.configuration.batch_size // distributed.world_size()

    def _open_stream(self, workers: int) -> BatchStream:
        trainer, share = self.trainer, self._share()
        source = self.data.source(self.data.training, trainer.body_share, trainer.seed)
        start, place = self.state.iteration * trainer.accumulation, distributed.rank() * share
        loader = PatchLoader(source, trainer.augmentation(), share, workers, start, place, trainer.device)
        return BatchStream(loader, workers)

    @exact_float32()
    def _show(self, asked: Preview) -> None:
        """Real patches, drawn as training draws them."""
        trainer, share = self.trainer, self._share()
        source = self.data.source(self.data.training, trainer.body_share, trainer.seed + 2)
        place = distributed.rank() * share
        loader = PatchLoader(source, trainer.augmentation(), share, 0, first_place=place, device=trainer.device)
        draws = Draws.seeded(trainer.seed + 2, trainer.device)
        self._say(f"{asked.purpose} with {asked.patches * distributed.world_size()} patches of the training cases")
        batches = -(-asked.patches // share)
        with Progress(asked.purpose, batches, self.show_progress) as progress:
            for _ in range(batches):
                trainer.see(loader.next_batch(), draws)
                progress.step()

    def _train_epoch(self, stream: BatchStream, interruption: Interruption) -> None:
        trainer, state = self.trainer, self.state
        state.meter.started, saved = time.perf_counter(), time.monotonic()
        epoch = trainer.epoch_of(state.iteration)
        last = min(trainer.total_iterations, (epoch + 1) * trainer.iterations_per_epoch)
        title = f"epoch {epoch + 1}/{trainer.total_epochs}"
        with Progress(title, last - state.iteration, self.show_progress, every=30.0) as progress:
            self._forecast.mark(state.iteration)
            while state.iteration < last:
                asked = time.perf_counter()
                batches = self._next_batches(stream, interruption)
                waited = time.perf_counter() - asked
                state.meter.add(self.train_step(batches), waited)
                state.iteration += 1
                self._forecast.mark(state.iteration)
                progress.step(joined(state.meter.losses(), self._forecast.short()))
                self._say(self._forecast.first_words())
                due = time.monotonic() - saved > 60 * trainer.save_minutes and state.iteration < last
                if self._stop_if_asked(interruption, due):
                    self.save_latest()
                    saved = time.monotonic()
        self._finish_epoch()

    def _next_batches(self, stream: BatchStream, interruption: Interruption) -> list[Batch]:
        """The patches of a step. A process without patches keeps the others from a step in which it is missing."""
        batches, failure = _fetched(stream, self.trainer)
        failed, stop = distributed.any_rank(failure is not None, failure is not None and interruption.wanted)
        if stop:
            # A job's SIGTERM also ends the processes that make patches: no error, the end that was asked for.
            self._save_and_stop(interruption)
        if failure is not None:
            raise failure
        if failed:  # the other one does not come: its error ends all
            distributed.barrier()
        return batches

    def _finish_epoch(self) -> None:
        """Validate on patches, write the journal, save ``best`` and ``latest``; every process calls it."""
        trainer, state = self.trainer, self.state
        meter, state.meter = EpochMeter.merged(distributed.gather(state.meter)), EpochMeter()
        memory = max(distributed.gather(peak_memory_mb(trainer.device)))
        seconds, wait_share = meter.seconds, meter.wait_share
        mae = patch_mae(trainer, state, self.data) if distributed.rank() == 0 else 0.0
        state.mae_average = mae if state.mae_average is None else 0.9 * state.mae_average + 0.1 * mae
        improved = trainer.improves(state.mae_average, state.best_mae)
        state.best_mae = min(state.best_mae, state.mae_average)
        state.best_iteration = state.iteration if improved else state.best_iteration
        if distributed.rank() == 0:
            costs = (seconds, meter.seconds - seconds, wait_share, memory, self._forecast.seconds_left())
            row = _progress_row(trainer, state, meter, mae) | {"unit": self.data.unit}
            row |= dict(zip(_COSTS, costs, strict=True))
            self.journal.record(row)
            self.journal.draw(last=state.iteration == trainer.total_iterations)
            self.journal.say(joined(describe_epoch(row, trainer.total_epochs), self._forecast.short()))
        # The resume state first: whatever a kill behind it leaves out is made of it.
        self.save_latest()
        if improved:
            self.save("best")
        distributed.barrier()

    def _stop_if_asked(self, interruption: Interruption, due: bool = False) -> bool:
        """Stop all processes if one of them is asked to; else, whether one of them finds that saving is due."""
        stop, save = distributed.any_rank(interruption.wanted, due)
        return save if not stop else self._save_and_stop(interruption)

    def _save_and_stop(self, interruption: Interruption) -> NoReturn:
        self.save_latest()
        if distributed.rank() == 0:
            self.journal.draw(last=True)
        self._say(f"stopped at iteration {self.state.iteration}; continue with --c")
        distributed.barrier()  # a launcher ends those that are left soon after the first has gone
        interruption.stop()


def _progress_row(trainer: Trainer, state: TrainingState, meter: EpochMeter, mae: float) -> dict[str, Any]:
    return {
        "epoch": trainer.epoch_of(state.iteration - 1),
        "iteration": state.iteration,
        **meter.means(),
        "validation_mae": mae,
        "validation_mae_ema": state.mae_average,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
    }


def _metadata(trainer: Trainer, state: TrainingState, data: FoldData, provenance: ProvenanceSpec) -> CheckpointMetadata:
    """The origin of the averaged weights of a training."""
    return CheckpointMetadata(
        trainer=type(trainer).__name__,
        plans=data.plans.name,
        configuration=data.configuration.name,
        fold=data.fold,
        epoch=trainer.epoch_of(state.iteration),
        iteration=state.iteration,
        settings=to_json(trainer.settings()),
        validation_mae=state.mae_average,
        sampler=trainer.sampler,
        provenance=provenance,
    )


def _fetched(stream: BatchStream, trainer: Trainer) -> tuple[list[Batch], Exception | None]:
    """The batches of a step on the device, or the error that kept them from coming."""
    try:
        return [next(stream) for _ in range(trainer.accumulation)], None
    except (GdmError, RuntimeError) as error:
        return [], error
