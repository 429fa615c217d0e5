"""Options of functions are checked where they are made, not where they are used."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import gdmunet
from gdmunet.conversion.dicom_dataset import DicomDatasetOptions
from gdmunet.conversion.folders import NewDatasetOptions
from gdmunet.conversion.held_out import SplitOptions
from gdmunet.conversion.sparse_view_dataset import SparseViewOptions
from gdmunet.conversion.synthrad import SynthradOptions
from gdmunet.encoders.choice import EncoderOptions
from gdmunet.encoders.pretraining_losses import ContrastOptions
from gdmunet.encoders.pretraining_options import PretrainingOptions
from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.classifier import ClassifierOptions
from gdmunet.evaluation.distributions.judge import JudgeOptions
from gdmunet.evaluation.report.page import PageOptions
from gdmunet.evaluation.scores.configurations import CandidateOptions
from gdmunet.evaluation.scores.evaluate import EvaluationOptions

IMPOSSIBLE = [
    (DicomDatasetOptions, {"channels": (), "target": "CT"}, "condition channel"),
    (DicomDatasetOptions, {"channels": ("MR",), "target": "CT", "processes": 0}, "process"),
    (NewDatasetOptions, {"channels": (), "target": "CT"}, "condition channel"),
    (SplitOptions, {"seed": -1}, "seed"),
    (SparseViewOptions, {"processes": 0}, "process"),
    (SynthradOptions, {"task": 3}, "task"),
    (SynthradOptions, {"year": "2024"}, "year"),
    (SynthradOptions, {"target": "warped"}, "target"),
    (EncoderOptions, {"cache": Path(__file__)}, "is a file"),
    (JudgeOptions, {"encoders": ("auto",), "cache": Path()}, "needs a name"),
    (JudgeOptions, {"encoders": (), "cache": Path()}, "needs a name"),
    (JudgeOptions, {"encoders": ("tiny", "tiny"), "cache": Path()}, "judges once"),
    (JudgeOptions, {"encoders": ("tiny", "mini"), "cache": Path(), "file": Path("w.pt")}, "belongs to one encoder"),
    (ClassifierOptions, {"steps": 0}, "cannot be trained"),
    (ClassifierOptions, {"folds": 1}, "cannot be trained"),
    (ContrastOptions, {"stride": 4, "temperature": 0.0}, "cannot be compared"),
    (ContrastOptions, {"stride": 4, "count": 1}, "cannot be compared"),
    (PretrainingOptions, {"crop": 40}, "crop"),
    (PretrainingOptions, {"masked_windows": 0}, "pretrained"),
    (PretrainingOptions, {"mask_share": 1.0}, "pretrained"),
    (CandidateOptions, {"processes": 0}, "process"),
    (EvaluationOptions, {"processes": 0}, "process"),
    (PageOptions, {"processes": 0}, "process"),
    (PageOptions, {"megabytes": 0}, "room"),
]


@pytest.mark.parametrize(("kind", "fields", "problem"), IMPOSSIBLE)
def test_impossible_options_cannot_be_made(kind, fields, problem):
    with pytest.raises(GdmError, match=problem):
        kind(**fields)


def test_a_text_is_not_taken_for_its_letters():
    with pytest.raises(TypeError, match="tuple"):
        SplitOptions(test="head")


def every_options_class() -> set[type]:
    modules = (importlib.import_module(found.name) for found in pkgutil.walk_packages(gdmunet.__path__, "gdmunet."))
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return {kind for kind in kinds if kind.__name__.endswith("Options") and kind.__module__.startswith("gdmunet.")}


@pytest.mark.parametrize("kind", sorted(every_options_class(), key=lambda kind: kind.__name__))
def test_every_options_class_is_frozen_and_checks_itself(kind):
    assert kind.__dataclass_params__.frozen
    assert "__post_init__" in vars(kind)
