from __future__ import annotations

from dataclasses import replace as with_

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from castbench.cost.objective import Limit, Objective
from castbench.cost.replay import ONE_AT_A_TIME, BatchingPolicy
from castbench.cost.service import LinearTime, Service
from castbench.cost.sizing import (
    Setting,
    Sizing,
    Try,
    fraction_of,
    rate_factor,
    rate_sustained,
    size_fleet,
    speedup_for,
)
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.report import text
from castbench.workload.spec import ServiceObjective
from tests.cost.queues import QUARTERS, policies, traffics

P99_WAIT = Objective((Limit(0.99, 0.5, "wait"),))
objectives = st.builds(
    lambda share, seconds, of: Objective((Limit(share, seconds, of),)),
    st.sampled_from((0.5, 0.9, 1.0)), st.sampled_from((0.0, 0.5, 2.0, 8.0)), st.sampled_from(("latency", "wait")),
)  # fmt: skip


def smooth(requests: int = 400, per_s: float = 2.0, tokens: int = 5) -> Traffic:
    """Evenly spaced requests of 1.5 s each."""
    return Traffic.of(np.arange(requests) / per_s, [tokens] * requests)


def poisson(requests: int, rate: float, seed: int = 0) -> Traffic:
    """Random arrivals of requests of 1.5 s each."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, requests)
    return Traffic.of(np.cumsum(gaps), [5] * requests)


@given(traffics(), objectives, st.integers(1, 12))
def test_the_fewest_at_batch_1_are_found_wherever_the_search_begins(
    traffic: Traffic, objective: Objective, guess: int
) -> None:
    """The result keeps the objective, no smaller number does, and no larger one misses it."""
    setting = Setting(traffic, QUARTERS, objective)
    found = size_fleet(setting, guess=guess)
    kept = [n for n in range(1, traffic.requests + 1) if setting.is_kept_by(n)]
    assert found.needed == min(kept, default=None)
    assert kept == list(range(found.needed or traffic.requests + 1, traffic.requests + 1))
    assert found.is_proven == (found.needed is not None)
    assert found.is_monotone
    assert found.reason is None or "no number of replicas" in text.say(found.reason)


@given(traffics(), policies, objectives)
def test_with_batching_the_proof_says_what_was_replayed(
    traffic: Traffic, policy: BatchingPolicy, objective: Objective
) -> None:
    """The result keeps the objective; every number from ruled_out_from below it was replayed and misses it; where it is
    called proven, no smaller number keeps it.
    """
    setting = Setting(traffic, QUARTERS, objective, policy)
    found = size_fleet(setting)
    if found.needed is None:
        assert not setting.is_kept_by(traffic.requests)
        return
    kept = [setting.is_kept_by(n) for n in range(1, found.needed + 1)]
    assert kept[-1]
    assert found.ruled_out_from is not None
    assert not any(kept[found.ruled_out_from - 1 : -1])
    assert found.is_proven == (not any(kept[:-1]))
    assert str(found.needed) in (text.in_english(found.proof) or "")


def test_the_proof_names_what_one_fewer_misses() -> None:
    """Three replicas bear 2 requests/s of 1.5 s; with two, at a load of 1.5, waits grow."""
    found = size_fleet(Setting(smooth(), QUARTERS, P99_WAIT))
    assert found.needed == found.replicas == 3
    assert (text.in_english(found.proof) or "").startswith("3 replicas keep the objective; with 2 the p99 wait is ")
    assert (text.in_english(found.proof) or "").endswith("ms, over 500 ms")


def test_a_smaller_number_that_is_lucky_is_told_and_not_taken() -> None:
    """Where 1 keeps the objective and 2 does not, the answer is 3, and the sentence says so."""
    tries = (Try(1, ()), Try(2, ("p99 wait is 9 ms, over 5 ms",)), Try(3, ()))
    found = Sizing(3, 3, tries, 2)
    assert not found.is_monotone
    assert not found.is_proven
    assert "(1 keep it by luck of how batches form)" in (text.in_english(found.proof) or "")


def test_numbers_that_were_not_replayed_are_told() -> None:
    """Without a scan, with batching, only the neighbour is ruled out."""
    found = size_fleet(Setting(poisson(300, 10.0), QUARTERS, P99_WAIT, BatchingPolicy(2)), scan=False)
    assert found.needed is not None
    assert found.ruled_out_from == found.needed - 1
    assert not found.is_proven
    assert f"(numbers below {found.ruled_out_from} were not replayed)" in (text.in_english(found.proof) or "")


def test_an_objective_that_service_alone_exceeds_ends_in_a_sentence() -> None:
    """1.5 s of service are over 1 s of latency with any number of replicas; no number is given."""
    found = size_fleet(Setting(smooth(), QUARTERS, Objective((Limit(0.99, 1.0),))))
    assert (found.needed, found.replicas, found.ruled_out_from) == (None, None, None)
    assert text.in_english(found.proof) == (
        "no number of replicas keeps the objective: even with one for every request the p99 latency is 1,500 ms, "
        "over 1,000 ms"
    )
    windowed = size_fleet(Setting(smooth(), QUARTERS, P99_WAIT, BatchingPolicy(4, 0.8)))
    assert windowed.reason is not None
    assert text.say(windowed.reason).endswith("(the batch window is 800 ms)")


def test_nothing_is_sized_for_nobody() -> None:
    """Empty traffic is refused."""
    with pytest.raises(InputError, match="there is no request in it"):
        Setting(Traffic.of([], []), QUARTERS, P99_WAIT)


@pytest.mark.parametrize("traffic", [Traffic.of([0.0], [5]), Traffic.of([7.0, 7.0, 7.0], [5, 5, 5])])
def test_one_request_and_one_moment_are_sized(traffic: Traffic) -> None:
    """One replica for one request; one each for those who come together and must not wait."""
    assert size_fleet(Setting(traffic, QUARTERS, P99_WAIT)).needed == traffic.requests


def test_a_model_of_no_time_needs_one_replica() -> None:
    """Service 0: one replica, and any rate."""
    setting = Setting(smooth(), QUARTERS.slower(0.0), P99_WAIT)
    assert size_fleet(setting).needed == 1
    assert rate_sustained(setting, 1).value is None


def test_a_limit_that_is_just_reached_is_kept() -> None:
    """1.5 s of service within 1.5 s of latency."""
    assert size_fleet(Setting(smooth(), QUARTERS, Objective((Limit(0.99, 1.5),)))).needed == 3


def test_utilisation_is_of_the_work_that_comes_not_of_what_gets_done() -> None:
    """Half as much again as one replica can do keeps it 100 % busy, which is more than 100 % asks."""
    setting = Setting(smooth(per_s=1.0), QUARTERS, Objective(max_utilization=1.0))
    assert setting.outcome(1).utilization == pytest.approx(1.0)
    assert size_fleet(setting).needed == 2


def test_floor_zones_and_spares_are_bought_beyond_the_need() -> None:
    """The need of 3 is under 2 in each of 3 zones: 6, and one spare more."""
    found = size_fleet(Setting(smooth(), QUARTERS, with_(P99_WAIT, min_replicas=2, zones=3, spare=1)))
    assert (found.needed, found.replicas) == (3, 7)
    assert size_fleet(Setting(smooth(), QUARTERS, with_(P99_WAIT, spare=1))).replicas == 4


def test_utilisation_alone_is_the_load_over_the_limit() -> None:
    """3 erlangs at 70 % are 5 replicas; that the trace ends makes it no less."""
    found = size_fleet(Setting(smooth(2000), QUARTERS, Objective(max_utilization=0.7)))
    assert found.needed == 5
    assert "utilisation is 75.04 %, over 70 %" in (text.in_english(found.proof) or "")


@given(st.sampled_from((ONE_AT_A_TIME, BatchingPolicy(4), BatchingPolicy(3, 0.25))), st.integers(0, 5))
def test_a_speed_up_is_what_the_replicas_need(policy: BatchingPolicy, seed: int) -> None:
    """At the factor found the objective is kept; with a model 0.2 % slower it is not."""
    setting = Setting(poisson(300, 4.0, seed), QUARTERS, P99_WAIT, policy)
    needed = size_fleet(setting).needed
    assert needed is not None
    assume(needed > 1)
    for replicas in (needed - 1, needed):
        factor = speedup_for(setting, replicas).value
        assert factor is not None
        assert (factor > 1) == (replicas < needed)
        slowdown = 1 / factor
        assert with_(setting, service=QUARTERS.slower(slowdown * (1 - 1e-9))).is_kept_by(replicas)
        assert not with_(setting, service=QUARTERS.slower(slowdown * 1.002)).is_kept_by(replicas)


def test_overhead_cannot_be_sped_away() -> None:
    """With 2 s outside the model no speed-up lets one replica do 1 request/s."""
    setting = Setting(smooth(per_s=1.0), Service(LinearTime(0.1, 0.0), overhead_s=2.0), P99_WAIT)
    found = speedup_for(setting, 1)
    assert found.value is None
    assert found.reason is not None
    assert "outside the model" in text.say(found.reason)


@given(st.integers(1, 6), st.integers(0, 5))
def test_the_rate_that_replicas_sustain_is_the_last_they_do(replicas: int, seed: int) -> None:
    """At the factor found the objective is kept, 0.2 % beyond it is not; and as many replicas are the fewest there."""
    setting = Setting(poisson(300, 4.0, seed), QUARTERS, P99_WAIT)
    factor = rate_factor(setting, replicas).value
    assert factor is not None
    at = with_(setting, traffic=setting.traffic.faster(factor))
    assert size_fleet(at).needed == replicas
    assert not with_(setting, traffic=setting.traffic.faster(factor * 1.002)).is_kept_by(replicas)
    rate = rate_sustained(setting, replicas).value
    assert rate == pytest.approx(factor * (setting.traffic.rate_per_s or 0.0))


def test_a_rate_that_has_no_end_or_no_beginning_is_no_number() -> None:
    """Too few requests to fill the replicas, none that meets the objective, or no rate to scale: a reason each."""
    setting = Setting(smooth(5), QUARTERS, P99_WAIT)
    impossible = with_(setting, objective=Objective((Limit(0.99, 1.0),)))
    together = with_(setting, traffic=Traffic.of([0.0, 0.0], [5, 5]))
    for found, words in (
        (rate_sustained(setting, 9), "too few to tell"),
        (rate_sustained(impossible, 9), "hardly meet"),
        (rate_sustained(together, 1), "no rate to scale"),
    ):
        assert found.value is None
        assert found.reason is not None
        assert words in text.say(found.reason)


def test_a_fraction_is_the_load_where_only_load_counts() -> None:
    """3 erlangs at 70 % are 4.29 replicas of the 5 bought; 0.3 are 0.43 of one."""
    setting = Setting(smooth(4000), QUARTERS, Objective(max_utilization=0.7))
    assert fraction_of(setting, 5) == pytest.approx(3 / 0.7, rel=2e-3)
    small = Setting(smooth(4000, per_s=0.2), QUARTERS, Objective(max_utilization=0.7))
    assert fraction_of(small, 1) == pytest.approx(0.3 / 0.7, rel=2e-3)


@given(st.integers(0, 20), st.sampled_from((ONE_AT_A_TIME, BatchingPolicy(4))))
def test_a_fraction_lies_between_one_fewer_and_the_whole(seed: int, policy: BatchingPolicy) -> None:
    """More than needed - 1, at most needed."""
    setting = Setting(poisson(200, 4.0, seed), QUARTERS, P99_WAIT, policy)
    needed = size_fleet(setting).needed
    assert needed is not None
    assert needed - 1 <= fraction_of(setting, needed) <= needed


def test_a_profiles_objectives_become_limits() -> None:
    """p50, p95 and p99 in milliseconds become shares and seconds, those that are stated."""
    found = Objective.of_service(ServiceObjective(p50_ms=20.0, p99_ms=250.0), 0.7)
    assert found.limits == (Limit(0.5, 0.02), Limit(0.99, 0.25))
    assert text.say(found.said) == "p50 latency ≤ 20 ms, p99 latency ≤ 250 ms, utilisation ≤ 70 %"


@pytest.mark.parametrize(
    "wrong",
    [
        Objective, lambda: Objective.of_service(None), lambda: Limit(0.0, 1.0), lambda: Limit(1.5, 1.0),
        lambda: Limit(0.5, -1.0), lambda: Limit(0.5, float("nan")), lambda: Objective(max_utilization=0.0),
        lambda: Objective(max_utilization=1.1), lambda: with_(P99_WAIT, zones=0), lambda: with_(P99_WAIT, spare=-1),
    ],
)  # fmt: skip
def test_an_objective_that_asks_nothing_or_nonsense_is_refused(wrong: object) -> None:
    """Nothing to keep, shares beyond 1, negative times, no zones."""
    with pytest.raises(InputError):
        wrong()  # type: ignore[operator]
