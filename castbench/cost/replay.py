"""Replays traffic through identical replicas behind one queue: who waits for how long, and how busy they are.

arrivals ─▶ one queue, first come first served ─▶ batch of up to max_batch ─▶ the replica that is free ─▶ done
            (one per bucket of lengths)           at once, or when full or batch_window_s after its oldest arrived

The batch that leaves next is known from the earliest free replica and the heads of the queues, and batches never leave
before earlier ones: so the clock moves from batch to batch, and no list of future events is kept. For one replica this
is Lindley's recursion, for several Kiefer and Wolfowitz's (Trans. AMS 78, 1955).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import TYPE_CHECKING, Protocol

from castbench.cost.quantiles import quantile
from castbench.cost.service import Service
from castbench.cost.traffic import Traffic
from castbench.errors import InputError

if TYPE_CHECKING:
    from castbench.cost.traffic import Floats, Integers


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """When a free replica takes how many waiting requests.

    max_batch        most requests of one batch
    batch_window_s   how long the oldest waiting request may wait for company; 0: a free replica takes what is there
    bucket_edges     upper ends (tokens, ascending) of the length buckets that batches are kept within; longer requests
                     form one more bucket; empty: any lengths together. Of buckets with a batch to give, the one with
                     the oldest request goes first.
    """

    max_batch: int = 1
    batch_window_s: float = 0.0
    bucket_edges: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_batch < 1 or not 0 <= self.batch_window_s < inf:
            raise InputError("batching: max_batch must be 1 or more, and the window 0 or more seconds")
        if list(self.bucket_edges) != sorted(set(self.bucket_edges)):
            raise InputError("batching: bucket edges must ascend")


ONE_AT_A_TIME = BatchingPolicy()


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What happened to every request, in the order of arrival, and to every batch, in the order of start.

    batch_of   index of the batch each request went in
    Ties: a request that arrives at the very moment a batch leaves goes with it, if there is room.
    """

    traffic: Traffic
    replicas: int
    policy: BatchingPolicy
    batch_of: Integers
    batch_start_s: Floats
    batch_service_s: Floats

    @property
    def start_s(self) -> Floats:
        """When each request's batch started."""
        return self.batch_start_s[self.batch_of]

    @property
    def finish_s(self) -> Floats:
        """When each request was done."""
        return (self.batch_start_s + self.batch_service_s)[self.batch_of]

    @property
    def wait_s(self) -> Floats:
        """From arrival to the start of service."""
        return self.start_s - self.traffic.arrival_s

    @property
    def latency_s(self) -> Floats:
        """From arrival to the end of service."""
        return self.finish_s - self.traffic.arrival_s

    @property
    def batch_sizes(self) -> Integers:
        """Requests in each batch."""
        import numpy as np

        return np.bincount(self.batch_of, minlength=self.batch_start_s.size)

    @property
    def busy_s(self) -> float:
        """Seconds that replicas spent serving, all together."""
        return float(self.batch_service_s.sum())

    @property
    def makespan_s(self) -> float:
        """From the first arrival to the last end of service."""
        return float(self.finish_s.max() - self.traffic.arrival_s[0]) if self.traffic.requests else 0.0

    @property
    def utilization(self) -> float | None:
        """Share of the makespan that replicas were busy, 0 to 1; None where no time passed."""
        return self.busy_s / (self.replicas * self.makespan_s) if self.makespan_s > 0 else None

    @property
    def load(self) -> float | None:
        """Work that came per second and replica while requests came; at 1 or more the queue grew to the end, and how
        long requests waited is a matter of how long the trace is. None where all came at one moment.
        """
        span_s = self.traffic.span_s
        return self.busy_s / (self.replicas * span_s) if span_s > 0 else None

    @property
    def is_overloaded(self) -> bool:
        """Whether more work came than the replicas could do; not said of fewer requests than fill them twice."""
        enough = self.batch_start_s.size > 2 * self.replicas
        return enough and self.load is not None and self.load >= 1

    @property
    def mean_batch_size(self) -> float | None:
        """Requests per batch; None without any."""
        return self.traffic.requests / self.batch_start_s.size if self.traffic.requests else None

    def seconds_at(self, share: float, of: str = "latency") -> float | None:
        """The latency or wait that this share of the requests does not exceed: the ceil(share·n)-th smallest."""
        return quantile(self.wait_s if of == "wait" else self.latency_s, share)


