"""All places of a dial by one pass over the windows."""

from __future__ import annotations

from gdmunet.inference.dial import both_ends
from gdmunet.inference.members import MeanNetwork, on_windows
from gdmunet.inference.prediction import DialPrediction
from gdmunet.inference.predictor import Predictor
from gdmunet.preprocessing.preprocessor import PreparedCase


def predict_dial(predictor: Predictor, prepared: PreparedCase) -> DialPrediction:
    """Predict a prepared case at all places of the dial; every network sees every window once.

    Raises
    ------
    GdmError
        A network without a dial.
    """
    ends = on_windows(both_ends(predictor.undialled), predictor.configuration.dimensions)
    network = MeanNetwork(tuple(ends)) if len(ends) > 1 else ends[0]
    return DialPrediction(*predictor.passes(prepared, predictor.mirror_axes).with_change(network))
