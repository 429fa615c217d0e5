"""The drift loss against the public code of its authors, against slow loops, and its options."""

import importlib.util
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from drift_reference import slow_drift

from gdmunet.errors import GdmError
from gdmunet.training.drift.loss import drift_loss
from gdmunet.training.drift.options import FIELDS, DriftOptions, FieldName

PAGE = Path(__file__).parents[3] / "documentation" / "explanation" / "drift.md"
KERNELS = ("laplace", "gaussian")
PAPER_FLOOR = 1e-6

# Cases, their temperatures, and what the authors' public code (lambertae/drifting, drift_loss.py, March 2026) returned.
PUBLIC = {
    "plain": (
        {"seed": 1, "B": 1, "G": 16, "P": 24, "N": 0, "D": 8, "shift": 0.5, "spread": 1.0}, (0.02, 0.05, 0.2),
        {"loss": [7.273404], "scale": 3.691215, "raw_force": [0.001749615, 0.01938516, 0.06325465],
         "gradient_norm": 0.3653167, "gradient_probe": 0.06745579},
    ),
    "several problems, weighted negatives": (
        {"seed": 2, "B": 3, "G": 6, "P": 4, "N": 5, "D": 12, "shift": 1.0, "spread": 1.0}, (0.02, 0.05, 0.2),
        {"loss": [9.387869, 7.690228, 3.796653], "scale": 5.132963, "raw_force": [0.0004772757, 0.009547508, 0.1282873],
         "gradient_norm": 0.7267698, "gradient_probe": 0.5170394},
    ),
    "far apart": (
        {"seed": 3, "B": 2, "G": 8, "P": 9, "N": 0, "D": 3, "shift": 6.0, "spread": 1.0}, (0.05, 0.2, 0.7),
        {"loss": [9.319948, 6.630835], "scale": 6.790892, "raw_force": [0.000179064, 0.009995498, 0.3992746],
         "gradient_norm": 0.415862, "gradient_probe": -0.1704534},
    ),
    "narrow generated": (
        {"seed": 4, "B": 1, "G": 12, "P": 40, "N": 3, "D": 2, "shift": 0.0, "spread": 0.05}, (0.1, 0.5),
        {"loss": [3.580626], "scale": 1.000352, "raw_force": [0.0003899161, 0.0261174],
         "gradient_norm": 1.092109, "gradient_probe": 0.6723004},
    ),
    "one of each": (
        {"seed": 5, "B": 2, "G": 1, "P": 1, "N": 0, "D": 5, "shift": 0.3, "spread": 1.0}, (0.02, 0.05, 0.2),
        {"loss": [6.500421, 11.49958], "scale": 1.989853, "raw_force": [4.080057e-06, 4.080057e-06, 4.080057e-06],
         "gradient_norm": 4.264275, "gradient_probe": 0.9414076},
    ),
}  # fmt: skip


def public_case(seed, B, G, P, N, D, shift, spread):
    random = np.random.RandomState(seed)
    x = random.randn(B, G, D) * spread
    y = random.randn(B, P, D) + shift
    n = random.randn(B, N, D) - 0.5 if N else None
    w = random.uniform(0.2, 2.0, (B, N)) if N else None
    probe = random.randn(B, G, D)
    return [None if part is None else torch.from_numpy(part.astype(np.float32)) for part in (x, y, n, w, probe)]


def samples(seed=0, B=2, G=7, P=9, N=3, D=4, shift=0.5):
    generator = torch.Generator().manual_seed(seed)
    x, y, n = (torch.randn(B, count, D, generator=generator) for count in (G, P, N))
    return x, y + shift, n - 0.3, torch.rand(B, N, generator=generator) * 2


def gradient(loss, x):
    (result,) = torch.autograd.grad(loss.sum(), x)
    return result


