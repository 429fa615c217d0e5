"""Validation: on fixed patches every epoch, on whole volumes at the end (through the predictor)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gdmunet.checkpoint import load_metadata, load_weights
from gdmunet.dataset import Case, find_dataset, list_cases, load_descriptor
from gdmunet.dataset_names import RawFolders
from gdmunet.device import exact_float32, mixed_precision
from gdmunet.evaluation.scores.case_scores import CaseScores
from gdmunet.evaluation.scores.dial_curve import DialCurve
from gdmunet.evaluation.scores.evaluate import EvaluationOptions, put_together, score_cases
from gdmunet.evaluation.scores.summary import Summary, save_summary
from gdmunet.evaluation.scores.volume_files import EvaluationFolders
from gdmunet.inference.cases.files import ListedCases
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.samplers import sample_patches
from gdmunet.paths import Folders
from gdmunet.preprocessing.mask_folders import given_masks, scored_masks
from gdmunet.progress import say
from gdmunet.results import FoldFolder, ValidatedCheckpoint
from gdmunet.serialization import save_json
from gdmunet.training import distributed
from gdmunet.training.loop.dial_validation import JUDGE, keep_default, scores_over_dial
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.patches.stream import PatchLoader
from gdmunet.training.trainers.trainer import Trainer


@torch.no_grad()
@exact_float32()
def patch_mae(trainer: Trainer, state: TrainingState, data: FoldData) -> float:
    """Body MAE of the averaged weights on the fold's fixed validation patches, in the target's unit (HU for CT)."""
    configuration, device = data.configuration, trainer.device
    source = data.source(data.validation, 1.0, trainer.seed + 1)
    loader = PatchLoader(source, None, configuration.batch_size, workers=0, device=device)
    background = trainer.units.network_background
    noise = torch.Generator().manual_seed(trainer.seed)
    error = voxels = 0.0
    with state.average.applied(state.network):
        for _ in range(-(-trainer.validation_patches // configuration.batch_size)):
            batch = loader.next_batch()
            with mixed_precision(device, trainer.precision_on(device)):
                prediction = sample_patches(
                    trainer.sampler, state.network, batch.condition, batch.mask, background, noise
                )
            difference = (prediction - batch.target).abs() * batch.mask
            error += difference.sum().item()
            voxels += batch.mask.sum().item()
    return error / max(voxels, 1.0) * configuration.target_normalization.scale


def validate_fold(
    data: FoldData,
    folder: FoldFolder,
    checkpoint: ValidatedCheckpoint,
    folders: Folders,
    device: torch.device,
    show_progress: bool = True,
) -> Summary:
    """Predict the fold's validation cases from their raw files, as ``gdm_predict`` does, and score them.

    Several processes share the cases, each of which one predicts and scores; all must call, and the first writes the
    summary.

    Parameters
    ----------
    folder
        The fold's results; volumes and summary go into its folder for that checkpoint.
    folders
        Folders of the raw files and the derived masks.
    """
    raw = find_dataset(folders.raw, data.plans.dataset_name)
    descriptor = load_descriptor(raw)
    number, first = distributed.rank(), distributed.rank() == 0
    held_out = [case for case in list_cases(raw, descriptor) if case.identifier in set(data.validation)]
    mine = held_out[number :: distributed.world_size()]
    output = folder.validation(checkpoint)
    masks = scored_masks(raw, folders.preprocessed / data.plans.dataset_name, descriptor)
    compared = EvaluationFolders(RawFolders(raw).targets, output, masks)
    options = EvaluationOptions(
        descriptor=descriptor,
        identifiers={case.identifier for case in mine},
        checkpoint=checkpoint,
        provenance=load_metadata(folder.checkpoint(checkpoint)).provenance,
        show_progress=show_progress and first,
    )
    realism = _realism(data, folder, checkpoint, _Held(mine, masks), device)
    scored: dict[str, CaseScores] = {}
    if mine:
        predictor = _predictor(data, folder, checkpoint, device, realism)
        given = ListedCases(mine, given_masks(raw, descriptor))
        predict_cases(
            given, output, predictor, PredictionOptions(describe=first, show_progress=show_progress and first)
        )
        scored = score_cases(compared, options)
    everyone = {name: case for part in distributed.gather(scored) for name, case in part.items()}
    summary = put_together(dict(sorted(everyone.items())), compared, options)
    if first:
        save_summary(summary, folder.summary(checkpoint))
    return summary


@dataclass(frozen=True)
class _Held:
    """Held-out cases of this process, and the folder of the bodies that they are scored in."""

    cases: list[Case]
    masks: Path


def _predictor(
    data: FoldData, folder: FoldFolder, checkpoint: ValidatedCheckpoint, device: torch.device, realism: float | None
) -> Predictor:
    return Predictor.from_folder(folder.path.parent, (data.fold,), checkpoint, device=device, realism=realism)


def _realism(
    data: FoldData, folder: FoldFolder, checkpoint: ValidatedCheckpoint, held: _Held, device: torch.device
) -> float | None:
    """The place of the dial that the held-out cases choose, which is written down; None: there is no dial."""
    if load_weights(folder.checkpoint(checkpoint)).network.dial_channels is None:
        return None
    predictor = _predictor(data, folder, checkpoint, device, 0.0)
    scores = scores_over_dial(held.cases, held.masks, predictor)
    curve = DialCurve.of([one for part in distributed.gather(scores) for one in part], data.unit, JUDGE)
    if distributed.rank() == 0:
        save_json(curve, folder.dial(checkpoint))
        keep_default(folder, checkpoint, curve.chosen)
        say(curve.describe())
    distributed.barrier()
    return curve.chosen
