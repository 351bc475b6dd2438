"""The queue of a server: the same rules as the replay's, for requests as they come and a clock that goes on by itself.

request ─▶ the bucket of its length (one bucket without edges) ─▶ oldest first, up to max_batch
a batch may leave when it is full, or when its oldest request has waited for the batch window
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from math import inf

from castbench.cost.replay import BatchingPolicy


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A request in the queue; requests of one moment are served in the order of their numbers."""

    arrival_s: float
    number: int
    tokens: int


class BatchQueue:
    """Waiting requests, batched by a policy (cost/replay.py has the rules). Requests are added in order of arrival."""

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        self._buckets: list[deque[Waiting]] = [deque() for _ in range(len(policy.bucket_edges) + 1)]

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def add(self, request: Waiting) -> None:
        """One more request."""
        self._buckets[bisect_left(self._policy.bucket_edges, request.tokens)].append(request)

    def ready_s(self) -> float:
        """When the first batch may leave, if nobody else comes; infinite when nobody waits."""
        return min(map(self._bucket_ready_s, self._buckets))

    def take(self, now_s: float) -> tuple[Waiting, ...]:
        """The batch that leaves now: of the buckets with a batch to give, that with the oldest request; maybe none."""
        ready = [bucket for bucket in self._buckets if self._bucket_ready_s(bucket) <= now_s]
        if not ready:
            return ()
        oldest = min(ready, key=lambda bucket: bucket[0])
        return tuple(oldest.popleft() for _ in range(min(len(oldest), self._policy.max_batch)))

    def _bucket_ready_s(self, bucket: deque[Waiting]) -> float:
        """When a bucket's next batch may leave."""
        if not bucket:
            return inf
        waited = bucket[0].arrival_s + self._policy.batch_window_s
        if len(bucket) < self._policy.max_batch:
            return waited
        return min(waited, bucket[self._policy.max_batch - 1].arrival_s)