@dataclass(frozen=True, slots=True, eq=False)
class Lifetime:
    """From when to when one replica of a changing fleet was held."""

    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class FleetChange:
    """At `at_s`, `count` replicas are ordered that serve `ready_after_s` later, or (negative) given back once idle."""

    at_s: float
    count: int
    ready_after_s: float = 0.0


@dataclass(slots=True)
class _Served:
    """Batches as they leave: their first request, start and seconds."""

    start_s: list[float] = field(default_factory=list)
    service_s: list[float] = field(default_factory=list)


class _Queue(Protocol):
    """Waiting requests, as seen by a free replica."""

    def ready_s(self) -> float:
        """When the next batch may leave; infinite when nobody is left."""
        ...

    def take(self, start_s: float) -> tuple[int, int, int]:
        """The batch that leaves at `start_s`: its oldest request, its size, the rank of its longest length."""
        ...

    def batch_of(self) -> Integers:
        """For every request, which of the batches taken it went in."""
        ...


class ReplayBench:
    """One traffic, service and policy made ready, so that many numbers of replicas can be tried."""

    def __init__(self, traffic: Traffic, service: Service, policy: BatchingPolicy, seed: int = 0) -> None:
        """InputError where a batch or length may come up that the service time is not known for."""
        import numpy as np

        self.traffic, self.policy = traffic, policy
        self._arrivals: list[float] = traffic.arrival_s.tolist()
        factors = service.factor_draws(traffic.requests, seed)
        self._overhead_s = service.overhead_s
        if policy.max_batch == 1:  # then neither a window nor buckets change anything
            alone = service.model_seconds(1, traffic.tokens) * factors + service.overhead_s
            self._alone: list[float] | None = alone.tolist()
            return
        self._alone = None
        lengths, ranks = np.unique(traffic.tokens, return_inverse=True)
        self._lengths, self._ranks = lengths, ranks.tolist()
        self._factors: list[float] = factors.tolist()
        sizes = range(1, min(policy.max_batch, max(1, traffic.requests)) + 1)
        self._rows = [array("d", service.model_seconds(size, lengths).tobytes()) for size in sizes]

    def run(self, replicas: int) -> Replay:
        """Replay through this many replicas, all there from the start. InputError below 1."""
        import numpy as np

        if replicas < 1:
            raise InputError(f"replicas: at least 1 is needed, got {replicas}")
        free = [-inf] * min(replicas, max(1, self.traffic.requests))
        if self._alone is not None:
            starts, services = _one_by_one(self._arrivals, self._alone, free), self._alone
            batch_of = np.arange(self.traffic.requests)
        else:
            queue = self._queue()
            served = self._serve(queue, free)
            starts, services, batch_of = served.start_s, served.service_s, queue.batch_of()
        return Replay(self.traffic, replicas, self.policy, batch_of, np.asarray(starts), np.asarray(services))

    def run_changing(self, changes: Sequence[FleetChange], replicas: int) -> tuple[Replay, tuple[Lifetime, ...]]:
        """Replay through a fleet of `replicas` that changes, at least one at any time, with the replicas' lifetimes.

        A replica given back is one that is idle, else the first that becomes so. The replay names the most replicas
        held at once. InputError where the fleet would be empty.
        """
        import numpy as np

        fleet = _Fleet(self.traffic, replicas, changes)
        queue, served = self._queue(), _Served()
        while (ready := queue.ready_s()) < inf:
            start = fleet.start_s(ready)
            service_s = self._service_s(*queue.take(start))
            fleet.occupy(start + service_s)
            served.start_s.append(start)
            served.service_s.append(service_s)
        starts, services = np.asarray(served.start_s), np.asarray(served.service_s)
        replay = Replay(self.traffic, fleet.most, self.policy, queue.batch_of(), starts, services)
        return replay, fleet.lifetimes(float((starts + services).max(initial=-inf)))

    def _queue(self) -> _Queue:
        """A full queue for one replay."""
        if self._alone is not None:
            return _FirstCome(self._arrivals, [0] * len(self._arrivals), self.policy)
        if not self.policy.bucket_edges:
            return _FirstCome(self._arrivals, self._ranks, self.policy)
        return _ByLength(self._arrivals, self._ranks, self._bucket_of(), self.policy)

    def _bucket_of(self) -> list[int]:
        """The bucket of every request."""
        import numpy as np

        return np.searchsorted(self.policy.bucket_edges, self._lengths)[self._ranks].tolist()  # type: ignore[no-any-return]

    def _service_s(self, first: int, size: int, longest: int) -> float:
        """Seconds of one batch."""
        if self._alone is not None:
            return self._alone[first]
        return self._rows[size - 1][longest] * self._factors[first] + self._overhead_s

    def _serve(self, queue: _Queue, free: list[float]) -> _Served:
        """Batches through a constant fleet; `free` is a heap of when replicas become free."""
        served = _Served()
        add_start, add_service = served.start_s.append, served.service_s.append
        rows, factors, overhead_s = self._rows, self._factors, self._overhead_s
        ready_s, take = queue.ready_s, queue.take
        while (start := ready_s()) < inf:
            if free[0] > start:  # noqa: PLR1730 - calling max would cost more than the heap does
                start = free[0]
            first, size, longest = take(start)
            service_s = rows[size - 1][longest] * factors[first] + overhead_s
            heapreplace(free, start + service_s)
            add_start(start)
            add_service(service_s)
        return served


