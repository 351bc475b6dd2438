from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.replay import BatchingPolicy, replay
from castbench.cost.service import LinearTime, Service
from castbench.cost.traffic import Traffic
from castbench.rehearsal.batch_queue import BatchQueue, Waiting
from castbench.rehearsal.client import play
from castbench.rehearsal.fake_server import FakeClock, FakeServer
from castbench.rehearsal.seam import ServerOrder
from tests.cost.builder import SDPA, run_of, times

SERVED = run_of(times({"sdpa": 1.0, "cast-32": 1.0})).header.plan.served
LAW = LinearTime(0.25, 2.0**-10)
POLICIES = (
    BatchingPolicy(), BatchingPolicy(3), BatchingPolicy(4, 0.5), BatchingPolicy(2, 0.125, (300,)),
    BatchingPolicy(5, 0.0, (200, 400)),
)  # fmt: skip
TRAFFIC = st.lists(st.tuples(st.integers(1, 1023), st.integers(1, 512)), min_size=1, max_size=60)
"""(gap in 1/1024 s, tokens): such times are exact, and no two requests arrive together with the end of a batch's
window, where the replay and a server may rightly differ.
"""


def law(rows: int, longest: int) -> float:
    """Seconds of a batch."""
    return float(LAW.seconds(rows, np.array([longest]))[0])


def traffic_of(gaps: list[tuple[int, int]]) -> Traffic:
    """Arrivals a third of a millisecond off the grid that batches end on."""
    at = np.cumsum([gap for gap, _ in gaps]) / 1024 + np.arange(len(gaps)) * 1e-6 + 3e-4
    return Traffic.of(at, [tokens for _, tokens in gaps])


@given(TRAFFIC, st.sampled_from(POLICIES))
def test_a_server_with_this_queue_serves_as_the_replay_says(
    gaps: list[tuple[int, int]], policy: BatchingPolicy
) -> None:
    """The same batches, started and ended at the same times, for requests that come one by one on a virtual clock."""
    traffic, clock = traffic_of(gaps), FakeClock()
    server = FakeServer(clock, ServerOrder(SERVED, SDPA, policy, True, (512,)), law)
    played = play(server, clock, traffic, policy, 60.0).observed
    said = replay(traffic, Service(LAW), 1, policy)
    assert played.batch_of.tolist() == said.batch_of.tolist()
    np.testing.assert_allclose(played.batch_start_s, said.batch_start_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(played.latency_s, said.latency_s, rtol=0, atol=1e-9)


def queue(policy: BatchingPolicy, *requests: tuple[float, int]) -> BatchQueue:
    """A queue with requests of (arrival, tokens)."""
    made = BatchQueue(policy)
    for number, (at_s, tokens) in enumerate(requests):
        made.add(Waiting(at_s, number, tokens))
    return made


def test_a_batch_waits_for_company_until_its_window_is_over_or_it_is_full() -> None:
    """The window counts from the oldest; the last that makes it full lets it go at once."""
    waiting = queue(BatchingPolicy(3, 1.0), (0.0, 5), (0.5, 5))
    assert waiting.ready_s() == 1.0
    assert waiting.take(0.9) == ()
    assert len(waiting) == 2
    waiting.add(Waiting(0.7, 2, 5))
    assert waiting.ready_s() == 0.7
    assert [request.number for request in waiting.take(0.7)] == [0, 1, 2]
    assert (len(waiting), waiting.ready_s()) == (0, inf)


def test_no_batch_is_larger_than_the_limit() -> None:
    """The rest waits for the next, and may leave at once if its own window is over."""
    waiting = queue(BatchingPolicy(2, 1.0), *((float(i), 5) for i in range(5)))
    assert [len(waiting.take(9.0)) for _ in range(4)] == [2, 2, 1, 0]


def test_of_two_buckets_the_one_with_the_oldest_request_goes_first() -> None:
    """Within a bucket nobody overtakes, and a bucket with nothing to give yet does not hold up the other."""
    waiting = queue(BatchingPolicy(2, 1.0, (100,)), (0.0, 500), (0.1, 50), (0.2, 60), (0.3, 700))
    assert [request.number for request in waiting.take(0.25)] == [1, 2]
    waiting = queue(BatchingPolicy(2, 1.0, (100,)), (0.0, 500), (0.1, 50), (0.2, 60), (0.3, 700))
    assert [request.number for request in waiting.take(0.4)] == [0, 3]
    assert [request.number for request in waiting.take(0.4)] == [1, 2]
