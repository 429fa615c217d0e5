"""Tokens against those of a patch's own target."""

import pytest
import torch
import torch.distributed as dist

from gdmunet.training.drift.statistics import paired_losses


def tokens(seed, counts=(30, 8), sizes=(5, 3)):
    generator = torch.Generator().manual_seed(seed)
    shapes = enumerate(zip(counts, sizes, strict=True))
    return {f"set{i}": 10 + torch.randn(*shape, generator=generator) for i, shape in shapes}


def totals(of):
    return {key: len(values) for key, values in of.items()}


def test_it_is_the_mean_difference_in_units_of_the_real_spread():
    generated, real = tokens(0), tokens(1)
    found = paired_losses(generated, real, totals(real))
    for key, y in real.items():
        spread = y.var(0, correction=0).mean().sqrt()
        torch.testing.assert_close(found[key], (generated[key] - y).abs().mean() / spread)


def test_units_do_not_matter_and_equal_tokens_cost_nothing():
    generated, real = tokens(0), tokens(1)
    found = paired_losses(generated, real, totals(real))
    scaled = paired_losses(
        {key: 1e3 * x - 7 for key, x in generated.items()}, {key: 1e3 * y - 7 for key, y in real.items()}, totals(real)
    )
    for key, value in found.items():
        torch.testing.assert_close(scaled[key], value, rtol=1e-4, atol=0)
    assert all(value == 0 for value in paired_losses(real, real, totals(real)).values())


def test_the_gradient_reaches_the_generated_tokens_alone():
    generated, real = tokens(0), tokens(1)
    for side in (generated, real):
        for values in side.values():
            values.requires_grad_()
    torch.stack(list(paired_losses(generated, real, totals(real)).values())).sum().backward()
    assert all(values.grad.abs().min() > 0 for values in generated.values())


def test_a_set_without_tokens_or_without_spread_is_harmless():
    generated, real = tokens(0, (4, 0)), tokens(1, (4, 0))
    assert paired_losses(generated, real, totals(real)).keys() == {"set0"}
    assert paired_losses({}, {}, {}) == {}
    generated = tokens(0, (4,), (5,))
    flat = {"set0": torch.ones(4, 5)}
    assert paired_losses(generated, flat, totals(flat))["set0"].isfinite()


def run_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    whole = tokens(0), tokens(1)
    parts = [{key: values.tensor_split([7])[rank].requires_grad_() for key, values in side.items()} for side in whole]
    losses = paired_losses(*parts, totals(whole[0]))
    torch.stack(list(losses.values())).sum().backward()
    slopes = {key: values.grad for key, values in parts[0].items()}
    torch.save(({key: value.detach() for key, value in losses.items()}, slopes), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(run_rank, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    generated, real = tokens(0), tokens(1)
    for values in generated.values():
        values.requires_grad_()
    losses = paired_losses(generated, real, totals(real))
    torch.stack(list(losses.values())).sum().backward()
    for key, value in losses.items():
        torch.testing.assert_close((ranks[0][0][key] + ranks[1][0][key]) / 2, value.detach())
        torch.testing.assert_close(torch.cat([ranks[0][1][key], ranks[1][1][key]]) / 2, generated[key].grad)
