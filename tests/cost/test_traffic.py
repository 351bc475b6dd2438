from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.traffic import Traffic, poisson_traffic
from castbench.errors import InputError
from castbench.workload.spec import LengthDistribution
from tests.cost.queues import traffics

MIX = LengthDistribution((128, 512), (0.25, 0.75), True, "test")


@pytest.mark.parametrize(
    ("times", "tokens", "words"),
    [
        ([0.0, math.nan], [1, 1], "request 2: its arrival is not a number"),
        ([0.0, math.inf], [1, 1], "request 2: its arrival is not a number"),
        ([0.0, 2.0, 1.0], [1, 1, 1], "request 3: it arrives before"),
        ([0.0], [0], "request 1: its length is not a positive whole number"),
        ([0.0], [1.5], "request 1: its length is not a positive whole number"),
        ([0.0], [math.nan], "request 1: its length is not a positive whole number"),
        ([0.0, 1.0], [1], "2 arrivals and 1 lengths"),
    ],
)
def test_what_is_no_traffic_is_refused_by_its_first_wrong_request(
    times: list[float], tokens: list[float], words: str
) -> None:
    """Times going backwards, NaN, and lengths that are none are named with their place."""
    with pytest.raises(InputError, match=words):
        Traffic.of(times, tokens)


def test_a_rate_is_gaps_over_the_span() -> None:
    """Five requests a second apart are one per second; one request, or all at one moment, have no rate."""
    assert Traffic.of(np.arange(5.0), [1] * 5).rate_per_s == 1.0
    assert Traffic.of([3.0], [1]).rate_per_s is None
    assert Traffic.of([3.0, 3.0], [1, 1]).rate_per_s is None
    assert Traffic.of([], []).rate_per_s is None


@given(traffics(), st.integers(0, 9))
def test_spreading_moves_every_request_within_its_step_and_loses_none(traffic: Traffic, seed: int) -> None:
    """Whole steps are told apart again; order and lengths stay those of the requests."""
    steps = Traffic.of(np.floor(traffic.arrival_s), traffic.tokens)
    found = steps.spread(1.0, seed)
    Traffic.of(found.arrival_s, found.tokens)
    before, after = (
        sorted(zip(np.floor(t.arrival_s), t.tokens, strict=True)) for t in (steps, found)
    )  # fmt: skip
    assert before == after
    assert found.arrival_s.tolist() == steps.spread(1.0, seed).arrival_s.tolist()


@given(traffics(), st.floats(0.5, 100.0), st.integers(0, 50))
def test_resampling_keeps_blocks_whole(traffic: Traffic, block_s: float, seed: int) -> None:
    """A resample is sound traffic made of the trace's own blocks: same gaps within them, and as many blocks."""
    again = traffic.resampled(block_s, seed)
    Traffic.of(again.arrival_s, again.tokens)
    edges = traffic.edges_s(block_s)
    assert again.span_s <= (edges.size - 1) * block_s
    blocks = {tuple(traffic.between(a, b).tokens) for a, b in pairwise(edges)}
    rest = tuple(again.tokens)
    assert _is_made_of(rest, blocks - {()})


def _is_made_of(tokens: tuple[int, ...], blocks: set[tuple[int, ...]]) -> bool:
    """Whether the tokens are blocks one behind the other."""
    reached = {0}
    for end in range(1, len(tokens) + 1):
        if any(end - len(b) in reached and tokens[end - len(b) : end] == b for b in blocks):
            reached.add(end)
    return len(tokens) in reached


def test_resampling_follows_from_the_seed() -> None:
    """The same seed gives the same blocks, another seed others; the number of requests varies with the blocks."""
    traffic = Traffic.of(np.arange(100.0) ** 1.5, np.arange(1, 101))
    first, again, other = (traffic.resampled(100.0, seed).tokens.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_short_last_block_takes_only_its_own_time() -> None:
    """Of a block of 300 s and one of 5 s there are four resamples, each block beginning where the one before ends."""
    traffic = Traffic.of([0.0, 299.0, 305.0], [1, 2, 3])
    found = {tuple(traffic.resampled(300.0, seed).arrival_s.round(3).tolist()) for seed in range(40)}
    assert found == {(0.0, 299.0, 300.0, 599.0), (0.0, 299.0, 305.0), (5.0, 5.0, 304.0), (5.0, 10.0)}


def test_a_block_as_long_as_the_trace_resamples_to_the_trace() -> None:
    """One block leaves nothing to draw."""
    traffic = Traffic.of([1.0, 2.0, 4.0], [1, 2, 3])
    again = traffic.resampled(300.0, 0)
    assert (again.arrival_s - again.arrival_s[0]).tolist() == [0.0, 1.0, 3.0]


def test_poisson_traffic_has_the_rate_the_mix_and_no_memory() -> None:
    """Mean rate, shares of lengths and the squared variation of gaps are those asked for, to four standard errors."""
    traffic = poisson_traffic(5.0, 10_000.0, MIX, seed=1)
    assert traffic.requests == pytest.approx(50_000, abs=4 * math.sqrt(50_000))
    assert (traffic.tokens == 512).mean() == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 50_000))
    gaps = np.diff(traffic.arrival_s)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(1.0, abs=0.05)
    assert poisson_traffic(5.0, 10_000.0, MIX, seed=1).arrival_s.tolist() == traffic.arrival_s.tolist()


def test_an_hourly_profile_shapes_the_day() -> None:
    """Hours of weight 0 are empty and others have their share."""
    traffic = poisson_traffic(1.0, 4 * 3600.0, MIX, seed=2, hourly=(0.0, 2.0, 0.0, 2.0))
    hours = np.bincount((traffic.arrival_s // 3600).astype(int), minlength=4)
    assert hours[[0, 2]].tolist() == [0, 0]
    assert hours[1] == pytest.approx(7200, abs=4 * math.sqrt(7200))


@pytest.mark.parametrize(("rate", "duration"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_no_traffic_is_made_of_no_rate(rate: float, duration: float) -> None:
    """A rate or duration that is not above 0 is refused."""
    with pytest.raises(InputError, match="above 0"):
        poisson_traffic(rate, duration, MIX, seed=0)
