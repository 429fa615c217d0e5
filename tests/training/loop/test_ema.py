"""The averaged weights, and their turn in the network."""

import pytest
import torch
from planned_networks import planned_network

from gdmunet.networks import build_network
from gdmunet.preprocessing.memory import LiveBytes, bytes_of
from gdmunet.training.loop.ema import WeightAverage, weights_of


def copies(values):
    return {name: value.clone() for name, value in values.items()}


def test_weights_change_places_and_come_back_bit_for_bit_also_after_an_error():
    network = build_network(planned_network())
    average = WeightAverage(network, 0.9)
    for value in average.state.values():
        value.add_(1)
    own, averaged = copies(weights_of(network)), copies(average.state)

    def fail():
        with average.applied(network):
            assert all(torch.equal(value, averaged[name]) for name, value in weights_of(network).items())
            assert not network.training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.training
    assert all(torch.equal(value, own[name]) for name, value in weights_of(network).items())
    assert all(torch.equal(value, averaged[name]) for name, value in average.state.items())


def test_validation_needs_no_third_copy_of_the_weights():
    network = build_network(planned_network())
    average = WeightAverage(network, 0.9)
    with LiveBytes() as live:
        live.track(list(weights_of(network).values()))
        live.track(average.state)
        held = live.current
        with average.applied(network):
            pass
    assert live.peak - held < 0.5 * bytes_of(average.state)
