"""What planning makes of a small data set: the experiment that is rehearsed. Ask for it before a rehearsal begins."""

import functools
from pathlib import Path

from toy_segmenter import segmenter

from gdmunet.dataset import DatasetDescriptor
from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.plans import Configuration, EncoderSpec, MemoryFootprint, Plans
from gdmunet.preprocessing.case_fingerprint import CaseFingerprint, IntensityStatistics
from gdmunet.preprocessing.fingerprint import Fingerprint
from gdmunet.preprocessing.planned_encoder import WantedEncoder
from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.preprocessing.planner import plan_experiment
from gdmunet.preprocessing.planning_options import PlanningOptions

# Of volumes and patches. Fake tensors cost as much whatever their size; from 64 on a patch has all its tokens.
EDGE = 64
_STATISTICS = IntensityStatistics(0.0, 100.0, 10.0, -1000.0, 2000.0, -1000.0, 2000.0)


@functools.cache
def planned_experiment(preset: str = "plain", condition: str = "MR") -> Plans:
    """Plans with `mini`; the network corrects a condition ``CT``, and makes its output anew from an ``MR``."""
    intensities = {"0": _STATISTICS, "target": _STATISTICS}
    cases = {f"case_{n}": CaseFingerprint((EDGE,) * 3, (1.0,) * 3, 0.5, intensities) for n in range(4)}
    options = PlanningOptions(
        preset=preset,
        trainer="GDMTrainer",
        precision="bfloat16",
        footprint=_no_memory,
        choose=WantedEncoder("mini", EncoderOptions(Path("no cache"))),
        configurations=("2d", "3d_fullres"),
    )
    descriptor = DatasetDescriptor({"0": condition}, "CT", ".nii.gz", len(cases), mask=True)
    return plan_experiment(Fingerprint(cases, intensities), "Dataset901_Rehearsal", descriptor, (), options)


def _no_memory(_planned: PlannedStep) -> MemoryFootprint:
    return MemoryFootprint(0, 0, 0, 0, 0)


def planned_configuration(
    preset: str = "plain", condition: str = "MR", configuration: str = "3d_fullres"
) -> Configuration:
    return planned_experiment(preset, condition).configurations[configuration]


def planned_units() -> VolumeUnits:
    return VolumeUnits.of(planned_configuration(), "CT")


@functools.cache
def planned_encoder(dimensions: int) -> FrozenEncoder:
    """`mini` with its weights, as the plans pin it."""
    configuration = planned_configuration(configuration="2d" if dimensions == 2 else "3d_fullres")
    assert configuration.encoder is not None
    return load_encoder(configuration.encoder, VolumeUnits.of(configuration, "CT"), Path("no cache"))


@functools.cache
def built_in(name: str) -> FrozenEncoder:
    """An encoder that needs no file of the user."""
    encoder = choose_encoder(name, planned_units(), 3, EncoderOptions(Path("no cache"))).encoder
    assert encoder is not None
    return encoder


@functools.cache
def planned_segmenter() -> tuple[EncoderSpec, FrozenEncoder]:
    """A small segmenter with its decoder, for the trainers that compare its features."""
    return segmenter(planned_units())


def prepare() -> None:
    """Make all of it, with real tensors."""
    for preset, condition in (("plain", "MR"), ("tiny", "MR"), ("tiny", "CT")):
        planned_experiment(preset, condition)
    for dimensions in (2, 3):
        planned_encoder(dimensions)
    for name in ("mini-1", "mini-random"):
        built_in(name)
    planned_segmenter()
