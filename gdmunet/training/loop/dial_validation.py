"""The dial of a trained model over its held-out cases: the curve of the error, and the default that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gdmunet.checkpoint import load_weights, save_weights
from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.evaluation.scores.dial_curve import REALISMS
from gdmunet.imageio import read_case, read_mask, read_volume
from gdmunet.inference.prediction import NetworkPrediction
from gdmunet.inference.predictor import Predictor
from gdmunet.results import CHECKPOINT_NAMES, FoldFolder, ValidatedCheckpoint


def errors_over_dial(cases: Sequence[Case], masks: Path, ends: tuple[Predictor, Predictor]) -> list[list[float]]:
    """Mean absolute error inside the body of every case, at the places `REALISMS`.

    Parameters
    ----------
    masks
        Folder of the bodies ``CASE.ext``.
    ends
        The model with its dial at 0 and at 1. A prediction is linear between both before it is brought back to
        physical units, so that all places come from these.
    """
    return [_errors_of(case, masks, ends) for case in cases]


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


def _errors_of(case: Case, masks: Path, ends: tuple[Predictor, Predictor]) -> list[float]:
    predictor = ends[0]
    if case.target is None:
        raise GdmError("a held-out case has no target", case=case.identifier)
    target = read_volume(case.target, case.identifier).array
    inside = read_mask(masks / f"{case.identifier}{predictor.descriptor.file_ending}", case.identifier).array
    prepared = predictor.prepare(read_case(replace(case, target=None)))
    faithful, plausible = (end.predict_network_units(prepared) for end in ends)
    change = plausible.array - faithful.array
    errors = []
    for realism in REALISMS:
        raw = NetworkPrediction(faithful.array + np.float32(realism) * change, None, faithful.windows)
        restored = predictor.restore(raw, prepared.mask, prepared.properties).array
        errors.append(float(np.abs(restored[inside] - target[inside]).mean(dtype=np.float64)))
    return errors
