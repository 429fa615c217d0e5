"""Steps towards the measured projections."""

import numpy as np
import pytest
import torch

from gdmunet.scan_spec import ScanSpec
from gdmunet.tomography.consistency import consistency_steps, projection_residual
from gdmunet.tomography.projector import Projector
from gdmunet.tomography.scan_geometry import plan_geometry


@pytest.fixture(params=["parallel", "fan"])
def scanned(request):
    settings = ScanSpec(views=20, beam=request.param, range_degrees=180 if request.param == "parallel" else 360)
    projector = Projector(plan_geometry(settings, (20, 20), (1.0, 2.0, 2.0), "case"))
    truth = torch.zeros(2, 20, 20)
    truth[:, 5:14, 4:15] = 0.02
    truth[1, 7:9, 7:9] = 0.04
    return projector, truth, projector.project(truth)


def test_the_truth_has_no_residual_and_stays(scanned):
    projector, truth, measured = scanned
    assert projection_residual(truth, measured, projector).relative < 1e-6
    assert torch.allclose(consistency_steps(truth, measured, projector, 3), truth, atol=1e-6)


def test_the_residual_is_the_mean_over_rays(scanned):
    projector, truth, measured = scanned
    found = projection_residual(0.9 * truth, measured, projector)
    assert found.relative == pytest.approx(0.1, rel=1e-3)
    assert found.absolute == pytest.approx(0.1 * float(measured.abs().mean()), rel=1e-3)


def test_every_step_comes_nearer_to_projections_and_truth(scanned):
    projector, truth, measured = scanned
    start = 0.9 * truth
    start[:, 15:18, 6:10] = 0.01  # invented
    found = [consistency_steps(start, measured, projector, steps) for steps in (0, 1, 5, 25)]
    residuals = [projection_residual(volume, measured, projector).absolute for volume in found]
    errors = [float((volume - truth).abs().mean()) for volume in found]
    assert torch.equal(found[0], start)
    assert residuals == sorted(residuals, reverse=True)
    assert errors[3] < 0.7 * errors[0]
    assert residuals[-1] < 0.15 * residuals[0]


def test_nothing_attenuates_less_than_vacuum(scanned):
    projector, truth, measured = scanned
    start = truth.clone()
    start[:, 15:18, 6:10] = 0.03  # invented, and paid for by negative air without a bound
    assert float(consistency_steps(start, measured, projector, 4).min()) >= 0


def test_a_step_is_the_weighted_gradient(scanned):
    projector, truth, measured = scanned
    start = (0.8 * truth).requires_grad_()
    rows = projector.project(torch.ones_like(truth))
    weights = torch.where(rows > 1e-4, 1 / rows, 0.0)
    loss = 0.5 * (weights * (projector.project(start) - measured) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, start)
    columns = projector.adjoint(torch.ones_like(measured))
    expected = (start.detach() - gradient / columns).clamp(min=0)
    assert np.allclose(consistency_steps(start.detach(), measured, projector, 1), expected, atol=1e-5)
