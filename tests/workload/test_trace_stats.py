from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.workload.lengths import from_quantiles
from castbench.workload.trace_stats import BASE_PERCENTS, MOST_PERCENTS, lengths, traffic

GAPS = st.lists(st.floats(0, 200, allow_subnormal=False), min_size=1, max_size=80).filter(lambda gaps: sum(gaps) > 1e-3)

MANY = 20_000


def times(gaps: list[float]) -> np.ndarray:
    """Arrivals at these gaps, the first at 0."""
    return np.concatenate(([0.0], np.cumsum(gaps)))


def test_a_clock_has_no_bursts() -> None:
    """Arrivals every half second: 2 per second, squared coefficient of variation 0, every window like the mean."""
    found = traffic(np.arange(1201) / 2.0)
    assert found.requests_per_second == 2
    assert found.squared_cv == pytest.approx(0, abs=1e-12)
    assert found.busiest_second is not None
    assert (found.busiest_second.requests, found.busiest_second.over_mean) == (2, 1)
    assert found.busiest_minute is not None
    assert (found.busiest_minute.requests, found.busiest_minute.over_mean) == (120, 1)
    assert (found.longest_gap_s, found.same_time, found.idle_seconds, found.smallest_step_s) == (0.5, 0, 0, 0.5)


def test_random_arrivals_have_a_squared_cv_of_one() -> None:
    """Of 200,000 exponential gaps (more than one chunk's worth is not needed) it is 1 within five standard errors."""
    rng = np.random.default_rng(0)
    found = traffic(times(list(rng.exponential(0.1, 200_000))))
    assert found.squared_cv == pytest.approx(1, abs=5 * math.sqrt(8 / 200_000))


def test_figures_worked_out_by_hand() -> None:
    """Six requests at 0, 0, 0.5, 10, 70 and 70.25 s."""
    found = traffic(np.array([0.0, 0.0, 0.5, 10.0, 70.0, 70.25]))
    gaps = [0.0, 0.5, 9.5, 60.0, 0.25]
    mean = 70.25 / 5
    assert found.requests_per_second == pytest.approx(5 / 70.25)
    assert found.squared_cv == pytest.approx(sum((gap - mean) ** 2 for gap in gaps) / 5 / mean**2)
    assert found.busiest_second is not None
    assert found.busiest_second.requests == 3
    assert found.busiest_second.over_mean == pytest.approx(3 * mean)
    assert found.busiest_minute is not None
    assert found.busiest_minute.requests == 4
    assert found.busiest_minute.over_mean == pytest.approx(4 * mean / 60)
    assert (found.longest_gap_s, found.longest_gap_at_s) == (60, 10)
    assert found.idle_seconds == pytest.approx(1 - 3 / 71)
    assert (found.same_time, found.smallest_step_s) == (1, 0.25)


@given(GAPS, st.floats(0.01, 100))
def test_burstiness_does_not_depend_on_the_unit_of_time(gaps: list[float], scale: float) -> None:
    """Scaling all times leaves the squared coefficient of variation as it is, and divides the rate."""
    one, other = traffic(times(gaps)), traffic(times(gaps) * scale)
    assert other.squared_cv == pytest.approx(one.squared_cv, rel=1e-6, abs=1e-9)
    assert other.requests_per_second == pytest.approx(one.requests_per_second / scale)


@given(GAPS)
def test_the_gaps_are_those_of_the_times(gaps: list[float]) -> None:
    """Longest gap, equal stamps and the smallest step are what a plain loop finds."""
    arrivals = times(gaps)
    seen = [b - a for a, b in pairwise(arrivals)]
    found = traffic(arrivals)
    assert found.longest_gap_s == max(seen)
    assert found.same_time == seen.count(0)
    assert found.smallest_step_s == min(gap for gap in seen if gap > 0)
    assert 0 <= found.idle_seconds < 1


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked through in chunks of 7, every figure is the same as in one."""
    rng = np.random.default_rng(1)
    arrivals, tokens = times(list(rng.exponential(1.0, 500))), rng.integers(1, 9000, 501).astype(np.int32)
    whole = traffic(arrivals), lengths(tokens)
    monkeypatch.setattr("castbench.workload.trace_stats._CHUNK", 7)
    assert traffic(arrivals).squared_cv == pytest.approx(whole[0].squared_cv, rel=1e-12)
    assert traffic(arrivals).longest_gap_at_s == whole[0].longest_gap_at_s
    assert lengths(tokens) == whole[1]


@pytest.mark.parametrize("seed", range(8))
def test_straight_lines_keep_the_mean(seed: int) -> None:
    """Of 20,000 lengths of many shapes, the straight lines and the mix made of them have the mean within 0.5 %."""
    rng = np.random.default_rng(seed)
    shapes = (
        lambda: rng.lognormal(7, 1.5, MANY), lambda: rng.pareto(2.5, MANY) * 100 + 50, lambda: rng.uniform(1, 9, MANY),
        lambda: np.where(rng.random(MANY) < 0.1, 8000, rng.integers(1, 50, MANY)), lambda: np.full(1000, 512),
        lambda: rng.normal(4000, 30, MANY), lambda: rng.gamma(0.3, 3000, MANY) + 1, lambda: rng.zipf(1.6, MANY) % 9999,
    )  # fmt: skip
    tokens = np.maximum(1, shapes[seed]()).astype(np.int32)
    found = lengths(tokens)
    mix = from_quantiles((percent / 100, value) for percent, value in found.quantiles)
    assert found.mean_of_lines == pytest.approx(found.mean_tokens, rel=0.005, abs=0.5)
    assert mix.mean_tokens == pytest.approx(float(tokens.mean()), rel=0.005, abs=0.5)
    assert (mix.tokens[0] >= tokens.min(), mix.tokens[-1]) == (True, tokens.max())


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=200))
def test_quantiles_are_a_profile_s(values: list[int]) -> None:
    """From p0 to p100, ascending in both, at most 40 and with at most four decimals: what a profile takes."""
    found = lengths(np.array(values, dtype=np.int32))
    percents, tokens = zip(*found.quantiles, strict=True)
    assert set(BASE_PERCENTS) <= set(percents)
    assert list(percents) == sorted(set(percents))
    assert list(tokens) == sorted(tokens)
    assert (tokens[0], tokens[-1]) == (min(values), max(values))
    assert len(percents) <= MOST_PERCENTS
    assert all(round(percent, 4) == percent for percent in percents)
    assert found.at(50) == tokens[percents.index(50)]
