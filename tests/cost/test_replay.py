from __future__ import annotations

import math
from dataclasses import replace as with_

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost import replay_checks
from castbench.cost.replay import ONE_AT_A_TIME, BatchingPolicy, FleetChange, Replay, ReplayBench, replay
from castbench.cost.replay_checks import broken_laws, mean_in_system
from castbench.cost.service import LinearTime, MeasuredTime, Service
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from tests.cost.queues import QUARTERS, plain_starts, policies, traffics

WITH_OVERHEAD = with_(QUARTERS, overhead_s=0.5)
NOISY = Service(LinearTime(0.1, 0.05), overhead_s=0.01, factors=(0.9, 1.0, 1.1))


@given(traffics(), policies, st.integers(1, 6), st.sampled_from((QUARTERS, WITH_OVERHEAD)))
def test_the_fast_replay_is_the_plain_one(
    traffic: Traffic, policy: BatchingPolicy, replicas: int, service: Service
) -> None:
    """Every request starts when a simulator says that looks at the whole system at every moment."""
    found = replay(traffic, service, replicas, policy)
    assert found.start_s.tolist() == plain_starts(traffic, service, replicas, policy)


@given(traffics(), policies, st.integers(1, 6), st.sampled_from((QUARTERS, NOISY)))
def test_no_replay_breaks_a_law(traffic: Traffic, policy: BatchingPolicy, replicas: int, service: Service) -> None:
    """Requests are conserved, Little's law holds, no replica idles while a batch could leave, none does two at once."""
    assert list(broken_laws(replay(traffic, service, replicas, policy, seed=3))) == []


@given(traffics(), st.integers(1, 5), st.sampled_from((QUARTERS, NOISY)))
def test_one_more_replica_makes_nobody_wait_longer(traffic: Traffic, replicas: int, service: Service) -> None:
    """At batch 1, request by request and to the last bit: what bisection on the number of replicas rests on."""
    fewer, more = (replay(traffic, service, n, seed=1).wait_s for n in (replicas, replicas + 1))
    assert (more <= fewer).all()


@given(traffics(), st.integers(1, 5), st.floats(0.1, 1.0))
def test_neither_a_faster_model_nor_longer_gaps_make_anybody_wait_longer(
    traffic: Traffic, replicas: int, factor: float
) -> None:
    """At batch 1, request by request: what bisection on speed and on rate rests on."""
    waits = replay(traffic, NOISY, replicas).wait_s
    assert (replay(traffic, NOISY.slower(factor), replicas).wait_s <= waits + 1e-9).all()
    assert (replay(traffic.faster(factor), NOISY, replicas).wait_s <= waits + 1e-9).all()


@given(traffics(), policies, st.integers(1, 5), st.sampled_from((0.25, 8.0)))
def test_time_has_no_unit(traffic: Traffic, policy: BatchingPolicy, replicas: int, factor: float) -> None:
    """All times stretched alike stretch every wait alike and leave utilisation as it is."""
    stretched = with_(policy, batch_window_s=policy.batch_window_s * factor)
    before = replay(traffic, QUARTERS, replicas, policy)
    after = replay(traffic.faster(1 / factor), QUARTERS.slower(factor), replicas, stretched)
    assert after.wait_s.tolist() == (before.wait_s * factor).tolist()
    assert after.utilization == pytest.approx(before.utilization)


@given(traffics(), policies, st.integers(1, 4))
def test_a_fleet_that_never_changes_is_a_fixed_one(traffic: Traffic, policy: BatchingPolicy, replicas: int) -> None:
    """The replay through a changing fleet gives the same starts, and every replica lives from first to last."""
    fixed = replay(traffic, NOISY, replicas, policy, seed=2)
    same, lives = ReplayBench(traffic, NOISY, policy, seed=2).run_changing([], replicas)
    assert same.start_s.tolist() == fixed.start_s.tolist()
    assert same.batch_of.tolist() == fixed.batch_of.tolist()
    begin, end = traffic.arrival_s[0], fixed.finish_s.max()
    assert [(life.begin_s, life.end_s) for life in lives] == [(begin, end)] * replicas


@given(traffics(), policies, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 3)), max_size=4))
def test_replicas_that_join_make_no_law_break(
    traffic: Traffic, policy: BatchingPolicy, joins: list[tuple[int, int]]
) -> None:
    """However replicas join and leave again, everybody is served once, after arriving, and never by too many."""
    changes = [FleetChange(at, count, ready_after_s=1.0) for at, count in joins]
    changes += [FleetChange(at + 5.0, -count) for at, count in joins]
    found, lives = ReplayBench(traffic, QUARTERS, policy).run_changing(changes, 1)
    broken = [law for law in broken_laws(found) if "idled" not in law]
    assert broken == []
    assert all(life.end_s >= life.begin_s for life in lives)
    assert math.fsum(life.end_s - life.begin_s for life in lives) >= found.busy_s - 1e-9


