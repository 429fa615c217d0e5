"""Trainings that are over in seconds, and their parts one by one."""

import dataclasses

import torch
from toy_segmenter import toy_for

from gdmunet.preprocessing.planned_step import PlannedStep
from gdmunet.training.loop.ema import weights_of
from gdmunet.training.loop.loop import Loop
from gdmunet.training.loop.opening import open_loop
from gdmunet.training.patches.fold import FoldData
from gdmunet.training.patches.stream import PatchLoader
from gdmunet.training.trainers.gdm import DriftTrainer, GDMTrainer
from gdmunet.training.trainers.step import as_terms

CPU = torch.device("cpu")


def short(kind, **changes):
    settings = {
        "epochs": 2, "iterations_per_epoch": 4, "learning_rate": 2e-3, "validation_patches": 2, "feature_start": 0.5,
        "bank_patches": 4, "tokens_per_patch": 32, "bank_tokens": 32, "minimum_tokens": 2,
    }  # fmt: skip
    if not issubclass(kind, DriftTrainer):
        settings = {k: v for k, v in settings.items() if "bank" not in k and "tokens" not in k}
    kept = {k: v for k, v in settings.items() if k not in kind.__dict__ or kind in (GDMTrainer,)}
    return type(f"Short{kind.__name__}", (kind,), {"__module__": __name__, **kept, **changes})


def loop_of(toy, kind, configuration="3d_fullres", fold=0) -> Loop:
    """A training before its first step, with the toy segmenter if its trainer needs one."""
    plans, folders = toy_for(kind, toy)
    data = FoldData.of(plans, configuration, fold, folders.preprocessed)
    return open_loop(kind, data, folders, CPU, show_progress=False)


def planned_step(loop, precision="float32", **changes):
    """The loop's step as planning asks for its memory."""
    configuration = dataclasses.replace(loop.data.configuration, **changes)
    encoder = getattr(loop.trainer, "encoder", None)
    return PlannedStep(configuration, loop.data.plans.dataset, precision, encoder)


def without_norm(toy):
    """The toy data set with networks in which a patch does not know the others of its batch."""
    plans, folders = toy
    configurations = {
        name: dataclasses.replace(one, network=dataclasses.replace(one.network, norm="none"))
        for name, one in plans.configurations.items()
    }
    return dataclasses.replace(plans, configurations=configurations), folders


def batch_for(loop):
    """The same batch every time."""
    data = loop.data
    source = data.source(data.training, loop.trainer.body_share, 1)
    return PatchLoader(source, None, 2, 0).next_batch()


def in_step(loop):
    """The loop's trainer within the step that its state stands before."""
    loop.begin_step()
    return loop.trainer


def send_gradients(trainer, batch):
    """What a step does before the optimiser: predict, weigh, send gradients into the generator."""
    prediction = trainer.generate(batch).prediction
    trainer.combine(as_terms(trainer.loss_terms(batch, prediction)), prediction)


class EndedError(Exception):
    """A training that a test ends."""


def end_after(loop, iteration):
    """Train until the state of that iteration is saved."""
    save = loop.save_latest

    def save_and_end():
        save()
        if loop.state.iteration == iteration:
            raise EndedError

    loop.save_latest = save_and_end
    try:
        loop.train(0)
    except EndedError:
        return
    raise AssertionError("the training ended by itself")


def gradients(loop):
    """Of every parameter that is trained."""
    return [parameter.grad for parameter in loop.state.network.parameters() if parameter.requires_grad]


def weights(loop):
    return {name: value.clone() for name, value in weights_of(loop.state.network).items()}
