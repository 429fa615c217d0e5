"""The bank is a ring, draws without replacement, says when it is too small, and resumes exactly."""

import pytest
import torch

from gdmunet.encoders.base import FeatureMap
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel
from gdmunet.training.draws import Draws
from gdmunet.training.drift import bank as feature_bank
from gdmunet.training.drift.bank import FeatureBank, bank_bytes, rank_capacity
from gdmunet.training.drift.token_plan import FAMILIES, plan_tokens
from gdmunet.training.drift.tokens import TokenSet, extract_tokens, token_sets

SETS = (TokenSet("a/spatial", 3, 4), TokenSet("a/global_mean", 3, 1))


def seeded(seed):
    return Draws.seeded(seed, torch.device("cpu"))


def numbered(first: int, patches: int) -> dict[str, torch.Tensor]:
    """Tokens whose values are their running numbers."""
    spatial = torch.arange(first * 4, (first + patches) * 4).float()
    whole = torch.arange(first, first + patches).float()
    return {"a/spatial": spatial[:, None].expand(-1, 3), "a/global_mean": whole[:, None].expand(-1, 3)}


def held(bank: FeatureBank, key: str) -> list[float]:
    return sorted(bank.sample({key: bank.sizes[key]})[key][:, 0].tolist())


def test_the_oldest_make_room():
    bank = FeatureBank(SETS, 3)
    for patch in range(5):
        bank.add(numbered(patch, 1), 1)
        first = max(patch - 2, 0)
        assert held(bank, "a/spatial") == list(range(first * 4, (patch + 1) * 4))
        assert held(bank, "a/global_mean") == list(range(first, patch + 1))
    assert bank.full
    assert bank.sizes == bank.capacities == {"a/spatial": 12, "a/global_mean": 3}


def test_more_at_once_than_there_is_room_keeps_the_last():
    bank = FeatureBank(SETS, 3)
    bank.add(numbered(0, 2), 2)
    bank.add(numbered(2, 7), 7)
    assert held(bank, "a/spatial") == list(range(24, 36))
    assert held(bank, "a/global_mean") == [6, 7, 8]


def test_of_too_many_tokens_every_patch_keeps_its_share():
    bank = FeatureBank(SETS, 8)
    tokens = torch.arange(3).repeat_interleave(100)[:, None].expand(-1, 3).float()
    bank.add({"a/spatial": tokens}, patches=3)
    assert held(bank, "a/spatial") == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert bank.sizes["a/global_mean"] == 0


def test_a_draw_has_no_token_twice_and_reaches_all():
    bank = FeatureBank(SETS, 16)
    bank.add(numbered(0, 16), 16)
    draws = seeded(0)
    seen = set()
    for _ in range(20):
        drawn = bank.sample({"a/spatial": 30}, draws)["a/spatial"]
        assert drawn.shape == (30, 3)
        assert drawn.dtype == torch.float32
        assert len(drawn[:, 0].unique()) == 30
        seen |= set(drawn[:, 0].tolist())
    assert seen == set(range(64))


