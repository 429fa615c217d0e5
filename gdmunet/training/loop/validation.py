"""How good is it: on fixed patches every epoch, on whole volumes at the end (through the predictor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gdmunet.dataset import find_dataset, list_cases, load_descriptor
from gdmunet.encoders.base import VolumeUnits
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, evaluate_folders
from gdmunet.evaluation.scores.summary import Summary, save_summary
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.samplers import sample_patches
from gdmunet.metrics import DECIDING, METRICS
from gdmunet.preprocessing.fingerprint import DERIVED_MASKS
from gdmunet.results import ValidatedCheckpoint
from gdmunet.training.patches.batch import Batch
from gdmunet.training.patches.source import PatchSource
from gdmunet.training.patches.stream import PatchLoader

if TYPE_CHECKING:
    from gdmunet.training.trainers.trainer import Trainer


@torch.no_grad()
def patch_mae(trainer: Trainer) -> float:
    """Body MAE of the averaged weights on the fold's fixed validation patches, in the target's unit (HU for CT)."""
    configuration = trainer.configuration
    source = PatchSource(
        trainer.store, trainer.validation_cases, configuration.window_size, configuration.dimensions,
        configuration.background, body_share=1.0, seed=trainer.seed + 1,
    )  # fmt: skip
    loader = PatchLoader(source, None, configuration.batch_size, workers=0)
    background = VolumeUnits.of(configuration, trainer.plans.dataset.target_name).network_background
    noise = torch.Generator().manual_seed(trainer.seed)
    error = voxels = 0.0
    with trainer.average.applied(trainer.network):
        for _ in range(-(-trainer.validation_patches // configuration.batch_size)):
            batch = Batch.from_arrays(loader.generate_train_batch()).to(trainer.device)
            with trainer.autocast():
                prediction = sample_patches(
                    trainer.sampler, trainer.network, batch.condition, batch.mask, background, noise
                )
            difference = (prediction - batch.target).abs() * batch.mask
            error += difference.sum().item()
            voxels += batch.mask.sum().item()
    return error / max(voxels, 1.0) * configuration.target_normalization.scale


def validate_fold(trainer: Trainer, checkpoint: ValidatedCheckpoint, show_progress: bool = True) -> Summary:
    """Predict the fold's validation cases from their raw files, as ``gdm_predict`` does, and score them.

    Writes ``fold_k/validation/`` (``validation_best/`` for the best checkpoint) with the volumes and summary.json.
    """
    raw = find_dataset(trainer.folders.raw, trainer.plans.dataset_name)
    descriptor = load_descriptor(raw)
    chosen = set(trainer.validation_cases)
    cases = [case for case in list_cases(raw, descriptor) if case.identifier in chosen]
    folder = trainer.fold_folder.validation(checkpoint)
    given = raw / "masksTr" if descriptor.mask else None
    derived = trainer.folders.preprocessed / trainer.plans.dataset_name / DERIVED_MASKS
    predictor = Predictor.from_folder(trainer.model_folder.path, (trainer.fold,), checkpoint, device=trainer.device)
    predict_cases(cases, folder, predictor, mask_folder=given, show_progress=show_progress)
    summary = evaluate_folders(
        EvaluationFolders(raw / "targetsTr", folder, given or derived),
        EvaluationOptions(
            descriptor=descriptor, identifiers=chosen, checkpoint=checkpoint, show_progress=show_progress
        ),
    )
    save_summary(summary, trainer.fold_folder.summary(checkpoint))
    score = METRICS[DECIDING].sentence(summary.mean[DECIDING], trainer.unit)
    trainer.journal.say(f"validation of whole volumes ({checkpoint}): {score}")
    return summary
