"""Parts of the method, the projector and prediction on a GPU against float64 or a CPU."""

import numpy as np
import pytest
import torch
from drift_reference import slow_drift
from planned_networks import planned_network

from gdmunet.inference.sliding_window import predict_volume
from gdmunet.inference.window_options import WindowOptions
from gdmunet.networks import build_network
from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.scan_geometry import plan_geometry
from gdmunet.training.drift.loss import drift_loss
from gdmunet.training.drift.options import FIELDS

pytestmark = pytest.mark.gpu

PARALLEL = ScanSpec(views=12)
FAN = ScanSpec(views=24, beam="fan", range_degrees=360, source_to_axis=200)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("field", FIELDS)
def test_the_drift_is_that_of_float64(field, gpu):
    generated, real = normal(1, 2, 24, 6), normal(2, 2, 32, 6) + 0.5
    options = {"field": field, "temperatures": (0.1, 0.4)}
    loss, found = drift_loss(generated.to(gpu), real.to(gpu), **options)
    expected = slow_drift(generated, real, **options)
    np.testing.assert_allclose(found.direction.cpu(), expected.direction, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(loss.cpu(), expected.loss, rtol=1e-3)


@pytest.mark.parametrize("settings", [PARALLEL, FAN], ids=["parallel", "fan"])
def test_the_projectors_adjoint_is_its_adjoint(settings, gpu):
    """<A x, y> = <x, A' y>, of sums in float64."""
    projector = Projector(plan_geometry(settings, (32, 32), (3.0, 1.5, 1.5), "case"), device=gpu)
    image = normal(3, 2, 32, 32).to(gpu)
    sinogram = projector.project(image)
    other = normal(4, *sinogram.shape).to(gpu)
    one = (sinogram.double() * other.double()).sum().item()
    two = (image.double() * projector.adjoint(other).double()).sum().item()
    assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.parametrize("residual", [None, 0])
@torch.no_grad()
def test_a_volume_is_predicted_as_on_a_cpu(residual, gpu):
    """In float32, over several windows along every axis and a border."""
    torch.manual_seed(0)
    network = build_network(planned_network(residual_channel=residual)).eval()
    torch.nn.init.normal_(network.unet.decoder.seg_layers[-1].weight)
    volume = normal(5, 1, 30, 40, 50).numpy()
    expected = predict_volume(network, volume, (16, 16, 16), WindowOptions(batch_size=2))
    found = predict_volume(network.to(gpu), volume, (16, 16, 16), WindowOptions(batch_size=2, device=gpu))
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