def replay(
    traffic: Traffic, service: Service, replicas: int, policy: BatchingPolicy = ONE_AT_A_TIME, seed: int = 0
) -> Replay:
    """Replay traffic once; `seed` fixes which measured round each batch draws. See `ReplayBench` for many replays."""
    return ReplayBench(traffic, service, policy, seed).run(replicas)


def _one_by_one(arrivals: Iterable[float], services: Iterable[float], free: list[float]) -> list[float]:
    """Starts of requests served one at a time; `free` is a heap of when replicas become free."""
    starts: list[float] = []
    add = starts.append
    for arrival, service_s in zip(arrivals, services, strict=True):
        start = free[0]
        if arrival > start:  # noqa: PLR1730 - calling max would cost more than the heap does
            start = arrival
        heapreplace(free, start + service_s)
        add(start)
    return starts


class _FirstCome:
    """One queue for all lengths: a batch is a run of neighbours, so that heads of batches say everything."""

    def __init__(self, arrivals: list[float], ranks: list[int], policy: BatchingPolicy) -> None:
        self._most, self._window_s = policy.max_batch, policy.batch_window_s
        self._arrivals = arrivals + [inf] * self._most
        self._ranks = ranks
        self._head = 0
        self._heads: list[int] = []

    def ready_s(self) -> float:
        """At once, or when the batch is full or its window over."""
        oldest = self._arrivals[self._head]
        if not self._window_s:
            return oldest
        return min(oldest + self._window_s, self._arrivals[self._head + self._most - 1])

    def take(self, start_s: float) -> tuple[int, int, int]:
        """The oldest requests that are there, as many as fit."""
        head, arrivals = self._head, self._arrivals
        end, limit = head + 1, head + self._most
        while end < limit and arrivals[end] <= start_s:
            end += 1
        self._heads.append(head)
        self._head = end
        if end == head + 1:
            return head, 1, self._ranks[head]
        return head, end - head, max(self._ranks[head:end])

    def batch_of(self) -> Integers:
        """Heads, spread over the requests behind them."""
        import numpy as np

        heads = np.asarray(self._heads, dtype=np.int64)
        return np.repeat(np.arange(heads.size), np.diff(heads, append=len(self._ranks)))


