"""Tokens lie in the body, are drawn without replacement, and equal slow loops."""

import itertools

import pytest
import torch

from gdmunet.encoders.base import FeatureMap
from gdmunet.encoders.fine import window_statistics
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.training.draws import Draws
from gdmunet.training.drift.token_plan import FAMILIES, plan_tokens
from gdmunet.training.drift.tokens import by_location, extract_tokens, token_sets


def seeded(seed):
    return Draws.seeded(seed, torch.device("cpu"))


def levels_of(dimensions: int, strides=(2, 4)) -> list[EncoderLevel]:
    return [EncoderLevel(f"s{s}", 3 + s, (s,) * dimensions) for s in strides]


def maps_of(mask: torch.Tensor, levels, seed: int = 0) -> list[FeatureMap]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for level in levels:
        shape = [-(-n // s) for n, s in zip(mask.shape[2:], level.stride, strict=True)]
        found.append(
            FeatureMap(
                level.name, torch.randn(len(mask), level.channels, *shape, generator=generator) + 5, level.stride
            )
        )
    return found


def random_mask(*shape: int, seed: int = 0, share: float = 0.6) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share).float()


def numbered(mask: torch.Tensor, level: EncoderLevel) -> FeatureMap:
    """A map whose only channel is the number of the cell in the whole batch."""
    shape = [-(-n // s) for n, s in zip(mask.shape[2:], level.stride, strict=True)]
    cells = torch.arange(len(mask) * torch.Size(shape).numel(), dtype=torch.float32)
    return FeatureMap(level.name, cells.view(len(mask), 1, *shape), level.stride)


def body_cells(mask: torch.Tensor, level: EncoderLevel) -> list[list[tuple[int, ...]]]:
    """Slow loop: cells of each patch that are at least half body; voxels beyond the patch are none."""
    shape = [-(-n // s) for n, s in zip(mask.shape[2:], level.stride, strict=True)]
    volume = torch.Size(level.stride).numel()
    found = []
    for patch in mask[:, 0]:
        cells = []
        for cell in itertools.product(*map(range, shape)):
            block = patch[tuple(slice(i * s, (i + 1) * s) for i, s in zip(cell, level.stride, strict=True))]
            if block.sum() >= volume / 2:
                cells.append(cell)
        found.append(cells)
    return found


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("size", [8, 9])
def test_spatial_tokens_are_all_body_cells_where_there_are_few(dimensions, size):
    level = levels_of(dimensions)[0]
    mask = random_mask(2, 1, *(size,) * dimensions)
    plan = plan_tokens(mask, [level], ("spatial",), 10_000)
    values = maps_of(mask, [level])[0]
    expected = {
        tuple(values.values[(number, slice(None), *cell)].tolist())
        for number, cells in enumerate(body_cells(mask, level))
        for cell in cells
    }
    found = extract_tokens([values], plan)["s2/spatial"]
    assert len(found) == len(expected) > 0
    assert {tuple(token.tolist()) for token in found} == expected


def test_spatial_tokens_are_drawn_without_replacement_and_as_many_as_asked():
    level = levels_of(3)[0]
    mask = torch.ones(3, 1, 12, 12, 12)
    tokens = extract_tokens([numbered(mask, level)], plan_tokens(mask, [level], ("spatial",), 50))["s2/spatial"]
    assert tokens.shape == (150, 1)
    assert len(tokens.unique()) == 150
    assert torch.equal(tokens.view(3, 50).div(216, rounding_mode="floor").unique(dim=1)[:, 0], torch.arange(3.0))


def test_all_body_cells_are_equally_likely():
    level = levels_of(3)[0]
    mask = torch.ones(1, 1, 6, 6, 6)
    draws = seeded(0)
    counts = torch.zeros(27)
    for _ in range(1000):
        tokens = extract_tokens([numbered(mask, level)], plan_tokens(mask, [level], ("spatial",), 9, draws))
        counts[tokens["s2/spatial"].long().flatten()] += 1
    assert counts.sum() == 9000
    assert (counts - 333.3).abs().max() < 75  # five standard deviations


def test_patches_with_less_body_give_fewer_tokens_and_empty_ones_none():
    level = levels_of(3)[0]
    mask = torch.zeros(3, 1, 8, 8, 8)
    mask[0] = 1
    mask[2, :, :2, :2, :4] = 1  # two cells
    for key, tokens in extract_tokens(maps_of(mask, [level]), plan_tokens(mask, [level], FAMILIES, 16)).items():
        assert len(tokens) == {"spatial": 18, "global_mean": 2, "global_std": 2}.get(key[3:], len(tokens))
        assert tokens.isfinite().all()
    empty = plan_tokens(torch.zeros_like(mask), [level], FAMILIES, 256)
    assert {len(tokens) for tokens in extract_tokens(maps_of(mask, [level]), empty).values()} == {0}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("window", [2, 4])
def test_local_tokens_equal_a_slow_loop(dimensions, window):
    level = levels_of(dimensions)[0]
    mask = random_mask(2, 1, *(8 * 2,) * dimensions, seed=1, share=0.5)
    values = maps_of(mask, [level])[0]
    shares = torch.nn.functional.adaptive_avg_pool3d if dimensions == 3 else torch.nn.functional.adaptive_avg_pool2d
    expected_mean, expected_std = [], []
    body = shares(mask, (8 // window,) * dimensions)
    for patch in range(2):
        for place in itertools.product(range(8 // window), repeat=dimensions):
            if body[(patch, 0, *place)] < 0.5:
                continue
            crop = tuple(slice(i * window, (i + 1) * window) for i in place)
            cells = values.values[(patch, slice(None), *crop)].flatten(1).double()
            expected_mean.append(cells.mean(1))
            expected_std.append((cells.var(1, correction=0) + 1e-6).sqrt())
    tokens = extract_tokens([values], plan_tokens(mask, [level], ("local",), 10_000))
    found = torch.cat([tokens[f"s2/local{window}_{part}"] for part in ("mean", "std")], dim=1)
    expected = torch.cat([torch.stack(expected_mean), torch.stack(expected_std)], dim=1).float()
    assert found.shape == expected.shape
    assert len(found) > 1
    torch.testing.assert_close(found[found[:, 0].argsort()], expected[expected[:, 0].argsort()])


def test_local_windows_need_room_and_start_anywhere():
    levels = [EncoderLevel("few", 2, (4, 4, 4)), EncoderLevel("flat", 2, (16, 4, 4))]
    mask = torch.ones(1, 1, 12, 12, 12)  # 3 cells an edge: no room for 4; the flat map has one layer
    seen = set()
    draws = seeded(0)
    for _ in range(40):
        plan = plan_tokens(mask, levels, ("local",), 256, draws)
        assert [picks.window for picks in plan.levels["few"].local] == [2]
        assert plan.levels["flat"].local == ()
        seen |= set(plan.levels["few"].local[0].cells.flatten().tolist())
    assert seen == set(range(27))


def test_global_tokens_are_moments_of_the_body():
    level = levels_of(3)[1]
    mask = random_mask(2, 1, 12, 12, 12, seed=3, share=0.52)
    values = maps_of(mask, [level])[0]
    tokens = extract_tokens([values], plan_tokens(mask, [level], ("global",), 256))
    for patch, cells in enumerate(body_cells(mask, level)):
        inside = torch.stack([values.values[(patch, slice(None), *cell)] for cell in cells]).double()
        assert 1 < len(cells) < 27
        torch.testing.assert_close(tokens["s4/global_mean"][patch], inside.mean(0).float())
        std = (inside.var(0, correction=0) + 1e-6).sqrt().float()
        torch.testing.assert_close(tokens["s4/global_std"][patch], std)


def test_standard_deviation_is_floored_and_exact_far_from_zero():
    level = EncoderLevel("a", 1, (1, 1, 1))
    mask = torch.ones(1, 1, 4, 4, 4)
    flat = FeatureMap("a", torch.full((1, 1, 4, 4, 4), 1000.0), level.stride)
    bumpy = FeatureMap("a", flat.values + torch.tensor([-0.5, 0.5]).repeat(32).view_as(flat.values), level.stride)
    plan = plan_tokens(mask, [level], FAMILIES, 256)
    for key, tokens in extract_tokens([flat], plan).items():
        if key.endswith("std"):
            torch.testing.assert_close(tokens, torch.full_like(tokens, 1e-3))
    for key, tokens in extract_tokens([bumpy], plan).items():
        if key.endswith("std"):
            torch.testing.assert_close(tokens, torch.full_like(tokens, 0.5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradients_are_right_through_every_family(dimensions):
    torch.manual_seed(0)
    level = EncoderLevel("a", 2, (2,) * dimensions)
    mask = random_mask(2, 1, *(8,) * dimensions, seed=4, share=0.7)
    plan = plan_tokens(mask, [level], FAMILIES, 3)
    values = maps_of(mask, [level])[0].values
    weights = {key: torch.randn_like(tokens) for key, tokens in extract_tokens(maps_of(mask, [level]), plan).items()}

    def score(x):
        tokens = extract_tokens([FeatureMap("a", x, level.stride)], plan)
        return sum((tokens[key] * weight).sum() for key, weight in weights.items())

    x = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(x), x)
    direction = torch.randn_like(values)
    step = 1e-2
    numeric = (score(values + step * direction) - score(values - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=2e-3, atol=2e-3)


def test_a_flat_map_gives_finite_gradients():
    level = EncoderLevel("a", 2, (1, 1, 1))
    x = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    tokens = extract_tokens(
        [FeatureMap("a", x, level.stride)], plan_tokens(torch.ones(1, 1, 4, 4, 4), [level], FAMILIES, 256)
    )
    sum(token.sum() for token in tokens.values()).backward()
    assert x.grad.isfinite().all()


def test_the_draws_decide_the_places():
    level = levels_of(3)[0]
    mask = torch.ones(1, 1, 16, 16, 16)
    first, second, other = (
        extract_tokens(maps_of(mask, [level]), plan_tokens(mask, [level], FAMILIES, 8, seeded(s))) for s in (1, 1, 2)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["s2/spatial"], other["s2/spatial"])


def test_generated_and_target_tokens_lie_at_the_same_places():
    levels = levels_of(3)
    mask = random_mask(2, 1, 16, 16, 16, share=0.7)
    target, generated = maps_of(mask, levels), maps_of(mask, levels)
    generated = [FeatureMap(one.level, one.values + 1, one.stride) for one in generated]
    plan = plan_tokens(mask, levels, FAMILIES, tokens_per_patch=8)
    ours, theirs = extract_tokens(generated, plan), extract_tokens(target, plan)
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key] + (0 if key.endswith("std") else 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_token_sets_are_what_a_patch_full_of_body_gives(dimensions):
    levels = levels_of(dimensions, (1, 2, 4))
    patch = (13, 9, 8)[:dimensions]
    mask = torch.ones(1, 1, *patch)
    tokens = extract_tokens(maps_of(mask, levels), plan_tokens(mask, levels, FAMILIES, tokens_per_patch=20))
    sets = {one.key: one for one in token_sets(levels, patch, FAMILIES, tokens_per_patch=20)}
    assert set(sets) == set(tokens)
    for key, found in tokens.items():
        assert found.dtype == torch.float32
        assert found.shape[1] == sets[key].channels
        assert len(found) <= sets[key].per_patch  # cells at the far border lie partly beyond the patch
    assert len(tokens["s2/spatial"]) == sets["s2/spatial"].per_patch == 20


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_level_at_stride_1_is_read_by_windows_of_4_and_8_voxels_alone(dimensions):
    fine = levels_of(dimensions, (1,))
    mask = torch.ones(2, 1, *(16,) * dimensions)
    maps = maps_of(mask, fine)
    tokens = extract_tokens(maps, plan_tokens(mask, fine, FAMILIES, tokens_per_patch=1000))
    assert set(tokens) == {f"s1/local{window}_{part}" for window in (4, 8) for part in ("mean", "std")}
    for window in (4, 8):
        mean, std = window_statistics(maps[0].values, window)
        for part, values in (("mean", mean), ("std", std)):
            wanted = values.flatten(2).transpose(1, 2).flatten(0, 1)
            found = tokens[f"s1/local{window}_{part}"]
            torch.testing.assert_close(found.sort(0).values, wanted.sort(0).values, rtol=1e-4, atol=1e-4)


def test_a_level_at_stride_1_gives_what_is_asked_for_where_no_windows_are():
    fine = levels_of(3, (1,))
    assert [one.key for one in token_sets(fine, (16, 16, 16), ("spatial",), 8)] == ["s1/spatial"]


def test_half_precision_maps_give_float32_moments():
    level = EncoderLevel("a", 1, (2, 2, 2))
    values = torch.full((1, 1, 4, 4, 4), 300.0, dtype=torch.float16)  # its square is not a half-precision number
    values[..., ::2] = -300
    tokens = extract_tokens(
        [FeatureMap("a", values, level.stride)], plan_tokens(torch.ones(1, 1, 8, 8, 8), [level], FAMILIES, 256)
    )
    torch.testing.assert_close(tokens["a/global_std"], torch.tensor([[300.0]]))


def test_aligned_places_are_those_that_all_patches_have():
    levels = levels_of(3)
    mask = random_mask(3, 1, 16, 16, 16, seed=5, share=0.55)
    plan = plan_tokens(mask, levels, FAMILIES, tokens_per_patch=8, aligned=True)
    cells = plan.levels["s2"].spatial.cells
    assert torch.equal(cells[0], cells[1])
    assert torch.equal(cells[0], cells[2])
    common = set.intersection(*(set(found) for found in body_cells(mask, levels[0])))
    tokens = extract_tokens(maps_of(mask, levels), plan)
    assert len(tokens["s2/spatial"]) == 3 * min(8, len(common))
    problems = by_location(tokens["s2/spatial"], 3)
    assert problems.shape[1] == 3
    values = maps_of(mask, levels)[0].values.flatten(2)
    torch.testing.assert_close(problems[0], values[:, :, cells[0, 0, 0]])
    assert by_location(tokens["s2/spatial"][:0], 3).shape[:2] == (0, 3)


def test_aligned_patches_without_a_common_place_give_no_tokens():
    mask = torch.ones(2, 1, 8, 8, 8)
    mask[1] = 0
    levels = levels_of(3)[:1]
    tokens = extract_tokens(maps_of(mask, levels), plan_tokens(mask, levels, FAMILIES, 256, aligned=True))
    assert {len(found) for found in tokens.values()} == {0}


def test_families_and_levels_can_be_chosen():
    levels = levels_of(3)
    mask = torch.ones(1, 1, 16, 16, 16)
    assert set(extract_tokens(maps_of(mask, levels), plan_tokens(mask, levels[1:], ("spatial",), 256))) == {
        "s4/spatial"
    }
    for wrong in ((), ("spacial",), "spatial"):
        with pytest.raises(GdmError, match="families"):
            plan_tokens(mask, levels, wrong, 256)


def test_maps_of_another_shape_are_refused():
    levels = levels_of(3)[:1]
    mask = torch.ones(1, 1, 16, 16, 16)
    plan = plan_tokens(mask, levels, FAMILIES, 256)
    for wrong in (torch.ones(1, 1, 8, 8, 8), torch.ones(2, 1, 16, 16, 16)):
        with pytest.raises(GdmError, match="s2"):
            extract_tokens(maps_of(wrong, levels), plan)
    with pytest.raises(GdmError, match="s2"):
        extract_tokens([], plan)
