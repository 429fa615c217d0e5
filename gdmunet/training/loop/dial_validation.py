"""The dial of a trained model over its held-out cases: error and distance at its places, and the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gdmunet.checkpoint import load_weights, save_weights
from gdmunet.dataset import Case
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.mini import random_mini
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.distances import Features, body_features
from gdmunet.evaluation.distributions.judge import scaled
from gdmunet.evaluation.scores.dial_curve import REALISMS, DialScores
from gdmunet.geometry import canonical_axes
from gdmunet.imageio import read_case, read_mask, read_volume
from gdmunet.inference.predictor import Predictor
from gdmunet.inference.whole_dial import predict_dial
from gdmunet.results import CHECKPOINT_NAMES, FoldFolder, ValidatedCheckpoint

JUDGE = "mini with random weights"
"""The encoder in whose features the distances are measured: no trainer trains against that draw."""
_JUDGE_SEED = 20


def scores_over_dial(cases: Sequence[Case], masks: Path, predictor: Predictor) -> list[DialScores]:
    """Error and features inside the body of every case, at the places `REALISMS`.

    Parameters
    ----------
    masks
        Folder of the bodies ``CASE.ext``.
    predictor
        The model; a prediction is linear over its dial, so that one pass over the windows gives all places.
    """
    configuration = predictor.configuration
    modality = predictor.descriptor.target_name
    units = VolumeUnits(configuration.target_normalization, configuration.background, modality)
    judge = random_mini(units, 3, _JUDGE_SEED)
    return [_scores_of(case, masks, predictor, judge) for case in cases]


def keep_default(folder: FoldFolder, validated: ValidatedCheckpoint, realism: float) -> None:
    """Write the default of predictions into the checkpoints of the same step as the validated one."""
    step = load_weights(folder.checkpoint(validated)).metadata.iteration
    for name in CHECKPOINT_NAMES:
        file = folder.checkpoint(name)
        if not file.is_file():
            continue
        checkpoint = load_weights(file)
        if checkpoint.metadata.iteration == step and checkpoint.network.dial_channels is not None:
            metadata = replace(checkpoint.metadata, realism=realism)
            save_weights(file, checkpoint.state_dict, checkpoint.network, metadata)


def _scores_of(case: Case, masks: Path, predictor: Predictor, judge: FrozenEncoder) -> DialScores:
    if case.target is None:
        raise GdmError("a held-out case has no target", case=case.identifier, remedy="add its target to targetsTr")
    target = read_volume(case.target, case.identifier)
    inside = read_mask(masks / f"{case.identifier}{predictor.descriptor.file_ending}", case.identifier).array
    axes = canonical_axes(target.geometry)
    body = axes.apply(inside > 0)

    def features(volume: np.ndarray) -> Features:
        return body_features(judge, scaled(axes.apply(volume.astype(np.float32)), judge.units), body)

    prepared = predictor.prepare(read_case(replace(case, target=None)))
    dial, real = predict_dial(predictor, prepared), features(target.array)
    errors, pairs = [], []
    for realism in REALISMS:
        restored = predictor.restore(dial.at(realism), prepared.mask, prepared.properties).array
        errors.append(float(np.abs(restored[inside] - target.array[inside]).mean(dtype=np.float64)))
        pairs.append((features(restored), real))
    return DialScores(tuple(errors), tuple(pairs))