class _ByLength:
    """One queue per bucket; a free replica serves the bucket with a batch to give whose head is oldest."""

    def __init__(self, arrivals: list[float], ranks: list[int], bucket_of: list[int], policy: BatchingPolicy) -> None:
        members: dict[int, list[int]] = {}
        for request, bucket in enumerate(bucket_of):
            members.setdefault(bucket, []).append(request)
        self._members = list(members.values())
        self._buckets = [
            _FirstCome([arrivals[i] for i in m], [ranks[i] for i in m], policy) for m in self._members
        ]  # fmt: skip
        self._taken = [0] * len(self._members)
        self._ready = [bucket.ready_s() for bucket in self._buckets]
        self._batch_of = [0] * len(arrivals)
        self._batches = 0

    def ready_s(self) -> float:
        """When the first bucket has a batch to give."""
        return min(self._ready, default=inf)

    def take(self, start_s: float) -> tuple[int, int, int]:
        """The oldest requests of the bucket whose head came first, of those that have a batch to give."""
        heads = (
            (self._members[b][self._taken[b]], b) for b, ready in enumerate(self._ready) if ready <= start_s
        )  # fmt: skip
        oldest, b = min(heads)
        _, size, longest = self._buckets[b].take(start_s)
        for request in self._members[b][self._taken[b] : self._taken[b] + size]:
            self._batch_of[request] = self._batches
        self._batches += 1
        self._taken[b] += size
        self._ready[b] = self._buckets[b].ready_s()
        return oldest, size, longest

    def batch_of(self) -> Integers:
        """As noted while taking."""
        import numpy as np

        return np.asarray(self._batch_of, dtype=np.int64)


class _Fleet:
    """Replicas that come and go: a heap of (free from, number), changes still to come, and who was held when."""

    def __init__(self, traffic: Traffic, replicas: int, changes: Sequence[FleetChange]) -> None:
        begin_s = float(traffic.arrival_s[0]) if traffic.requests else 0.0
        self._begin_s = [begin_s] * replicas
        self._end_s: dict[int, float] = {}
        self._free = [(-inf, number) for number in range(replicas)]
        self._changes = sorted(changes, key=lambda change: change.at_s, reverse=True)
        self.most = replicas
        heapify(self._free)
        if replicas < 1:
            raise InputError("autoscaling: a fleet needs at least 1 replica at any time")

    def start_s(self, ready_s: float) -> float:
        """When a batch that may leave at `ready_s` finds a replica, changes up to then made."""
        while True:
            start_s = max(ready_s, self._free[0][0])
            if not self._changes or self._changes[-1].at_s > start_s:
                return start_s
            self._change(self._changes.pop())

    def occupy(self, until_s: float) -> None:
        """The replica that is free first is busy until then."""
        heapreplace(self._free, (until_s, self._free[0][1]))

    def lifetimes(self, last_finish_s: float) -> tuple[Lifetime, ...]:
        """Who was held from when to when, up to the last end of service; changes until then are made first."""
        while self._changes and self._changes[-1].at_s <= last_finish_s:
            self._change(self._changes.pop())
        ends = [self._end_s.get(number, max(last_finish_s, begin)) for number, begin in enumerate(self._begin_s)]
        return tuple(Lifetime(begin, end) for begin, end in zip(self._begin_s, ends, strict=True))

    def _change(self, change: FleetChange) -> None:
        """Orders replicas, or gives back those that are free first."""
        for _ in range(change.count):
            heappush(self._free, (change.at_s + change.ready_after_s, len(self._begin_s)))
            self._begin_s.append(change.at_s)
        self.most = max(self.most, len(self._free))
        if len(self._free) + min(0, change.count) < 1:
            raise InputError("autoscaling: a fleet needs at least 1 replica at any time")
        for _ in range(-change.count):
            free_s, number = heappop(self._free)
            self._end_s[number] = max(change.at_s, free_s)
