from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from castbench.cost.replay import BatchingPolicy
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.records import RunRecord, Status
from castbench.rehearsal.choice import RehearsalChoice
from castbench.rehearsal.fake_server import FakeClock, FakeServer
from castbench.rehearsal.seam import ServerOrder, Stage
from castbench.rehearsal.stage import FEWEST_REQUESTS, rehearse
from castbench.traffic_source import SourcedTraffic
from castbench.workload.spec import Demand
from tests.cost.builder import CAST, SDPA, run_of, times

TIMES = times({"sdpa": 0.01, "cast-32": 0.005})


def batched(**changes: Any) -> RunRecord:
    """10 ms a row, batches of 1 and 4, padded; noise of 2 %."""
    return run_of(TIMES, **{"batch_sizes": (1, 4), "batching": ("padded",), "noise": 0.02, **changes})


class Orders(list[ServerOrder]):
    """What was ordered, and which servers were closed."""

    closed = 0


def stage(orders: Orders, slower: float = 1.0) -> Stage:
    """A machine whose batches take what the run says, times a factor."""
    clock = FakeClock()

    class Server(FakeServer):
        def close(self) -> None:
            orders.closed += 1

    def opened(order: ServerOrder) -> FakeServer:
        orders.append(order)
        return Server(clock, order, lambda rows, longest: 0.01 * rows * slower)

    return Stage(batched().header.environment, "2026-06-02T00:00:00+00:00", ("a was b",), clock, opened)


@pytest.fixture
def orders() -> Iterator[Orders]:
    """Orders of one test; whatever happened, every server that was opened was closed."""
    made = Orders()
    yield made
    assert made.closed == len(made)