@pytest.mark.parametrize("name", PUBLIC)
def test_official_equals_the_public_code(name):
    arguments, temperatures, expected = PUBLIC[name]
    x, y, n, w, probe = public_case(**arguments)
    x.requires_grad_()
    loss, field = drift_loss(x, y, n, w, temperatures=temperatures, affinity_floor=PAPER_FLOOR)
    slope = gradient(loss, x)
    found = {"loss": loss, "scale": field.scale, "raw_force": field.raw_force, "gradient_norm": slope.norm(),
             "gradient_probe": (slope * probe).sum()}  # fmt: skip
    for quantity, value in expected.items():
        np.testing.assert_allclose(found[quantity].detach().numpy(), value, rtol=1e-4, err_msg=quantity)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_official_equals_the_public_code_where_it_is_at_hand(name):
    """Needs jax, einops, and DRIFTING_REFERENCE, the path of drift_loss.py of lambertae/drifting."""
    jax = pytest.importorskip("jax")
    if "DRIFTING_REFERENCE" not in os.environ:
        pytest.skip("DRIFTING_REFERENCE does not say where the public drift_loss.py is")
    clip = jax.numpy.clip
    jax.numpy.clip = lambda a, a_min=None, a_max=None: clip(a, a_min, a_max)  # recent jax has other names
    specification = importlib.util.spec_from_file_location("public_drift_loss", os.environ["DRIFTING_REFERENCE"])
    public = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(public)
    arguments, temperatures, _ = PUBLIC[name]
    x, y, n, w, _ = public_case(**arguments)
    others = [None if part is None else part.numpy() for part in (y, n, None, None, w)]

    def theirs(array):
        loss, info = public.drift_loss(array, *others, R_list=temperatures)
        return loss.sum(), (loss, info)

    (_, (loss, info)), slope = jax.value_and_grad(theirs, has_aux=True)(x.numpy())
    x.requires_grad_()
    ours, field = drift_loss(x, y, n, w, temperatures=temperatures, affinity_floor=PAPER_FLOOR)
    np.testing.assert_allclose(ours.detach().numpy(), loss, rtol=1e-4)
    np.testing.assert_allclose(field.scale, info["scale"], rtol=1e-4)
    np.testing.assert_allclose(field.raw_force, [info[f"loss_{R}"] for R in temperatures], rtol=1e-4)
    found = gradient(ours, x).numpy()
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-4 * np.abs(slope).max())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("mask_self", [True, False])
def test_every_field_equals_the_slow_loop(field, kernel, mask_self):
    x, y, n, w = samples()
    options = {"field": field, "kernel": kernel, "mask_self": mask_self, "temperatures": (0.1, 0.4)}
    x.requires_grad_()
    loss, found = drift_loss(x, y, n, w, **options)
    expected = slow_drift(x.detach(), y, n, w, **options)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-6)
    np.testing.assert_allclose(found.raw_force, expected.raw_force, rtol=1e-4)
    np.testing.assert_allclose(found.direction, expected.direction, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loss.detach(), expected.loss, rtol=1e-4)
    factor = 1.0 if field == "logkde" else 2.0
    slope = -factor * expected.direction / (x.shape[1] * x.shape[2] * expected.unit)
    np.testing.assert_allclose(gradient(loss, x), slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("floor", [0.0, 1e-6, 1e-2])
@pytest.mark.parametrize("field", ["official", "sinkhorn"])
def test_the_affinity_floor_equals_the_slow_loop(field, floor):
    x, y, _, _ = samples(P=5)
    options = {"field": field, "affinity_floor": floor, "temperatures": (0.05, 0.2), "sinkhorn_iterations": 2}
    _, found = drift_loss(x, y, **options)
    expected = slow_drift(x, y, **options)
    np.testing.assert_allclose(found.raw_force, expected.raw_force, rtol=1e-4)
    np.testing.assert_allclose(found.direction, expected.direction, rtol=1e-3, atol=1e-4)


def test_gradients_flow_into_the_generated_samples_alone():
    x, y, n, w = (part.requires_grad_() for part in samples())
    for field in FIELDS:
        loss, found = drift_loss(x, y, n, w, field=field)
        slopes = torch.autograd.grad(loss.sum(), (x, y, n, w), allow_unused=True)
        assert slopes[0].abs().max() > 0
        assert slopes[1:] == (None, None, None)
        assert not found.direction.requires_grad
        assert not found.raw_force.requires_grad


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("field", FIELDS)
def test_half_precision_is_computed_in_float32(field, kind):
    x, y, n, w = (part.to(kind) for part in samples(shift=2.0))
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = drift_loss(x, y, n, w, field=field)
    full = x.detach().float().requires_grad_()
    exact, same = drift_loss(full, y.float(), n.float(), w.float(), field=field)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, exact)
    assert torch.equal(found.direction, same.direction)
    assert torch.equal(gradient(loss, x), gradient(exact, full).to(kind))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("field", FIELDS)
def test_blocks_give_the_same_numbers(field, kernel):
    x, y, n, w = samples(G=23, P=17, D=6)
    x.requires_grad_()
    loss, whole = drift_loss(x, y, n, w, field=field, kernel=kernel)
    slope = gradient(loss, x)
    for block_elements in (1, 2 * 43 * 5, 2 * 43 * 22):
        other, parts = drift_loss(x, y, n, w, field=field, kernel=kernel, block_elements=block_elements)
        torch.testing.assert_close(other, loss, rtol=1e-4, atol=1e-5)
        # float32 sums in another order differ by a share of the largest term, whichever processor adds them
        torch.testing.assert_close(gradient(other, x), slope, rtol=1e-4, atol=1e-4 * float(slope.abs().max()))
        torch.testing.assert_close(parts.raw_force, whole.raw_force, rtol=1e-4, atol=0)
        torch.testing.assert_close(parts.effective_sample_size, whole.effective_sample_size, rtol=1e-4, atol=0)


