"""How good is it: on fixed patches every epoch, on whole volumes at the end (through the predictor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gdmunet.training.batch import Batch
from gdmunet.training.patches import PatchLoader, PatchSource

if TYPE_CHECKING:
    from gdmunet.training.trainer import Trainer


@torch.no_grad()
def patch_mae(trainer: Trainer) -> float:
    """Body MAE of the averaged weights on the fold's fixed validation patches, in the target's unit (HU for CT)."""
    configuration = trainer.configuration
    source = PatchSource(
        trainer.store, trainer.validation_cases, configuration.window_size, configuration.dimensions,
        configuration.background, body_share=1.0, seed=trainer.seed + 1,
    )  # fmt: skip
    loader = PatchLoader(source, None, configuration.batch_size, workers=0)
    error = voxels = 0.0
    with trainer.average.applied(trainer.network):
        for _ in range(-(-trainer.validation_patches // configuration.batch_size)):
            batch = Batch.from_arrays(loader.generate_train_batch()).to(trainer.device)
            with trainer.autocast():
                prediction = trainer.network(batch.condition)
            difference = (prediction.float() - batch.target).abs() * batch.mask
            error += difference.sum().item()
            voxels += batch.mask.sum().item()
    return error / max(voxels, 1.0) * configuration.target_normalization.scale
