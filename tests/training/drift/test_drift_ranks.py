"""Two processes with half of the samples each give the numbers of one with all."""

import pytest
import torch
import torch.distributed as dist

from gdmunet.training.drift.loss import drift_loss

FIELDS = ("official", "sharp", "logkde", "score", "sinkhorn", "mmd")
# Where generated, positives and negatives are cut, halves and unequal parts; with twins, these stay with their own.
CUTS = (((6, 5, 2), False), ((3, 8, 1), False), ((6, 6, 2), True), ((3, 3, 1), True))


def everything():
    generator = torch.Generator().manual_seed(0)
    x, y, n = (torch.randn(2, count, 4, generator=generator) for count in (12, 14, 4))
    return x, y + 0.5, n, torch.rand(2, 4, generator=generator)


def options(field, twins):
    normalisation = "batch" if field == "logkde" else "floored"
    return {"field": field, "temperatures": (0.05, 0.3), "normalisation": normalisation, "mask_twins": twins}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for cut, twins in CUTS:
        x, y, n, w = (
            part.tensor_split([at], dim=1)[rank] for part, at in zip(everything(), (*cut, cut[2]), strict=True)
        )
        x = x.clone().requires_grad_()
        for field in FIELDS:
            for block_elements in (2**20, 60):
                given = options(field, twins) | {"block_elements": block_elements, "across_ranks": True}
                loss, found = drift_loss(x, y, n, w, **given)
                (slope,) = torch.autograd.grad(loss.sum(), x)
                results[cut, twins, field, block_elements] = (
                    loss.detach(), slope, found.direction, found.scale, found.raw_force, found.effective_sample_size
                )  # fmt: skip
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(run_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    x, y, n, w = everything()
    x.requires_grad_()
    for (cut, twins, field, blocks), (loss, slope, direction, *alike) in first.items():
        other_loss, other_slope, other_direction, *other_alike = second[cut, twins, field, blocks]
        expected, whole = drift_loss(x, y, n, w, **options(field, twins))
        (expected_slope,) = torch.autograd.grad(expected.sum(), x)
        close = {"rtol": 1e-4, "atol": 1e-5, "msg": f"{cut}, twins {twins}, {field}, blocks of {blocks}: {{}}".format}
        torch.testing.assert_close((loss + other_loss) / 2, expected.detach(), **close)
        torch.testing.assert_close(torch.cat([slope, other_slope], dim=1) / 2, expected_slope, **close)
        torch.testing.assert_close(torch.cat([direction, other_direction], dim=1), whole.direction, **close)
        for mine, yours, one in zip(
            alike, other_alike, (whole.scale, whole.raw_force, whole.effective_sample_size), strict=True
        ):
            torch.testing.assert_close(mine, yours, **close)
            torch.testing.assert_close(mine, one, **close)


def test_one_process_alone_needs_no_group():
    x, y, n, w = everything()
    loss, found = drift_loss(x, y, n, w, across_ranks=True)
    expected, same = drift_loss(x, y, n, w)
    assert torch.equal(loss, expected)
    assert torch.equal(found.direction, same.direction)
