"""Several random encoders in the place of one."""

import pytest
import torch
from short_trainers import batch_for, in_step, loop_of, short

from gdmunet.errors import GdmError
from gdmunet.training.coordination.coordinator import output_gradient
from gdmunet.training.trainers.battery import GDMTrainerTransportBattery, PairedStatisticsTrainerBattery


def loss_of(terms):
    return torch.stack([getattr(term, "value", term) for term in terms.values()]).sum()


def test_members_differ_and_each_has_the_same_say_in_the_direction(toy):
    loop = loop_of(toy, short(PairedStatisticsTrainerBattery, feature_start=0.0, battery=3))
    batch, trainer = batch_for(loop), in_step(loop)
    first = [next(member.parameters()) for member in trainer.encoder.members]
    assert not any(torch.equal(first[0], other) for other in first[1:])
    prediction = trainer.generate(batch).prediction.detach().requires_grad_()
    battery, sets = trainer.encoder, trainer._sets
    alone = []
    for number, member in enumerate(battery.members):
        trainer.encoder, trainer.levels = member, member.levels
        trainer._sets = [one for one in sets if f"@{number}/" in one.key]
        alone.append(output_gradient(loss_of(in_step(loop).feature_terms(batch, prediction)), prediction))
    trainer.encoder, trainer._sets = battery, sets
    trainer.levels = battery.levels
    # The places of tokens are drawn level by level, so they are not those of a member alone: directions agree closely.
    found = output_gradient(loss_of(in_step(loop).feature_terms(batch, prediction)), prediction)
    expected = torch.stack([one / one.norm() for one in alone]).mean(0)
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.8


def test_levels_are_chosen_as_those_of_one_encoder(toy):
    loop = loop_of(toy, short(GDMTrainerTransportBattery, battery=2, drift_stride=2))
    fine = [level.name for level in loop.trainer.levels]
    assert len(fine) == len(set(fine))
    assert [name.partition("@")[2] for name in fine] == ["0"] * (len(fine) // 2) + ["1"] * (len(fine) // 2)
    named = loop_of(toy, short(GDMTrainerTransportBattery, battery=2, drift_levels=("stride_2",)))
    assert [level.name for level in named.trainer.levels] == ["stride_2@0", "stride_2@1"]


def test_a_battery_without_encoders_is_refused(toy):
    with pytest.raises(GdmError, match="battery needs encoders"):
        loop_of(toy, short(GDMTrainerTransportBattery, battery=0))


@pytest.mark.parametrize("first", ["random", "planned"])
def test_the_planned_encoder_may_be_the_first_of_a_battery(toy, first):
    trainer = loop_of(toy, short(GDMTrainerTransportBattery, battery=2, battery_first=first)).trainer
    planned = trainer.load_encoder(trainer.encoder_spec, trainer.units)
    known = {name: value for name, value in planned.state_dict().items() if value.is_floating_point()}
    for number, member in enumerate(trainer.encoder.members):
        kept = [torch.equal(value, known[name]) for name, value in member.state_dict().items() if name in known]
        assert all(kept) == (first == "planned" and number == 0)
