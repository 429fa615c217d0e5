"""Real published weights through a factory of one's own: ``pip install --no-deps deepbet==1.0.2``."""

import importlib.util
from pathlib import Path

import pytest
import torch

from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder

pytestmark = pytest.mark.slow
FACTORY = Path(__file__).parents[1] / "samples" / "deepbet_encoder.py"


@pytest.fixture(scope="module")
def weights() -> Path:
    found = importlib.util.find_spec("deepbet")
    if found is None or found.origin is None:
        pytest.skip("deepbet is not installed")
    return Path(found.origin).parents[1] / "data" / "models" / "model.pt"


def test_the_features_are_those_of_the_published_network(weights, mr_units, tmp_path):
    spec = choose_encoder(f"{FACTORY}:factory", mr_units, 3, EncoderOptions(tmp_path, weights)).spec
    assert spec.file == str(weights)
    assert spec.licence == "MIT"
    assert spec.window == (0.0, 900.0)
    encoder = load_encoder(spec, mr_units, tmp_path)
    assert sum(weight.numel() for weight in encoder.parameters()) == pytest.approx(2.08e6, rel=0.01)
    published = torch.jit.load(str(weights), map_location="cpu").eval()
    torch.manual_seed(0)
    values = torch.randn(1, 1, 96, 96, 96)
    with torch.no_grad():
        found = encoder.features(values)
        relu = getattr(published.conv, "2")
        expected = [published.init.forward(relu, values)]
        for group in (published.down0, published.down1, published.down2, published.down3):
            expected.append(group.forward(relu, expected[-1]))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_gradient_reaches_the_volume(weights, mr_units, tmp_path):
    spec = choose_encoder(f"{FACTORY}:factory", mr_units, 3, EncoderOptions(tmp_path, weights)).spec
    encoder = load_encoder(spec, mr_units, tmp_path)
    volume = torch.randn(1, 1, 64, 64, 64, requires_grad=True)
    sum(found.values.square().mean() for found in encoder(volume)).backward()
    assert volume.grad.isfinite().all()
    assert volume.grad.abs().sum() > 0
