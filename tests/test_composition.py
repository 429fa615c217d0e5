import numpy as np
import torch

from gdmunet.composition import compose, compose_array


def test_both_forms_give_background_outside_the_body():
    random = np.random.default_rng(0)
    array, mask = random.normal(size=(4, 5, 6)).astype(np.float32), random.random((4, 5, 6)) < 0.5
    composed = compose_array(array, mask, -2.5)
    assert composed.dtype == np.float32
    assert np.array_equal(composed[mask], array[mask])
    assert (composed[~mask] == -2.5).all()
    image = torch.from_numpy(array)[None, None]
    inside = torch.from_numpy(mask.astype(np.float32))[None, None]
    assert torch.equal(compose(image, inside, -2.5)[0, 0], torch.from_numpy(composed))


def test_the_gradient_comes_from_inside_alone():
    image, mask = torch.ones(1, 1, 2, 2, requires_grad=True), torch.tensor([[[[1.0, 0.0], [0.5, 1.0]]]])
    compose(image, mask, -1.0).sum().backward()
    assert image.grad is not None
    assert torch.equal(image.grad, mask)