def trace(requests: int = 3000) -> SourcedTraffic:
    """Pairs of requests, a second apart on average."""
    rng = np.random.default_rng(0)
    at = np.repeat(np.cumsum(rng.exponential(1.0, requests // 2)), 2)
    return SourcedTraffic(Traffic.of(at, rng.choice((512, 2048), at.size)), "trace pairs.csv")


def test_a_server_that_does_as_measured_is_borne_out(orders: Orders) -> None:
    """The baseline, its largest batches, a load of 0.7, independent arrivals of the profile's lengths."""
    found = rehearse(batched(), None, RehearsalChoice(seconds=30.0), stage(orders))
    assert found.is_borne_out
    assert (found.label, found.regime, found.policy, found.source) == ("sdpa", "eager", BatchingPolicy(4), None)
    assert found.load == pytest.approx(0.7, rel=0.15)
    assert found.requests == pytest.approx(70 * 30, rel=0.1)
    assert found.is_overhead_measured
    assert found.session.differs == ("a was b",)
    (order,) = orders
    assert order.arm == SDPA
    assert order.masked
    assert order.lengths == (512, 2048)


def test_a_slow_machine_is_not_borne_out(orders: Orders) -> None:
    """A fifth slower than measured shows, and is found in the batches."""
    found = rehearse(batched(), None, RehearsalChoice(seconds=30.0), stage(orders, 1.2))
    assert not found.is_borne_out
    assert found.service_ratio == pytest.approx(1.2, rel=0.03)
    assert found.at(0.5).error < 0


def test_a_stretch_of_the_trace_comes_at_the_rate_asked_for(orders: Orders) -> None:
    """Neighbours of the trace, their pairs kept, at 50 a second."""
    found = rehearse(batched(), trace(), RehearsalChoice(rate=50.0, seconds=20.0), stage(orders))
    assert (found.source, found.requests) == ("trace pairs.csv", 1000)
    assert found.rate_per_s == pytest.approx(50.0)
    assert found.observed_batch > 1.2


def test_what_is_asked_for_is_what_is_ordered(orders: Orders) -> None:
    """Label, batch limit, window, load and overhead."""
    asked = RehearsalChoice("cast-32", load=0.4, seconds=30.0, max_batch=2, window_s=0.004, overhead_s=0.001)
    found = rehearse(batched(), None, asked, stage(orders))
    assert (found.label, found.policy) == ("cast-32", BatchingPolicy(2, 0.004))
    assert found.load == pytest.approx(0.4, rel=0.15)
    assert (found.overhead_s, found.is_overhead_measured) == (0.001, False)
    assert orders[0].arm == CAST


def test_one_at_a_time_has_no_window_and_no_buckets(orders: Orders) -> None:
    """A window of its own would hold up nobody but the request itself."""
    record = batched(batching=("bucketed",))
    found = rehearse(record, None, RehearsalChoice(seconds=5.0, max_batch=1, window_s=0.1), stage(orders))
    assert found.policy == BatchingPolicy(1)


def test_batches_of_equal_lengths_are_kept_where_only_those_were_measured(orders: Orders) -> None:
    """Within the measured lengths, and without a mask where nothing is padded; by wish where both were measured."""
    found = rehearse(batched(batching=("bucketed",)), None, RehearsalChoice(seconds=5.0), stage(orders))
    assert found.policy == BatchingPolicy(4, 0.0, (512, 2048))
    assert not orders[0].masked
    both = batched(batching=("padded", "bucketed"))
    assert rehearse(both, None, RehearsalChoice(seconds=5.0), stage(orders)).policy == BatchingPolicy(4)
    wished = rehearse(both, None, RehearsalChoice(seconds=5.0, by_length=True), stage(orders))
    assert wished.policy == BatchingPolicy(4, 0.0, (512, 2048))


def test_a_replica_is_as_full_as_the_profile_lets_it_be(orders: Orders) -> None:
    """Its max_utilization is the load where none is given."""
    record = batched()
    record = replace(record, header=replace(record.header, economics=replace(
        record.header.economics, demand=Demand(9.0, max_utilization=0.4))))  # fmt: skip
    assert rehearse(record, None, RehearsalChoice(seconds=30.0), stage(orders)).load == pytest.approx(0.4, rel=0.15)


def test_the_replay_speaks_before_the_first_request_is_sent(orders: Orders) -> None:
    """Progress: the server starts, then replays, then serves."""
    seen: list[str] = []
    rehearse(
        batched(), None, RehearsalChoice(seconds=2.0), stage(orders), on_progress=lambda what, share: seen.append(what)
    )
    assert list(dict.fromkeys(seen)) == ["starting sdpa", "replaying", "serving"]


def test_long_requests_are_cut_and_counted_where_that_is_allowed(orders: Orders) -> None:
    """Otherwise refused, before anything is served."""
    long = trace()
    long = replace(long, traffic=Traffic.of(long.traffic.arrival_s, long.traffic.tokens * 2))
    choice = RehearsalChoice(seconds=5.0)
    with pytest.raises(InputError, match="longer than the 2,048 tokens measured"):
        rehearse(batched(), long, choice, stage(orders))
    found = rehearse(batched(), long, replace(choice, truncate=True), stage(orders))
    assert 0 < found.cut < found.requests
    with pytest.raises(InputError, match="the trace has 10 requests; 20 are the least that do"):
        rehearse(batched(), trace(10), choice, stage(orders))


def test_a_server_is_closed_when_serving_is_interrupted(orders: Orders) -> None:
    """Ctrl-C leaves no process behind."""

    def interrupt(what: str, share: float) -> None:
        if what == "serving":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearse(batched(), None, RehearsalChoice(seconds=2.0), stage(orders), interrupt)
    assert len(orders) == 1


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (RehearsalChoice("lstm"), "--label: no mechanism is labelled lstm; labels are sdpa, cast-32"),
        (RehearsalChoice(rate=5.0, load=0.5), "--rate and --load say the same thing twice"),
        (RehearsalChoice(max_batch=0), "--max-batch: expected 1 or more, got 0"),
        (RehearsalChoice(max_batch=8), "--max-batch: a batch of 8 was not measured; the largest of sdpa is 4"),
        (RehearsalChoice(by_length=True), "--by-length: no batches of equal lengths were measured"),
        (RehearsalChoice(rate=0.1), f"{FEWEST_REQUESTS} are the least that say anything; take --seconds 300 or more"),
        (RehearsalChoice(rate=1e6), "take fewer --seconds"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(orders: Orders, choice: RehearsalChoice, words: str) -> None:
    """In a sentence, before any server is opened."""
    for source in (None, trace()):
        with pytest.raises(InputError) as caught:
            rehearse(batched(), source, choice, stage(orders))
        assert words in str(caught.value)
    assert not orders


def test_a_mechanism_that_was_not_measured_is_refused_with_the_reason(orders: Orders) -> None:
    """Its times are not known, so there is nothing to hold the server against."""
    record = batched(failed={("b1-n2048-bucketed", "sdpa"): Status.OOM, ("b4-n2048-padded", "sdpa"): Status.OOM})
    with pytest.raises(InputError, match="sdpa cannot be rehearsed: batch 1, eager: oom at 2,048 tokens"):
        rehearse(record, None, RehearsalChoice(), stage(orders))
    compiled = batched(regimes=("compiled",))
    with pytest.raises(InputError, match="rehearsals are eager"):
        rehearse(compiled, None, RehearsalChoice(), stage(orders))
    with pytest.raises(InputError, match="attention module alone"):
        rehearse(batched(scope="attention"), None, RehearsalChoice(), stage(orders))
