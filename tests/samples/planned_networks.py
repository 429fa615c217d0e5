"""Small networks as planning makes them: three stages or more, an output layer for each decoder stage."""

from gdmunet.network_spec import NetworkSpec
from gdmunet.preprocessing.presets import PRESETS
from gdmunet.preprocessing.topology import plan_topology


def planned_network(preset="tiny", patch=(16, 16, 16), channels=1, residual_channel=None) -> NetworkSpec:
    """The network of that preset for a patch of cubic voxels."""
    chosen = PRESETS[preset]
    topology = plan_topology((1.0,) * len(patch), patch, chosen.max_poolings)
    network = chosen.network(topology, channels, residual_channel)
    assert len(network.features) >= 3
    return network
