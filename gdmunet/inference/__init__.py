"""From a trained model and a condition to a prediction in physical units."""

from gdmunet.inference.prediction import Prediction
from gdmunet.inference.predictor import Predictor

__all__ = ["Prediction", "Predictor"]
