"""Small traffics, a law of service, and a second simulator written as plainly as can be, to check the fast one by."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from hypothesis import strategies as st

from castbench.cost.replay import BatchingPolicy
from castbench.cost.service import LinearTime, Service
from castbench.cost.traffic import Traffic

MICROSECOND_PER_TOKEN = Service(LinearTime(0.0, 1e-6))
"""Lengths are service times in microseconds: any distribution of service times, told through lengths."""
QUARTERS = Service(LinearTime(0.25, 0.25))
"""A step of b rows of n tokens takes (1 + b·n)/4 s: exact in binary, so that two simulators can be equal."""


@st.composite
def traffics(draw: st.DrawFn, most: int = 40) -> Traffic:
    """Up to `most` requests at quarters of a second, many at one moment, with lengths from 1 to 12."""
    gaps = draw(st.lists(st.sampled_from((0, 0, 1, 1, 2, 5, 40)), min_size=1, max_size=most))
    lengths = draw(st.lists(st.integers(1, 12), min_size=len(gaps), max_size=len(gaps)))
    return Traffic.of(np.cumsum(gaps) / 4, lengths)


policies = st.builds(
    BatchingPolicy,
    max_batch=st.integers(1, 5),
    batch_window_s=st.sampled_from((0.0, 0.0, 0.25, 1.0, 3.0)),
    bucket_edges=st.sampled_from(((), (), (3,), (2, 6))),
)


def plain_starts(traffic: Traffic, service: Service, replicas: int, policy: BatchingPolicy) -> list[float]:
    """Start of every request, by looking at the whole system at every moment at which anything may happen."""
    arrivals, tokens = traffic.arrival_s.tolist(), traffic.tokens.tolist()
    starts = [inf] * len(arrivals)
    free_at = [-inf] * replicas
    moments = {*arrivals, *(a + policy.batch_window_s for a in arrivals)}
    while moments:
        now = min(moments)
        moments.discard(now)
        while min(free_at) <= now:
            batch = _batch_at(now, arrivals, tokens, starts, policy)
            if not batch:
                break
            longest = max(tokens[i] for i in batch)
            end = now + float(service.mean_seconds(len(batch), np.array([longest]))[0])
            free_at[free_at.index(min(free_at))] = end
            moments.add(end)
            for i in batch:
                starts[i] = now
    return starts


def _batch_at(
    now: float, arrivals: Sequence[float], tokens: Sequence[int], starts: Sequence[float], policy: BatchingPolicy
) -> list[int]:
    """Who leaves now if a replica is free: of the buckets with a batch to give, that with the oldest request."""
    buckets: dict[int, list[int]] = {}
    for i, arrival in enumerate(arrivals):
        if arrival <= now and starts[i] == inf:
            buckets.setdefault(sum(tokens[i] > edge for edge in policy.bucket_edges), []).append(i)
    ready = [
        waiting
        for waiting in buckets.values()
        if len(waiting) >= policy.max_batch or arrivals[waiting[0]] + policy.batch_window_s <= now
    ]
    return min(ready, default=[])[: policy.max_batch]
