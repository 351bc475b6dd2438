from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.outlook_nouns import Factor, Moved
from castbench.cost.sensitivity import flip
from castbench.records import RunRecord
from castbench.workload.spec import LengthDistribution
from tests.cost.ahead import ahead, outlook_of
from tests.cost.builder import DEMAND, run_of, times


def factors(record: RunRecord | None = None, **kwargs: object) -> dict[Moved, Factor]:
    """The factors of the small contest, or of another run, by what moves."""
    return {factor.moved: factor for factor in outlook_of(ahead(record, **kwargs)).sensitivity}  # type: ignore[arg-type]


def servers(rate: float, seconds: float, utilization: float = 0.7) -> int:
    """Whole servers, by the formula of the guide."""
    return math.ceil(rate * seconds / utilization)


def test_price_rate_and_utilisation_by_hand() -> None:
    """±20 % of the price, ±25 % of the rate and ±10 points of utilisation, each in whole servers of 2 USD."""
    found = factors()
    price = found[Moved.PRICE]
    assert (price.lower, price.upper) == (1.6, 2.4)
    assert (price.at_lower, price.now, price.at_upper) == pytest.approx((4.8, 6, 7.2))
    rate = found[Moved.RATE]
    assert (rate.lower, rate.upper) == (75, 125)
    expected = [2 * (servers(r, 0.045) - servers(r, 0.022)) for r in (75, 100, 125)]
    assert [rate.at_lower, rate.now, rate.at_upper] == expected
    busy = found[Moved.UTILIZATION]
    assert (busy.lower, busy.upper) == pytest.approx((0.6, 0.8))
    expected = [2 * (servers(100, 0.045, u) - servers(100, 0.022, u)) for u in (0.6, 0.8)]
    assert [busy.at_lower, busy.at_upper] == expected


def test_utilisation_stays_within_what_there_is() -> None:
    """10 points more than 95 % busy is 100 %, and 10 less than 5 % is still above 0."""
    assert factors(demand=replace(DEMAND, max_utilization=0.95))[Moved.UTILIZATION].upper == 1.0
    assert factors(demand=replace(DEMAND, max_utilization=0.05))[Moved.UTILIZATION].lower > 0


def test_the_subjects_time_moves_over_its_range_and_flips_where_it_needs_as_many_servers() -> None:
    """The range is that of the speed-up; 7 servers are needed from 42 ms a request on, 0.933 of the baseline's."""
    times_ = factors(run_of(times({"sdpa": 0.045, "cast-32": 0.022}), noise=0.05))[Moved.TIMES]
    speedup = ahead(run_of(times({"sdpa": 0.045, "cast-32": 0.022}), noise=0.05)).arm("cast-32").speedup
    assert speedup is not None
    assert speedup.high is not None
    assert speedup.low is not None
    assert (times_.lower, times_.base, times_.upper) == pytest.approx(
        (1 / speedup.high, 1 / speedup.value, 1 / speedup.low)
    )
    assert factors()[Moved.TIMES].flips_at == pytest.approx(0.042 / 0.045, rel=1e-6)


def test_the_rate_at_which_nothing_is_saved_any_more() -> None:
    """Going down, both first need as many servers where sdpa fits on what cast-32 needs; bisected to the edge."""
    at = factors()[Moved.RATE].flips_at
    assert at is not None
    above, below = at * (1 + 1e-6), at * (1 - 1e-6)
    saves = [servers(rate, 0.045) - servers(rate, 0.022) for rate in (above, below)]
    assert sorted(saves) == [0, 1]


def test_the_price_cannot_turn_a_saving_into_a_loss() -> None:
    """It scales both bills alike, so it has no flip and nothing is searched."""
    price = factors()[Moved.PRICE]
    assert (price.flips_at, price.searched) == (None, None)


def test_longer_requests_are_covered_only_where_they_were_measured() -> None:
    """A grid that ends at the longest request covers shorter mixes; one that reaches on covers longer ones too."""
    per_token = lambda label, batch, length, how: batch * length * {"sdpa": 2e-5, "cast-32": 1e-5}[label]  # noqa: E731
    mix = LengthDistribution((512, 2048), (0.5, 0.5), False, "quantiles")
    ends = factors(run_of(per_token, mix=mix))[Moved.LENGTHS]
    assert (ends.at_upper, ends.searched) == (None, (0.25, 1.0))
    reaches = factors(run_of(per_token, mix=mix, lengths=(128, 512, 2048, 4096)))[Moved.LENGTHS]
    expected = [2 * (servers(100, f * 1280 * 2e-5) - servers(100, f * 1280 * 1e-5)) for f in (0.75, 1.25)]
    assert [reaches.at_lower, reaches.at_upper] == pytest.approx(expected)
    assert reaches.searched == (0.25, 2.0)


def test_the_share_of_attention_moves_the_rest_of_a_request() -> None:
    """At a share a of 45 ms of modules today the rest is 45 · (1 − a)/a; both requests have it."""
    run = run_of(times({"sdpa": 0.045, "cast-32": 0.022}), scope="attention")
    found = factors(run, attention_share=0.5)[Moved.ATTENTION]
    assert (found.lower, found.base, found.upper) == pytest.approx((0.4, 0.5, 0.6))
    rest = [0.045 * (1 - a) / a for a in (0.4, 0.5, 0.6)]
    expected = [2 * (servers(100, 0.045 + r) - servers(100, 0.022 + r)) for r in rest]
    assert [found.at_lower, found.now, found.at_upper] == pytest.approx(expected)
    assert Moved.ATTENTION not in factors()


def test_the_strongest_comes_first_and_without_money_there_is_none() -> None:
    """Sorted by how far the saving moves; without a price or a demand nothing can be said."""
    spans = [factor.high - factor.low for factor in outlook_of(ahead()).sensitivity]
    assert spans == sorted(spans, reverse=True)
    assert outlook_of(ahead(price=None)).sensitivity == ()
    assert outlook_of(ahead(demand=None)).sensitivity == ()


@given(edge=st.floats(0.2, 5), rises=st.booleans())
def test_a_flip_is_found_wherever_it_lies(edge: float, rises: bool) -> None:
    """Of a saving that changes its sign once within the range, the bisection finds the place."""
    found = flip(lambda value: 1.0 if (value >= edge) == rises else -1.0, 1.0, (0.1, 10.0))
    assert found == pytest.approx(edge, rel=1e-6)


def test_of_two_flips_the_nearest_is_told_and_what_is_not_covered_ends_the_search() -> None:
    """A saving between 0.5 and 3 flips at 0.5, since 1 is nearer to it; where nothing was measured nothing is found."""
    assert flip(lambda value: 1.0 if 0.5 < value < 3 else 0.0, 1.0, (0.1, 10.0)) == pytest.approx(0.5, rel=1e-6)
    assert flip(lambda value: 1.0 if value < 1.5 else None, 1.0, (0.1, 10.0)) is None
