"""What passes between the loop and a trainer's hooks are values, and a trainer needs nothing else."""

import dataclasses
import functools

import pytest
import torch
from short_trainers import batch_for, gradients, loop_of, short
from toy import toy_configuration

from gdmunet.dataset import DatasetDescriptor
from gdmunet.errors import GdmError
from gdmunet.training.loop import loop as loop_module
from gdmunet.training.loop.optimiser_step import add_gradients, begin_step
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.fidelity import FidelityTrainer
from gdmunet.training.trainers.flow_matching import FlowMatchingTrainer
from gdmunet.training.trainers.gdm import GDMTrainer
from gdmunet.training.trainers.step import Generated, Term


class Doubled(FidelityTrainer):
    """Hands a tensor from one hook to the other, and hides a term from the journal."""

    def generate(self, batch):
        return Generated(self.step.network(batch.condition), {"factor": torch.tensor(2.0)})

    def loss_terms(self, batch, prediction):
        (fidelity,) = super().loss_terms(batch, prediction).values()
        return {"fidelity": fidelity, "hidden": Term(batch.context["factor"] * fidelity, reported=False)}


class Plain(FidelityTrainer):
    def generate(self, batch):
        return self.step.network(batch.condition)

    def loss_terms(self, batch, prediction):
        (fidelity,) = super().loss_terms(batch, prediction).values()
        return {"fidelity": fidelity, "more": 2 * fidelity}


def gradients_after_a_step(toy, kind):
    loop = loop_of(toy, kind)
    loop.begin_step()
    add_gradients(loop.trainer, batch_for(loop))
    return gradients(loop), loop.trainer.step.notes


def test_context_goes_from_generate_to_the_losses_and_a_hidden_term_still_counts(toy):
    """A plain tensor does in either place."""
    (values, notes), (plain, all_notes) = (gradients_after_a_step(toy, kind) for kind in (Doubled, Plain))
    assert all(torch.equal(one, other) for one, other in zip(values, plain, strict=True))
    assert (set(notes), set(all_notes)) == ({"loss_fidelity"}, {"loss_fidelity", "loss_more"})


@pytest.mark.parametrize("kind", [FidelityTrainer, FlowMatchingTrainer])
def test_a_trainer_is_built_from_values_and_steps_where_there_is_no_data_at_all(kind):
    """No cases, no folders, no device: how the memory of a step is counted before anything is prepared."""
    nowhere = torch.device("meta")
    kind = type("InFloat32", (kind,), {"precision": "float32"})
    trainer = kind(toy_configuration(), DatasetDescriptor({"0": "MR"}, "CT", ".nii.gz", 1), nowhere)
    state = TrainingState.fresh(trainer)
    begin_step(trainer, state, print)
    volumes = torch.empty(2, 1, 16, 16, 16, device=nowhere)
    add_gradients(trainer, Batch(volumes, volumes, volumes, ("a", "b")))
    trained = [parameter for parameter in state.network.parameters() if parameter.requires_grad]
    assert all(parameter.grad.device.type == "meta" for parameter in trained)


def test_filling_the_bank_has_a_bar_of_its_own(toy, monkeypatch):
    bars = []

    class Bar(loop_module.Progress):
        def __init__(self, title, total, *arguments, **named):
            bars.append((title, total))
            super().__init__(title, total, *arguments, **named)

    monkeypatch.setattr(loop_module, "Progress", Bar)
    loop_of(toy, short(GDMTrainer)).train(0)
    assert bars == [("epoch 1/2", 4), ("epoch 2/2", 4), ("filling the feature bank", 2)]


class Unfit(GDMTrainer):
    """Its encoder gives features that half precision does not hold."""

    def feature_maps(self, batch, volume):
        maps = super().feature_maps(batch, volume)
        return tuple(dataclasses.replace(level, values=level.values * 1e6) for level in maps)


def test_tokens_that_cannot_be_banked_stop_the_step_before_the_optimiser(toy):
    """The host learns of them with the numbers of the journal, without a wait of their own."""
    loop = loop_of(toy, short(Unfit, feature_start=0.0))
    loop.begin_step = functools.partial(begin_step, loop.trainer, loop.state, print)  # no preview, which would refuse
    before = [weight.detach().clone() for weight in loop.state.network.parameters()]
    with pytest.raises(GdmError, match="cannot be banked"):
        loop.train_step([batch_for(loop)])
    assert all(map(torch.equal, loop.state.network.parameters(), before))


def test_what_is_required_is_asked_with_the_report(toy):
    loop, refused = loop_of(toy, FidelityTrainer), []
    loop.begin_step()
    step = loop.trainer.step
    step.note("loss", torch.tensor(2.0))
    step.require(torch.tensor(True), functools.partial(refused.append, "held"))
    assert step.report() == {"loss": 2.0}
    step.require(torch.tensor(False), functools.partial(refused.append, "did not hold"))
    step.report()
    assert refused == ["did not hold"]