def test_an_ordered_replica_serves_after_its_start_up() -> None:
    """Four requests at once, one replica: a second one, ordered at 1 s and ready at 3, takes the third request."""
    traffic = Traffic.of([0.0] * 4, [7] * 4)  # 2 s each
    found, lives = ReplayBench(traffic, QUARTERS, ONE_AT_A_TIME).run_changing([FleetChange(1.0, 1, 2.0)], 1)
    assert found.start_s.tolist() == [0.0, 2.0, 3.0, 4.0]
    assert [(life.begin_s, life.end_s) for life in lives] == [(0.0, 6.0), (1.0, 6.0)]
    assert found.replicas == 2


def test_a_replica_given_back_finishes_what_it_does() -> None:
    """Given back at 1 s while both are busy until 2: one leaves at 2, and the last two are served one by one."""
    traffic = Traffic.of([0.0] * 4, [7] * 4)
    found, lives = ReplayBench(traffic, QUARTERS, ONE_AT_A_TIME).run_changing([FleetChange(1.0, -1)], 2)
    assert found.start_s.tolist() == [0.0, 0.0, 2.0, 4.0]
    assert sorted(life.end_s for life in lives) == [2.0, 6.0]


def test_a_fleet_cannot_become_empty() -> None:
    """Giving back the last replica is refused in a sentence."""
    bench = ReplayBench(Traffic.of([0.0, 9.0], [1, 1]), QUARTERS, ONE_AT_A_TIME)
    with pytest.raises(InputError, match="at least 1 replica"):
        bench.run_changing([FleetChange(1.0, -1)], 1)
    with pytest.raises(InputError, match="at least 1 replica"):
        bench.run_changing([], 0)


def test_a_full_batch_does_not_wait_for_its_window() -> None:
    """Two of two are there after 1 s, so they leave then; the third is alone until its window of 4 s is over."""
    traffic = Traffic.of([0.0, 1.0, 2.0], [3, 3, 3])
    found = replay(traffic, QUARTERS, 2, BatchingPolicy(2, 4.0))
    assert found.start_s.tolist() == [1.0, 1.0, 6.0]
    assert found.batch_sizes.tolist() == [2, 1]


def test_a_batch_is_paid_for_at_its_longest_length() -> None:
    """Three rows of 2, 9 and 4 tokens take as long as three of 9."""
    found = replay(Traffic.of([0.0] * 3, [2, 9, 4]), QUARTERS, 1, BatchingPolicy(3))
    assert found.latency_s.tolist() == [(1 + 3 * 9) / 4] * 3


def test_buckets_keep_short_requests_from_paying_for_long_ones() -> None:
    """Split at 5 tokens, the long one has a batch of its own, and goes second, its bucket's head being younger."""
    found = replay(Traffic.of([0.0] * 3, [2, 9, 4]), QUARTERS, 1, BatchingPolicy(3, 0.0, (5,)))
    assert found.batch_of.tolist() == [0, 1, 0]
    assert found.start_s.tolist() == [0.0, 2.25, 0.0]


def test_no_request_is_a_replay_of_nothing() -> None:
    """An empty traffic gives empty results, and no number is made up for it."""
    for policy in (ONE_AT_A_TIME, BatchingPolicy(4, 1.0), BatchingPolicy(4, 0.0, (5,))):
        found = replay(Traffic.of([], []), QUARTERS, 2, policy)
        assert (found.busy_s, found.makespan_s, found.wait_s.size) == (0.0, 0.0, 0)
        assert [found.utilization, found.load, found.mean_batch_size, found.seconds_at(0.99)] == [None] * 4
        assert list(broken_laws(found)) == []
        assert not found.is_overloaded


def test_one_request_waits_for_nothing() -> None:
    """Its latency is its service, p50 and p99 alike; there is no rate to say a load of."""
    found = replay(Traffic.of([5.0], [7]), QUARTERS, 3)
    assert (found.seconds_at(0.5), found.seconds_at(0.99), found.seconds_at(0.99, "wait")) == (2.0, 2.0, 0.0)
    assert found.load is None
    assert found.utilization == pytest.approx(1 / 3)
    assert mean_in_system(found) == 1.0


def test_more_replicas_than_requests_is_no_waiting() -> None:
    """Ten at one moment, a thousand replicas: everybody starts at once."""
    found = replay(Traffic.of([1.0] * 10, [3] * 10), QUARTERS, 1000)
    assert not found.wait_s.any()
    assert found.load is None
    assert list(broken_laws(found)) == []


@pytest.mark.parametrize(
    "policy", [ONE_AT_A_TIME, BatchingPolicy(2), BatchingPolicy(2, 1.0), BatchingPolicy(2, 0.0, (3,))]
)
def test_service_that_takes_no_time_keeps_every_law(policy: BatchingPolicy) -> None:
    """With a model of 0 s nobody waits for a replica, and nothing divides by 0."""
    traffic = Traffic.of([0.0, 0.0, 0.0, 2.0], [1, 5, 1, 1])
    found = replay(traffic, QUARTERS.slower(0.0), 1, policy)
    assert found.busy_s == 0.0
    assert found.seconds_at(1.0) <= policy.batch_window_s
    assert list(broken_laws(found)) == []


