"""Predictions as files: the condition's grid, and the smallest type without loss of useful digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gdmunet.hounsfield import is_hounsfield
from gdmunet.imageio import write_volume
from gdmunet.inference.prediction import Prediction


def write_prediction(path: Path, prediction: Prediction, as_float: bool = False) -> None:
    """Write a prediction on its condition's grid; an earlier file survives a failure.

    CT and CBCT become whole HU in int16, as scanners store them; other targets, and all with `as_float`, float32.

    Raises
    ------
    GdmError
        The disk is full, or the folder cannot be written to.
    """
    whole = is_hounsfield(prediction.modality) and not as_float
    write_volume(Path(path), whole_numbers(prediction.array) if whole else prediction.array, prediction.geometry)


def write_uncertainty(path: Path, prediction: Prediction) -> None:
    """Write the standard deviation of a prediction as float32, in the target's unit."""
    if prediction.uncertainty is None:
        raise ValueError(f"{prediction.identifier} was predicted without uncertainty")
    write_volume(Path(path), prediction.uncertainty, prediction.geometry)


def whole_numbers(array: np.ndarray) -> np.ndarray:
    """Round to int16, or to int32 where a value is out of its range."""
    limits = np.iinfo(np.int16)
    fits = limits.min <= array.min() and array.max() <= limits.max
    result = np.empty(array.shape, dtype=np.int16 if fits else np.int32)
    for row, values in zip(result, array, strict=True):  # row by row: no second float volume
        row[...] = np.rint(values)
    return result