def test_a_running_average_starts_with_the_batch_and_moves_slowly():
    x, y, _, _ = samples()
    near, far = y, y + 5
    _, batch = drift_loss(x, near)
    _, first = drift_loss(x, near, normalisation="ema")
    assert torch.equal(first.direction, batch.direction)
    torch.testing.assert_close(first.force_average, batch.raw_force.sqrt())
    _, other = drift_loss(x, far)
    _, second = drift_loss(x, far, normalisation="ema", force_average=first.force_average, force_decay=0.9)
    expected = 0.9 * first.force_average + 0.1 * other.raw_force.sqrt()
    torch.testing.assert_close(second.force_average, expected)
    _, one = drift_loss(x, far, temperatures=(0.2,))
    _, slow = drift_loss(
        x, far, temperatures=(0.2,), normalisation="ema", force_average=torch.tensor([3.0]), force_decay=1.0
    )
    torch.testing.assert_close(slow.direction, one.direction * one.raw_force.sqrt() / 3.0)


def test_a_floored_normalisation_leaves_small_forces_small():
    x, y, _, _ = samples(G=40, P=40, shift=0.0)
    _, batch = drift_loss(x, y, temperatures=(0.2,))
    root = batch.raw_force.sqrt()
    _, floored = drift_loss(x, y, temperatures=(0.2,), normalisation="floored", force_floor=4 * float(root))
    torch.testing.assert_close(floored.direction, batch.direction / 4)
    _, free = drift_loss(x, y, temperatures=(0.2,), normalisation="floored", force_floor=float(root) / 4)
    assert torch.equal(free.direction, batch.direction)


def test_the_effective_sample_size_counts_the_positives_listened_to():
    x, y, _, _ = samples(P=6)
    for field in FIELDS:
        _, narrow = drift_loss(x, y, temperatures=(1e-3,), field=field, affinity_floor=0.0)
        _, wide = drift_loss(x, y, temperatures=(50.0,), field=field)
        torch.testing.assert_close(wide.effective_sample_size, torch.tensor([6.0]), rtol=1e-2, atol=0)
        if field in ("sharp", "score", "logkde"):
            torch.testing.assert_close(narrow.effective_sample_size, torch.tensor([1.0]), rtol=1e-2, atol=0)


def test_many_problems_by_index_are_as_good_as_one_by_one():
    """With a common scale and normalisation only: here both problems are the same up to a rotation."""
    x, y, _, _ = samples(B=1)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))
    _, one = drift_loss(x, y)
    _, both = drift_loss(torch.cat([x, x @ turn]), torch.cat([y, y @ turn]))
    torch.testing.assert_close(both.direction[:1], one.direction, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(both.direction[1:], one.direction @ turn, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positives": torch.zeros(2, 3, 5)}, "cannot take these positives"),
        ({"positives": torch.zeros(2, 0, 4)}, "cannot take these positives"),
        ({"generated": torch.zeros(7, 4)}, "cannot take these generated"),
        ({"negatives": torch.zeros(1, 3, 4)}, "cannot take these negatives"),
        ({"negative_weights": torch.zeros(2, 3)}, "weights do not fit"),
        ({"field": "magnetic"}, "unknown field"),
        ({"kernel": "cosine"}, "unknown kernel"),
        ({"normalisation": "whitening"}, "unknown normalisation"),
        ({"field": "logkde", "normalisation": "ema"}, "cannot be normalised"),
        ({"temperatures": ()}, "cannot take these numbers"),
        ({"temperatures": (0.0,)}, "cannot take these numbers"),
        ({"sinkhorn_iterations": 0}, "cannot take these numbers"),
        ({"affinity_floor": -1.0}, "cannot take these numbers"),
        ({"normalisation": "ema", "force_average": torch.ones(2)}, "force average"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    x, y, _, _ = samples()
    with pytest.raises(GdmError, match=words):
        drift_loss(**({"generated": x, "positives": y} | change))


def test_the_documentation_has_the_table_of_fields():
    rows = [f"| `{name}` | {field.formula} | {field.purpose} |" for name, field in FIELDS.items()]
    table = PAGE.read_text().split("| field | formula | use |")[1].split("\n\n")[0].splitlines()[2:]
    assert table == rows


def test_every_field_can_be_chosen():
    assert tuple(FIELDS) == get_args(FieldName)


def test_options_are_fields_or_keywords():
    x, y, n, w = samples()
    chosen = DriftOptions(field="sharp", temperatures=(0.3,))
    _, given = drift_loss(x, y, n, w, chosen)
    _, named = drift_loss(x, y, n, w, field="sharp", temperatures=(0.3,))
    _, changed = drift_loss(x, y, n, w, DriftOptions(field="sharp"), temperatures=(0.3,))
    assert torch.equal(given.direction, named.direction)
    assert torch.equal(given.direction, changed.direction)
    with pytest.raises(TypeError, match="temperature"):
        drift_loss(x, y, temperature=0.3)
