"""Every published encoder on checkpoints in its exact layout."""

import pytest
import torch
from published_layouts import write_published
from torch.nn import functional

from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.loading import load_encoder
from gdmunet.encoders.registry import FAMILIES
from gdmunet.encoders.weight_files import read_weights
from gdmunet.errors import GdmError

LEVELS = {
    "medvae-4x-3d": [(128, 1), (256, 2), (512, 4)],
    "medvae-8x-3d": [(128, 1), (256, 2), (512, 4), (512, 8)],
    "ct-fm": [(32, 1), (64, 2), (128, 4), (256, 8), (512, 16)],
    "medicalnet-10": [(64, 2), (64, 4), (128, 8), (256, 8), (512, 8)],
    "medicalnet-50": [(64, 2), (256, 4), (512, 8), (1024, 8), (2048, 8)],
    "nnssl": [(32, 1), (64, 2), (128, 4), (256, 8), (320, 16), (320, 32)],
}
# With a quarter of the channels; those of MedicalNet are fixed.
NARROW = ("medvae-4x-3d", "medvae-8x-3d", "ct-fm", "nnssl")
FULL = [pytest.param((name, False), marks=pytest.mark.slow) for name in LEVELS if name != "medicalnet-10"]


@pytest.fixture(
    scope="module",
    params=[("medicalnet-10", False), *((name, True) for name in NARROW), *FULL],
    ids=lambda pair: pair[0] + (" narrow" if pair[1] else ""),
)
def published(request, tmp_path_factory):
    """Family, the file of its weights, and how much wider the published one is."""
    family, narrow = request.param
    return family, write_published(family, tmp_path_factory.mktemp("weights"), narrow), 4 if narrow else 1


def load(published, units, tmp_path):
    family, file, _ = published
    spec, given = (f"nnssl:{file}", None) if family == "nnssl" else (family, file)
    choice = choose_encoder(spec, units, 3, EncoderOptions(tmp_path, given))
    return choice.spec, load_encoder(choice.spec, units, tmp_path)


def test_a_published_checkpoint_gives_the_declared_maps(published, ct_units, tmp_path):
    spec, encoder = load(published, ct_units, tmp_path)
    assert [(level.channels * published[2], level.stride[0]) for level in spec.levels] == LEVELS[published[0]]
    assert spec.licence == FAMILIES[published[0]].licence
    # Not divisible by the strides along any axis; two places at the deepest level of nnssl.
    size = (33, 18, 17) if published[0] == "nnssl" else (17, 9, 10)
    volume = torch.randn(1, 1, *size, requires_grad=True)
    maps = encoder(volume)
    for level, found in zip(spec.levels, maps, strict=True):
        assert found.stride == level.stride
        assert found.level == level.name
        assert found.values.shape == (1, level.channels, *(-(-n // s) for n, s in zip(size, level.stride, strict=True)))
        assert 1e-3 < found.values.std() < 1e4
    gradients = [torch.autograd.grad(found.values.square().mean(), volume, retain_graph=True)[0] for found in maps]
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)
    assert all(weight.grad is None and not weight.requires_grad for weight in encoder.parameters())


@pytest.mark.parametrize("family", ["ct-fm", "medvae-4x-3d", "nnssl"])
def test_a_checkpoint_that_lacks_weights_is_refused(family, ct_units, tmp_path):
    weights = read_weights(write_published(family, tmp_path, narrow=True))
    weights.pop(next(name for name in weights if "conv2" in name))
    broken = tmp_path / "broken.pth"
    torch.save(weights, broken)
    spec, given = (f"nnssl:{broken}", None) if family == "nnssl" else (family, broken)
    with pytest.raises(GdmError, match="lacks 1 of"):
        choose_encoder(spec, ct_units, 3, EncoderOptions(tmp_path, given))


@pytest.mark.parametrize("family", ["ct-fm", "medvae-4x-3d", "medicalnet-10"])
def test_the_weights_of_another_encoder_are_refused(family, ct_units, tmp_path):
    file = write_published("nnssl", tmp_path, narrow=True)
    with pytest.raises(GdmError, match=r"does not hold this encoder|lacks"):
        choose_encoder(family, ct_units, 3, EncoderOptions(tmp_path, file))


def test_weights_of_another_size_are_refused(ct_units, tmp_path):
    file = write_published("medicalnet-10", tmp_path)
    weights = read_weights(file)
    weights["layer2.0.conv1.weight"] = torch.zeros(128, 32, 3, 3, 3)
    torch.save(weights, file)
    with pytest.raises(GdmError, match=r"layer2\.0\.conv1\.weight does not have the shape"):
        choose_encoder("medicalnet-10", ct_units, 3, EncoderOptions(tmp_path, file))


def test_the_ways_in_are_those_of_the_originals(ct_units, mr_units):
    from gdmunet.encoders.ct_fm import CtFmEncoder, SegResNetwork
    from gdmunet.encoders.medvae import MedVaeEncoder, MedVaeNetwork

    hu = torch.tensor([-2000.0, -1000.0, 0.0, 1000.0, 3000.0])
    medvae = MedVaeNetwork((1, 2), width=32)
    assert MedVaeEncoder(medvae, ct_units).scale(hu).tolist() == [-1, -1, 0, 1, 1]
    assert MedVaeEncoder(medvae, mr_units).scale(torch.tensor([0.0, 450.0, 900.0])).tolist() == [-1, 0, 1]
    ct_fm = CtFmEncoder(SegResNetwork(4), ct_units)
    torch.testing.assert_close(ct_fm.scale(torch.tensor([-1024.0, 512.0, 2048.0])), torch.tensor([0.0, 0.5, 1.0]))


def test_recomputing_changes_no_number():
    from gdmunet.encoders.medvae import MedVaeNetwork

    torch.manual_seed(0)
    kept = MedVaeNetwork((1, 2), width=32, recompute=False).requires_grad_(False)
    again = MedVaeNetwork((1, 2), width=32, recompute=True).requires_grad_(False)
    again.load_state_dict(kept.state_dict())
    volume = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
    results = []
    for network in (kept, again):
        loss = sum(values.square().mean() for values in network(volume))
        results.append((loss, torch.autograd.grad(loss, volume)[0]))
    torch.testing.assert_close(results[0], results[1])


def test_attention_is_softmax_over_all_places():
    from gdmunet.encoders.medvae import _Attention

    torch.manual_seed(0)
    layer, values = _Attention(32), torch.randn(2, 32, 2, 3, 4)
    normed = functional.group_norm(values, 32, eps=1e-6)
    query, key, value = (part(normed).flatten(2) for part in (layer.q, layer.k, layer.v))
    weights = torch.softmax(torch.einsum("bci,bcj->bij", query, key) / 32**0.5, dim=2)
    mixed = torch.einsum("bij,bcj->bci", weights, value).reshape(values.shape)
    torch.testing.assert_close(layer(values), values + layer.proj_out(mixed), rtol=1e-4, atol=1e-5)


def test_a_ct_encoder_is_refused_for_mr(mr_units, tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(GdmError, match="not trained for this target"):
        choose_encoder("ct-fm", mr_units, 3, EncoderOptions(tmp_path, file))
