from gdmunet.seeds import step_seed


def test_seeds_are_those_that_earlier_runs_drew_with():
    """A run that continues must repeat the draws of the version that began it."""
    assert step_seed(12345, 678) == 12345 * 1_000_003 + 678
    assert step_seed(12345, 678, 5) == (12345 * 1_000_003 + 678) * 64 + 5
    assert step_seed(2**62, 0, 1) == (2**62 * 1_000_003 * 64 + 1) % 2**63


def test_steps_and_places_have_seeds_of_their_own():
    drawn = [step_seed(seed, step, place) for seed in (0, 1) for step in (0, 1, 249) for place in range(64)]
    assert len(set(drawn)) == len(drawn)
