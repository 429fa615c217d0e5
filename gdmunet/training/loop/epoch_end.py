"""What happens at the end of an epoch: validation, the journal's line and picture, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdmunet.device import peak_memory_mb
from gdmunet.training import distributed
from gdmunet.training.loop import validation
from gdmunet.training.loop.epoch import EpochMeter, describe_epoch

if TYPE_CHECKING:
    from gdmunet.training.trainers.trainer import Trainer


def finish_epoch(trainer: Trainer) -> None:
    """Validate on patches, write the journal, save ``best`` and ``latest``; every rank calls it."""
    meter, trainer.meter = trainer.meter, EpochMeter()
    seconds, wait_share = meter.seconds, meter.wait_share
    mae = validation.patch_mae(trainer) if distributed.rank() == 0 else 0.0
    trainer.mae_average = mae if trainer.mae_average is None else 0.9 * trainer.mae_average + 0.1 * mae
    improved = trainer.mae_average < trainer.best_mae
    trainer.best_mae = min(trainer.best_mae, trainer.mae_average)
    if distributed.rank() == 0:
        row = {
            "epoch": trainer.epoch_of(trainer.iteration - 1),
            "iteration": trainer.iteration,
            **meter.means(),
            "validation_mae": mae,
            "validation_mae_ema": trainer.mae_average,
            "unit": trainer.unit,
            "learning_rate": trainer.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "validation_seconds": meter.seconds - seconds,
            "wait_share": wait_share,
            "peak_memory_mb": peak_memory_mb(trainer.device),
        }
        trainer.journal.record(row)
        trainer.journal.draw()
        trainer.journal.say(describe_epoch(row, trainer.total_epochs))
        if improved:
            trainer.save("best")
    trainer.save_latest()
    distributed.barrier()
