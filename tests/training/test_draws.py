"""The random numbers of a step are a function of its seed."""

import torch

from gdmunet.training.draws import Draws

CPU = torch.device("cpu")


def some(draws: Draws) -> list[torch.Tensor]:
    return [
        draws.uniform((3, 2), CPU), draws.normal((4,), CPU), draws.permutation(7, CPU), torch.tensor(draws.below(1000)),
    ]  # fmt: skip


def test_a_seed_gives_its_numbers_and_another_others():
    first, second, other = (some(Draws.seeded(seed, CPU)) for seed in (1, 1, 2))
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_on_a_cpu_tensors_and_decisions_are_one_stream():
    """So runs of earlier versions continue with the numbers that they would have had."""
    draws, plain = Draws.seeded(5, CPU), torch.Generator().manual_seed(5)
    for _ in range(2):
        assert draws.below(1000) == int(torch.randint(1000, (), generator=plain))
        assert torch.equal(draws.uniform((3,), CPU), torch.rand(3, generator=plain))


def test_without_seeds_the_global_numbers_are_used():
    torch.manual_seed(3)
    first = some(Draws())
    torch.manual_seed(3)
    for a, b in zip(first, some(Draws()), strict=True):
        assert torch.equal(a, b)