def test_a_draw_depends_on_its_seed_alone():
    bank = FeatureBank(SETS, 16)
    bank.add(numbered(0, 16), 16)
    first, second, other = (bank.sample(10, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first["a/spatial"], second["a/spatial"])
    assert not torch.equal(first["a/spatial"], other["a/spatial"])


def test_an_empty_or_too_small_bank_is_an_error_not_zeros():
    bank = FeatureBank(SETS, 4)
    with pytest.raises(GdmError, match="too few tokens"):
        bank.sample(1)
    bank.add(numbered(0, 2), 2)
    assert len(bank.sample(2)["a/global_mean"]) == 2
    with pytest.raises(GdmError, match="a/global_mean: 2 of 3"):
        bank.sample(3)
    with pytest.raises(GdmError, match="b/spatial: 0 of 1"):
        bank.sample({"b/spatial": 1})


def test_tokens_are_kept_in_half_precision_and_detached():
    bank = FeatureBank(SETS, 4)
    tokens = torch.randn(4, 3, requires_grad=True)
    bank.add({"a/spatial": tokens}, 1)
    drawn = bank.sample({"a/spatial": 4})["a/spatial"]
    assert not drawn.requires_grad
    ours, theirs = drawn[drawn[:, 0].argsort()], tokens.detach()[tokens[:, 0].argsort()]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert torch.equal(ours, theirs.half().float())


@pytest.mark.parametrize("value", [7e4, float("nan"), float("inf")])
def test_values_that_half_precision_does_not_hold_are_refused(value):
    bank, tokens = FeatureBank(SETS, 4), {"a/global_mean": torch.ones(1, 3), "a/spatial": torch.ones(4, 3)}
    assert bank.add(tokens, 1)
    tokens["a/spatial"][2, 1] = value
    assert not bank.add(tokens, 1)
    with pytest.raises(GdmError, match="a/spatial"):
        bank.refuse(tokens, 1)


def test_tokens_of_another_length_are_refused():
    with pytest.raises(GdmError, match="2 channels"):
        FeatureBank(SETS, 4).add({"a/spatial": torch.ones(4, 2)}, 1)


@pytest.mark.parametrize("before", [2, 5])
def test_resuming_is_exact(before, tmp_path):
    uninterrupted, first = FeatureBank(SETS, 3), FeatureBank(SETS, 3)
    for bank in (uninterrupted, first):
        for patch in range(before):
            bank.add(numbered(patch, 1), 1)
    torch.save(first.state(), tmp_path / "bank.pt")
    resumed = FeatureBank(SETS, 3)
    resumed.load_state(torch.load(tmp_path / "bank.pt", weights_only=True))
    for patch in range(before, before + 4):
        for bank in (uninterrupted, resumed):
            bank.add(numbered(patch, 1), 1)
        ours, theirs = (bank.sample(3, seeded(patch)) for bank in (uninterrupted, resumed))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_saved_state_is_a_copy():
    bank = FeatureBank(SETS, 3)
    bank.add(numbered(0, 3), 3)
    state = bank.state()
    bank.add(numbered(3, 3), 3)
    assert state["a/global_mean"]["tokens"][:, 0].tolist() == [0, 1, 2]


def test_the_state_of_another_bank_is_refused():
    bank = FeatureBank(SETS, 3)
    bank.add(numbered(0, 3), 3)
    for other in (FeatureBank(SETS[:1], 3), FeatureBank(SETS, 2), FeatureBank((*SETS, TokenSet("b", 1, 1)), 3)):
        with pytest.raises(GdmError, match="does not fit"):
            other.load_state(bank.state())


@pytest.mark.parametrize("families", [("spatial",), ("spatial", "local", "global")])
def test_the_predicted_bytes_are_those_of_the_buffers(families):
    levels = [EncoderLevel("a", 16, (2, 2, 2)), EncoderLevel("b", 32, (8, 8, 8))]
    bank = FeatureBank(token_sets(levels, (32, 32, 16), families, 64), 10)
    assert bank.bytes() == bank_bytes(levels, (32, 32, 16), families, 64, 10)
    if families == ("spatial",):
        assert bank.bytes() == 10 * (64 * 16 + 4 * 4 * 2 * 32) * 2


def test_the_bank_takes_what_extraction_gives():
    levels = [EncoderLevel("a", 4, (2, 2, 2))]
    mask = torch.ones(2, 1, 16, 16, 16)
    tokens = extract_tokens(
        [FeatureMap("a", torch.randn(2, 4, 8, 8, 8), (2, 2, 2))], plan_tokens(mask, levels, FAMILIES, 256)
    )
    bank = FeatureBank(token_sets(levels, (16, 16, 16), FAMILIES, tokens_per_patch=32), 2)
    bank.add(tokens, patches=2)
    assert bank.full
    assert set(bank.sample(2)) == set(tokens)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_shares_of_the_ranks_add_up(ranks, monkeypatch):
    monkeypatch.setattr(feature_bank, "world_size", lambda: ranks)
    shares = []
    for number in range(ranks):
        monkeypatch.setattr(feature_bank, "rank", lambda number=number: number)
        shares.append(rank_capacity(64))
    assert sum(shares) == 64
    assert max(shares) - min(shares) <= 1