def test_more_work_than_replicas_can_do_is_called_overload() -> None:
    """At a load of 1.5 the replay says so, and utilisation stays at most 1; at 0.75 it does not."""
    traffic = Traffic.of(np.arange(100.0), [5] * 100)  # 1.5 s of work a second
    assert replay(traffic, QUARTERS, 1).is_overloaded
    assert replay(traffic, QUARTERS, 1).utilization <= 1
    assert not replay(traffic, QUARTERS, 2).is_overloaded


def test_rounds_are_drawn_by_the_seed_and_the_request_alone() -> None:
    """The same seed gives the same replay; another does not; the number of replicas changes nobody's luck."""
    traffic = Traffic.of(np.arange(200) * 0.1, [5] * 200)
    first, again, other = (replay(traffic, NOISY, 2, seed=seed) for seed in (1, 1, 2))
    assert first.latency_s.tolist() == again.latency_s.tolist()
    assert first.latency_s.tolist() != other.latency_s.tolist()
    services = [replay(traffic, NOISY, n, seed=1).batch_service_s for n in (2, 7)]
    assert services[0].tolist() == services[1].tolist()
    assert set(np.round(services[0], 9)) == {0.325, 0.36, 0.395}  # overhead is not drawn


def test_percentiles_are_the_smallest_value_that_the_share_does_not_exceed() -> None:
    """Of 100 requests p99 is the 99th smallest, not an interpolation, and p100 the largest."""
    traffic = Traffic.of([0.0] * 100, np.arange(1, 101))
    found = replay(traffic, Service(LinearTime(0.0, 1.0)), 100)
    assert [found.seconds_at(share) for share in (0.001, 0.5, 0.95, 0.99, 1.0)] == [1.0, 50.0, 95.0, 99.0, 100.0]


@pytest.mark.parametrize(
    ("lost", "law"),
    [
        ({"batch_of": np.array([0, 1, 1, 3])}, "lost"),
        ({"batch_start_s": np.array([0.0, 2.0, 1.0, 6.0])}, "one after the other"),
        ({"batch_start_s": np.array([-1.0, 2.0, 4.0, 6.0])}, "before it arrived"),
        ({"batch_start_s": np.array([0.0, 1.0, 4.0, 6.0])}, "more batches"),
        ({"batch_start_s": np.array([0.0, 2.0, 4.0, 7.0])}, "idled"),
    ],
)
def test_a_broken_replay_is_caught(lost: dict[str, np.ndarray], law: str) -> None:
    """Each law is one that a wrong replay does break."""
    sound = replay(Traffic.of([0.0] * 4, [7] * 4), QUARTERS, 1)
    fields = ("traffic", "replicas", "policy", "batch_of", "batch_start_s", "batch_service_s")
    broken = Replay(**{**{name: getattr(sound, name) for name in fields}, **lost})
    assert any(law in found for found in broken_laws(broken))


def test_littles_law_is_checked_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests of 2 s one after the other are 1.5 in the system on average; a count 1 % off is noticed."""
    found = replay(Traffic.of([0.0, 0.0], [7, 7]), QUARTERS, 1)
    assert mean_in_system(found) == 1.5
    monkeypatch.setattr(replay_checks, "mean_in_system", lambda replay: 1.515)
    assert [law[:12] for law in broken_laws(found)] == ["Little's law"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: BatchingPolicy(0), lambda: BatchingPolicy(2, -1.0), lambda: BatchingPolicy(2, math.inf),
        lambda: BatchingPolicy(2, 0.0, (5, 3)), lambda: replay(Traffic.of([0.0], [1]), QUARTERS, 0),
        lambda: Service(LinearTime(0, 1), overhead_s=-1.0), lambda: Service(LinearTime(0, 1), factors=()),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    """Batches of none, windows without end, no replica and negative times end in a sentence, not in a number."""
    with pytest.raises(InputError):
        wrong()  # type: ignore[operator]


def test_what_was_not_measured_is_refused_before_anything_is_replayed() -> None:
    """A batch or a length beyond the measured ones is named, with the limit."""
    service = Service(MeasuredTime((1, 4), (128, 512), ((1.0, 2.0), (2.0, 4.0))))
    traffic = Traffic.of([0.0] * 9, [128] * 9)
    with pytest.raises(InputError, match="a batch of 5 was not measured; the largest is 4"):
        replay(traffic, service, 1, BatchingPolicy(8))
    with pytest.raises(InputError, match="reach 513 tokens, measured only up to 512"):
        replay(Traffic.of([0.0], [513]), service, 1)
