from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from castbench.cost.draws import DRAWS, drawn_means, estimate, share, shifted
from castbench.stats import student_t_975

EPOCHS_OF_8 = np.array([0, 0, 0, 1, 1, 1, 2, 2])


def _coverage(windows: Sequence[tuple[Sequence[float], Sequence[float]]], truth: float) -> float:
    """Share of pairs of arms whose interval of the difference of means holds the truth."""
    hits = 0
    for number, (a, b) in enumerate(windows):
        drawn = drawn_means({"a": list(a), "b": list(b)}, number, "g")
        found = estimate(drawn["a"] - drawn["b"])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    return hits / len(windows)


@pytest.mark.parametrize("rounds", [5, 8, 16])
def test_the_interval_of_a_paired_difference_holds_the_truth_in_95_of_100_runs(rounds: int) -> None:
    """With independent rounds, whatever drift both arms share, coverage is 95 % up to four standard errors."""
    rng = np.random.default_rng(rounds)
    runs = 600
    drift = 3 + rng.normal(0, 0.5, (runs, rounds))
    pairs = [(2 + d + rng.normal(0, 0.1, rounds), 1 + d + rng.normal(0, 0.1, rounds)) for d in drift]
    margin = 4 * math.sqrt(0.95 * 0.05 / runs)
    assert _coverage(pairs, 1.0) == pytest.approx(0.95, abs=margin)


def test_process_effects_as_large_as_round_noise_lower_coverage_to_what_the_guide_says() -> None:
    """docs/cost.md states 84 % where three processes over eight rounds differ as much as rounds do."""
    rng = np.random.default_rng(1)
    runs = 800
    pairs = []
    for _ in range(runs):
        a = 3 + 0.1 * (rng.normal(size=8) + rng.normal(size=3)[EPOCHS_OF_8])
        b = 2 + 0.1 * (rng.normal(size=8) + rng.normal(size=3)[EPOCHS_OF_8])
        pairs.append((a, b))
    assert _coverage(pairs, 1.0) == pytest.approx(0.84, abs=4 * math.sqrt(0.84 * 0.16 / runs))


def test_draws_are_students_t_around_the_mean() -> None:
    """The interval of one mean is the textbook t interval, up to the spread of 4000 draws."""
    windows = [1.0, 1.2, 0.9, 1.1]
    found = estimate(drawn_means({"a": windows}, 0, "g")["a"])
    half = student_t_975(3) * np.std(windows, ddof=1) / math.sqrt(4)
    assert found.value == pytest.approx(np.mean(windows))
    assert found.half_width == pytest.approx(half, rel=0.07)


def test_what_arms_share_within_rounds_cancels_in_their_difference() -> None:
    """Two arms with the same round-to-round noise differ by a number without any spread."""
    noise = [0.3, -0.1, 0.25, 0.0, -0.2]
    drawn = drawn_means({"a": [2 + x for x in noise], "b": [1 + x for x in noise]}, 0, "g")
    found = estimate(drawn["a"] - drawn["b"])
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(1.0)
    assert estimate(drawn["a"]).half_width > 0.1


def test_one_round_gives_a_value_without_an_interval() -> None:
    """A single round says nothing about its own spread, so no range and no probability is invented."""
    drawn = drawn_means({"a": [1.0, None], "b": [2.0, 2.1]}, 0, "g")
    assert estimate(drawn["a"]).low is None
    assert estimate(drawn["a"] - drawn["b"]).low is None
    assert share(drawn["a"] > 0, drawn["a"]) is None
    assert estimate(drawn["b"]).low is not None


def test_missing_windows_of_one_arm_leave_its_mean_to_the_rounds_it_has() -> None:
    """A round without a valid window neither counts in the mean nor as a deviation of zero from it."""
    drawn = drawn_means({"a": [1.0, 3.0, None, None], "b": [5.0, 5.0, 5.0, 5.0]}, 0, "g")
    assert drawn["a"][0] == 2.0
    assert drawn["b"][0] == 5.0
    assert estimate(drawn["a"]).half_width > 1.0


def test_drawn_times_stay_positive() -> None:
    """With two rounds Student's t reaches below zero, a time does not."""
    assert (drawn_means({"a": [1.0, 3.0]}, 0, "g")["a"] > 0).all()


def test_draws_follow_from_the_seed_and_the_group_alone() -> None:
    """The same seed and group give the same draws; another group gives others."""
    windows = {"a": [1.0, 1.1, 1.2]}
    first, again, other = (drawn_means(windows, 1, name)["a"] for name in ("g", "g", "h"))
    assert (first == again).all()
    assert (first[1:] != other[1:]).all()


def test_an_interpolation_error_widens_the_range_on_both_sides_by_its_size() -> None:
    """A number known exactly, with an error of 5 % either way, gets the range from 1/1.05 to 1.05 of it."""
    exact = np.full(DRAWS + 1, 2.0)
    found = estimate(shifted(exact, -0.05, 0, "a"))
    assert found.value == 2.0
    assert found.low == pytest.approx(2 / 1.05)
    assert found.high == pytest.approx(2.1)


@pytest.mark.parametrize("error", [1.0, -1.0, 3.0])
def test_no_error_is_so_large_that_a_time_becomes_negative(error: float) -> None:
    """An interpolation that was off by all of its size, as on a machine that stalls, leaves times above 0."""
    found = estimate(shifted(np.full(DRAWS + 1, 2.0), error, 0, "a"))
    assert found.low == pytest.approx(2 / (1 + abs(error)))
    assert found.high == pytest.approx(2 * (1 + abs(error)))


def test_interpolation_errors_of_two_arms_do_not_cancel_and_those_of_one_do() -> None:
    """The sign of an error is unknown apart for each arm, and the same for all numbers of one arm."""
    exact = np.full(DRAWS + 1, 2.0)
    a, again, b = (shifted(exact, 0.05, 0, label) for label in ("a", "a", "b"))
    assert estimate(a / again).half_width == 0.0
    assert estimate(a / b).half_width == pytest.approx((1.05**2 - 1.05**-2) / 2)


def test_the_range_always_holds_the_number_itself() -> None:
    """Where a step of the staircase leaves the number outside the percentiles, the range is stretched to it."""
    drawn = np.full(DRAWS + 1, 4.0)
    drawn[0] = 5.0
    assert (estimate(drawn).low, estimate(drawn).high) == (4.0, 5.0)
