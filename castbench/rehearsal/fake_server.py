"""A server on a virtual clock, with the real queue: for the fake device, and for tests of everything around it."""

from __future__ import annotations

import random
from collections.abc import Callable

from castbench.rehearsal.batch_queue import BatchQueue, Waiting
from castbench.rehearsal.seam import ServedBatch, ServerOrder

NOISE_SD = 0.02
"""Standard deviation of the logarithm of a batch's time."""


class FakeClock:
    """Stands still until it is moved on."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """The virtual time."""
        return self._now_s

    def move_to(self, now_s: float) -> None:
        """On, never back."""
        self._now_s = max(self._now_s, now_s)


class FakeServer:
    """Serves as the real one does; a batch takes `seconds(rows, longest)`, and waiting for it moves the clock on."""

    overhead_s = 0.0

    def __init__(self, clock: FakeClock, order: ServerOrder, seconds: Callable[[int, int], float]) -> None:
        self._clock, self._seconds = clock, seconds
        self._queue = BatchQueue(order.policy)
        self._running: ServedBatch | None = None

    def send(self, number: int, tokens: int, arrival_s: float) -> None:
        """Into the queue at once."""
        self._queue.add(Waiting(arrival_s, number, tokens))

    def receive(self, timeout_s: float) -> ServedBatch | None:
        """The batch that ends within so long; else the clock has moved on by that."""
        until_s = self._clock.now_s() + timeout_s
        if self._running is None and self._queue.ready_s() < until_s:
            self._begin(max(self._clock.now_s(), self._queue.ready_s()))
        if self._running is None or self._running.done_s > until_s:
            self._clock.move_to(until_s)
            return None
        done, self._running = self._running, None
        self._clock.move_to(done.done_s)
        return done

    def finish(self) -> float | None:
        """It has no threads."""
        return None

    def close(self) -> None:
        """Nothing to end."""

    def _begin(self, now_s: float) -> None:
        """The next batch."""
        self._clock.move_to(now_s)
        batch = self._queue.take(now_s)
        done_s = now_s + self._seconds(len(batch), max(request.tokens for request in batch))
        self._running = ServedBatch(tuple(request.number for request in batch), now_s, done_s)


def noisy(seconds: Callable[[int, int], float], seed: int) -> Callable[[int, int], float]:
    """The same times with a log-normal noise of mean 1, the same for every seed."""
    rng = random.Random(seed)
    return lambda rows, longest: seconds(rows, longest) * rng.lognormvariate(-(NOISE_SD**2) / 2, NOISE_SD)
