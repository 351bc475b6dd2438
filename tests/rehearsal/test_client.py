from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from castbench.cost.replay import ONE_AT_A_TIME
from castbench.cost.traffic import Traffic
from castbench.errors import HardwareError
from castbench.rehearsal.client import LEAD_S, play
from castbench.rehearsal.fake_server import FakeClock, FakeServer
from castbench.rehearsal.seam import ServedBatch, ServerOrder
from tests.cost.builder import SDPA
from tests.rehearsal.test_batch_queue import SERVED

TRAFFIC = Traffic.of([10.0, 11.0, 12.0], [8, 8, 8])
ORDER = ServerOrder(SERVED, SDPA, ONE_AT_A_TIME, True, (8,))


class Scripted:
    """Answers what it is told to, when it is asked, and nothing of its own."""

    overhead_s = 0.0

    def __init__(self, clock: FakeClock, batches: Sequence[ServedBatch]) -> None:
        self.clock, self.batches, self.sent = clock, list(batches), list[tuple[int, int, float]]()

    def send(self, number: int, tokens: int, arrival_s: float) -> None:
        self.sent.append((number, tokens, arrival_s))

    def receive(self, timeout_s: float) -> ServedBatch | None:
        if self.batches and len(self.sent) == 3:
            return self.batches.pop(0)
        self.clock.move_to(self.clock.now_s() + timeout_s)
        return None

    def finish(self) -> float | None:
        return None

    def close(self) -> None:
        return None


def test_requests_are_sent_at_their_times_with_the_lead_before_the_first() -> None:
    """In order, numbered, and with the time they were to arrive, not the time they were sent."""
    clock = FakeClock()
    server = Scripted(clock, [ServedBatch((0, 1, 2), 3.0, 4.0)])
    play(server, clock, TRAFFIC, ONE_AT_A_TIME, 60.0)
    assert [number for number, _, _ in server.sent] == [0, 1, 2]
    assert [at for _, _, at in server.sent] == pytest.approx([LEAD_S, LEAD_S + 1, LEAD_S + 2])


def test_latencies_count_from_the_time_a_request_was_to_arrive() -> None:
    """Times come back on the traffic's own clock, whatever the other clock says."""
    clock = FakeClock()
    clock.move_to(1000.0)
    answers = [ServedBatch((i,), 1000.0 + LEAD_S + i + 0.25, 1000.0 + LEAD_S + i + 0.75) for i in range(3)]
    played = play(Scripted(clock, answers), clock, TRAFFIC, ONE_AT_A_TIME, 60.0)
    np.testing.assert_allclose(played.observed.latency_s, 0.75)
    np.testing.assert_allclose(played.observed.wait_s, 0.25)
    np.testing.assert_allclose(played.observed.start_s, TRAFFIC.arrival_s + 0.25)


def test_how_late_requests_were_sent_is_told() -> None:
    """A clock that jumps a second ahead makes the next request late; its latency includes that."""

    class Jumpy(FakeServer):
        def send(self, number: int, tokens: int, arrival_s: float) -> None:
            super().send(number, tokens, arrival_s)
            clock.move_to(clock.now_s() + (1.4 if number == 0 else 0.0))

    clock = FakeClock()
    played = play(Jumpy(clock, ORDER, lambda rows, longest: 0.1), clock, TRAFFIC, ONE_AT_A_TIME, 60.0)
    assert played.late_p99_s == pytest.approx(0.4)
    assert played.observed.latency_s.tolist() == pytest.approx([1.5, 0.6, 0.1])


def test_a_server_that_keeps_silent_is_given_up() -> None:
    """Some time after the last request, and the error says how many answers there were."""
    clock = FakeClock()
    with pytest.raises(HardwareError, match="the server answered 1 of 3 requests and then kept silent"):
        play(Scripted(clock, [ServedBatch((0,), 0.0, 1.0)]), clock, TRAFFIC, ONE_AT_A_TIME, 5.0)
    assert clock.now_s() == pytest.approx(LEAD_S + 2.0 + 60.0)


def test_an_answer_twice_and_one_missing_is_no_result() -> None:
    """Requests are conserved, or there is no number."""
    clock = FakeClock()
    with pytest.raises(HardwareError, match="some requests twice"):
        play(Scripted(clock, [ServedBatch((0, 1, 1), 0.0, 1.0)]), clock, TRAFFIC, ONE_AT_A_TIME, 5.0)


def test_progress_is_the_share_that_was_answered() -> None:
    """Up to all."""
    shares: list[float] = []
    clock = FakeClock()
    play(FakeServer(clock, ORDER, lambda rows, longest: 0.1), clock, TRAFFIC, ONE_AT_A_TIME, 5.0, shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])
