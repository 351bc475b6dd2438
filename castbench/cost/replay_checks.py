"""What must hold of every replay, computed anew from its starts and ends, for tests and stored figures."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.cost.replay import Replay

ROUNDING = 1e-9
"""Relative size of differences that are rounding."""


def broken_laws(replay: Replay) -> Iterator[str]:
    """Every law that a replay through a constant fleet breaks, a sentence each; nothing where all hold."""
    checks = (_requests_are_conserved, _time_runs_forward, _replicas_are_enough, _no_replica_idles, _littles_law)
    for check in checks:
        problem = check(replay) if replay.traffic.requests else None
        if problem:
            yield problem


def mean_in_system(replay: Replay) -> float:
    """Time-average number of requests waiting or served from the first arrival to the last end: by counting them
    between every two events, not from latencies.
    """
    import numpy as np

    times = np.concatenate((replay.traffic.arrival_s, replay.finish_s))
    change = np.repeat((1, -1), replay.traffic.requests)
    order = np.argsort(times, kind="stable")
    there = np.cumsum(change[order])[:-1]
    return float((there * np.diff(times[order])).sum() / replay.makespan_s)


def _requests_are_conserved(replay: Replay) -> str | None:
    """Every request is in one batch, and no batch is empty or too large."""
    import numpy as np

    sizes = np.bincount(replay.batch_of, minlength=replay.batch_start_s.size)
    whole = replay.batch_of.size == replay.traffic.requests == int(sizes.sum())
    fits = sizes.min() >= 1 and sizes.max() <= replay.policy.max_batch and sizes.size == replay.batch_start_s.size
    return None if whole and fits else "requests were lost, doubled, or put in batches of a wrong size"


def _time_runs_forward(replay: Replay) -> str | None:
    """Nobody is served before arriving, and batches start in their order."""
    import numpy as np

    if (replay.wait_s < 0).any() or (replay.batch_service_s < 0).any():
        return "a request was served before it arrived, or in less than no time"
    return None if (np.diff(replay.batch_start_s) >= 0).all() else "batches did not start one after the other"


def _replicas_are_enough(replay: Replay) -> str | None:
    """Never more batches at once than replicas."""
    import numpy as np

    ends = np.sort(replay.batch_start_s + replay.batch_service_s)
    before = np.arange(replay.batch_start_s.size)
    running = before - np.searchsorted(ends, replay.batch_start_s, side="right")
    return None if (running < replay.replicas).all() else "more batches ran at once than there are replicas"


def _no_replica_idles(replay: Replay) -> str | None:
    """Work conservation: a batch that starts later than it might found every replica busy until that very moment.

    It might start when its oldest request's window was over, or, if full, when its last request arrived.
    """
    import numpy as np

    oldest = np.full(replay.batch_start_s.size, np.inf)
    np.minimum.at(oldest, replay.batch_of, replay.traffic.arrival_s)
    last = np.full(replay.batch_start_s.size, -np.inf)
    np.maximum.at(last, replay.batch_of, replay.traffic.arrival_s)
    is_full = replay.batch_sizes == replay.policy.max_batch
    ready = np.minimum(oldest + replay.policy.batch_window_s, np.where(is_full, last, np.inf))
    late = replay.batch_start_s > ready
    ends = np.sort(replay.batch_start_s + replay.batch_service_s)
    begun = np.arange(replay.batch_start_s.size)
    busy_until_then = begun - np.searchsorted(ends, replay.batch_start_s, side="left")
    return None if (busy_until_then[late] >= replay.replicas).all() else "a replica idled while a batch could have left"


def _littles_law(replay: Replay) -> str | None:
    """L = λ·W: the mean number in the system is the rate over the makespan times the mean latency."""
    if replay.makespan_s == 0:
        return None
    expected = replay.traffic.requests / replay.makespan_s * float(replay.latency_s.mean())
    found = mean_in_system(replay)
    close = abs(found - expected) <= ROUNDING * max(1.0, expected) * max(1.0, replay.traffic.requests**0.5)
    return None if close else f"Little's law: {found:.9g} in the system on average, not {expected:.9g}"
