"""The field ``transport`` and the running moments that it compares."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from gdmunet.errors import GdmError
from gdmunet.evaluation.distributions.distances import frechet_distance
from gdmunet.training.drift.moments import Gaussians, RunningMoments
from gdmunet.training.drift.moving_transport import MomentOptions, MovingTransport
from gdmunet.training.drift.tokens import TokenSet
from gdmunet.training.drift.transport import RIDGE, transport_between, transport_loss

SETS = (TokenSet("fine/local2_mean", 5, 64), TokenSet("fine/local2_std", 5, 64), TokenSet("deep/spatial", 8, 16))


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussians(sets=2, size=6, seed=0):
    """Unlike ones, far from the origin."""
    generator = random(seed)
    found = []
    for offset in (20.0, 21.0):
        root = torch.randn(sets, size, 2 * size, generator=generator, dtype=torch.float64)
        mean = offset + torch.randn(sets, size, generator=generator, dtype=torch.float64)
        found.append(Gaussians(mean, root @ root.mT / (2 * size)))
    return found


def samples_of(wanted, count, seed=1):
    """(T, count, D) tokens that have exactly these moments."""
    sets, size = wanted.mean.shape
    white = torch.randn(sets, count, size, generator=random(seed), dtype=torch.float64)
    white = white - white.mean(1, keepdim=True)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.mT @ white / count)).mT
    return wanted.mean.unsqueeze(1) + white @ torch.linalg.cholesky(wanted.covariance).mT


def test_the_force_is_zero_where_the_moments_agree():
    generated, _ = gaussians()
    transport = transport_between(generated, Gaussians(generated.mean.clone(), generated.covariance.clone()))
    tokens = samples_of(generated, 50)
    assert transport.field(tokens).abs().max() < 1e-9
    assert transport.distance.abs().max() < 1e-12
    single = transport.to(torch.device("cpu"))
    assert transport_loss(tokens.float(), single).max() < 1e-10


def test_diagonal_covariances_have_a_closed_form():
    """Each channel by itself: its deviation is stretched, its mean is moved."""
    generated, real = (
        Gaussians(g.mean, torch.diag_embed(g.covariance.diagonal(dim1=-2, dim2=-1))) for g in gaussians()
    )
    transport = transport_between(generated, real)
    tokens = samples_of(gaussians(seed=3)[0], 40)
    ridge = RIDGE * real.covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None]
    stretch = ((real.covariance.diagonal(dim1=-2, dim2=-1) + ridge)
               / (generated.covariance.diagonal(dim1=-2, dim2=-1) + ridge)).sqrt()  # fmt: skip
    wanted = real.mean[:, None] + stretch[:, None] * (tokens - generated.mean[:, None]) - tokens
    torch.testing.assert_close(transport.field(tokens), wanted, rtol=1e-9, atol=1e-9)


def test_the_force_turns_with_the_channels():
    generated, real = gaussians()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=random(), dtype=torch.float64))[0]
    tokens = samples_of(generated, 30)
    turned = transport_between(*(Gaussians(g.mean @ turn.T, turn @ g.covariance @ turn.T) for g in (generated, real)))
    plain = transport_between(generated, real)
    torch.testing.assert_close(turned.field(tokens @ turn.T), plain.field(tokens) @ turn.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned.distance, plain.distance)
    torch.testing.assert_close(turned.scale, plain.scale)


def test_the_mean_square_of_the_force_is_the_frechet_distance():
    """Held against the score of the evaluation, which knows another formula, and against the loss."""
    generated, real = gaussians()
    transport = transport_between(generated, real)
    tokens, twins = samples_of(generated, 200), samples_of(real, 200, seed=2)
    total = real.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    found = transport.field(tokens).square().sum(-1).mean(1) / total
    # Divided by counts less one there, and without a ridge.
    wanted = [frechet_distance(a.numpy(), b.numpy()) for a, b in zip(tokens, twins, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=0.01)
    torch.testing.assert_close(transport.distance, found, rtol=1e-3, atol=0)
    loss = transport_loss(tokens.float(), transport.to(torch.device("cpu")))
    torch.testing.assert_close(loss, transport.distance.float(), rtol=1e-3, atol=0)


def test_the_gradient_is_the_force_and_a_full_step_along_it_arrives():
    generated, real = gaussians()
    transport = transport_between(generated, real).to(torch.device("cpu"))
    tokens = samples_of(generated, 100).float().requires_grad_()
    (slope,) = torch.autograd.grad(transport_loss(tokens, transport).sum(), tokens)
    unit = 2 / (tokens[0].numel() * transport.scale.square())
    field = transport.field(tokens.detach())
    torch.testing.assert_close(-slope / unit[:, None, None], field, rtol=1e-4, atol=1e-5)
    there = tokens.detach() + field
    torch.testing.assert_close(there.mean(1).double(), real.mean, rtol=1e-3, atol=1e-3)
    centred = there - there.mean(1, keepdim=True)
    found = (centred.mT @ centred).double() / 100
    torch.testing.assert_close(found, real.covariance, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("collapsed", ["generated", "real", "both"])
def test_tokens_without_spread_give_a_finite_force(collapsed):
    generated, real = gaussians()
    flat = torch.zeros_like(real.covariance)
    if collapsed != "real":
        generated = Gaussians(generated.mean, flat)
    if collapsed != "generated":
        real = Gaussians(real.mean, flat)
    transport = transport_between(generated, real)
    assert transport.field(samples_of(gaussians()[0], 10)).isfinite().all()
    assert transport.distance.isfinite().all()


def batch(seed, counts=(40, 40, 12), offset=0.0):
    generator = random(seed)
    sizes = zip(SETS, counts, strict=True)
    return {one.key: 30.0 + offset + torch.randn(n, one.channels, generator=generator) for one, n in sizes}


def totals(tokens):
    return {key: len(values) for key, values in tokens.items()}


def add(moments, generated, real):
    moments.add(generated, real, totals(generated))


def test_moments_of_the_first_batches_are_those_of_all_their_tokens():
    moments = RunningMoments(SETS, 0.97)
    batches = [(batch(2 * i), batch(2 * i + 1, offset=1.0)) for i in range(12)]
    for generated, real in batches:
        add(moments, generated, real)
    for keys in ([SETS[0].key, SETS[1].key], [SETS[2].key]):
        for side, found in enumerate(moments.gaussians(keys)):
            whole = torch.stack([torch.cat([pair[side][key] for pair in batches]) for key in keys]).double()
            torch.testing.assert_close(found.mean, whole.mean(1), rtol=1e-6, atol=1e-6)
            centred = whole - whole.mean(1, keepdim=True)
            torch.testing.assert_close(found.covariance, centred.mT @ centred / whole.shape[1], rtol=1e-4, atol=1e-4)
    assert set(moments.batches.values()) == {12}


def test_old_batches_fade_with_the_decay_and_twins_that_are_equal_never_move():
    moments, key = RunningMoments(SETS[:1], 0.5), SETS[0].key
    for level in (1.0, 2.0, 4.0):
        same = {key: torch.full((8, 5), level)}
        add(moments, same, same)
    generated, real = moments.gaussians([key])
    # A plain average of the first two, then half of the past.
    torch.testing.assert_close(generated.mean, torch.full((1, 5), 2.75, dtype=torch.float64))
    assert torch.equal(generated.covariance, real.covariance)
    assert transport_between(generated, real).field(same[key][None].double()).abs().max() < 1e-9


def test_a_set_without_tokens_waits():
    moments = RunningMoments(SETS, 0.9)
    add(moments, batch(0, (40, 0, 12)), batch(1, (40, 0, 12)))
    assert moments.batches == {SETS[0].key: 1, SETS[1].key: 0, SETS[2].key: 1}
    assert all(value.isfinite().all() for one in moments.state().values() for value in one.values())


def test_moments_continue_bit_for_bit():
    whole, stopped, continued = (RunningMoments(SETS, 0.9) for _ in range(3))
    for i in range(4):
        add(whole, batch(i), batch(i + 10))
        add(stopped, batch(i), batch(i + 10))
    continued.load_state(stopped.state())
    for moments in (whole, continued):
        add(moments, batch(7), batch(8))
    for key, saved in whole.state().items():
        assert all(torch.equal(value, continued.state()[key][name]) for name, value in saved.items())
    with pytest.raises(GdmError, match="saved moments do not fit"):
        RunningMoments(SETS[:1], 0.9).load_state(whole.state())


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"batches": 0}, {"refresh": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(GdmError, match="moment_decay"):
        MomentOptions(**wrong)


def moving(**options):
    return MovingTransport(SETS, MomentOptions(**{"batches": 2, "refresh": 2} | options), torch.device("cpu"))


def seen(transport, *seeds, counts=(40, 40, 12)):
    for seed in seeds:
        generated, real = batch(seed, counts), batch(seed + 100, counts, offset=1.0)
        transport.moments.add(generated, real, totals(generated))


def test_a_set_moves_once_its_moments_have_seen_enough_tokens():
    transport, tokens = moving(refresh=1), batch(9)
    assert transport.empty
    seen(transport, 0, counts=(19, 40, 12))
    transport.renew()
    assert not transport.empty
    assert list(transport.losses(tokens)) == [SETS[1].key]
    seen(transport, 1, 2)
    transport.renew()
    found = transport.losses(tokens)
    assert list(found) == list(tokens)
    for key, value in found.items():
        alone = transport_between(*transport.moments.gaussians([key])).to(torch.device("cpu"))
        torch.testing.assert_close(value, transport_loss(tokens[key][None], alone)[0])
        torch.testing.assert_close(transport.distances()[key], alone.distance[0])


def test_maps_are_renewed_in_turns():
    transport = moving()
    seen(transport, 0, 1, 2)
    transport.renew()
    seen(transport, 3)
    changed = []
    for _ in range(2):
        before = transport.distances()
        transport.renew()
        changed.append([key for key, value in transport.distances().items() if value != before[key]])
    assert changed == [[SETS[1].key], [SETS[0].key, SETS[2].key]]


def test_maps_continue_bit_for_bit(tmp_path):
    whole, stopped, continued = moving(refresh=3), moving(refresh=3), moving(refresh=3)
    for transport in (whole, stopped):
        seen(transport, 0, 1, 2)
        transport.renew()
        seen(transport, 3)
    torch.save(stopped.state(), tmp_path / "state.pt")
    continued.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for transport in (whole, continued):
        transport.renew()
        seen(transport, 4)
    tokens = batch(9)
    expected = whole.losses(tokens)
    assert len(expected) == 3
    assert all(torch.equal(value, expected[key]) for key, value in continued.losses(tokens).items())
    assert not continued.empty


def run_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    moments = RunningMoments(SETS, 0.5)
    for number in range(3):
        pair = (batch(number), batch(number + 10, offset=1.0))
        # Unequal shares, and a set that one process alone has tokens of.
        cuts = {SETS[0].key: 10, SETS[1].key: 0, SETS[2].key: 6}
        parts = ({key: tokens.tensor_split([cuts[key]])[rank] for key, tokens in side.items()} for side in pair)
        moments.add(*parts, totals(pair[0]))
    torch.save(moments.state(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_moments_of_one(tmp_path):
    torch.multiprocessing.spawn(run_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = RunningMoments(SETS, 0.5)
    for number in range(3):
        add(alone, batch(number), batch(number + 10, offset=1.0))
    for key, saved in alone.state().items():
        for name, value in saved.items():
            assert torch.equal(first[key][name], second[key][name])
            torch.testing.assert_close(first[key][name], value, rtol=1e-6, atol=1e-5)
