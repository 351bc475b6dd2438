"""The load generator: sends every request at its time, whatever the server does, and puts the answers together.

A request's latency counts from the time it was to arrive, not from when it was sent: a late sender must not make a slow
server look fast (coordinated omission).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.quantiles import quantile
from castbench.cost.replay import BatchingPolicy, Replay
from castbench.errors import HardwareError
from castbench.rehearsal.seam import Clock, ServedBatch, Server

if TYPE_CHECKING:
    from castbench.cost.traffic import Traffic

LEAD_S = 0.05
"""From the call to the first arrival, so that the first request is not late already."""
LEAST_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What was served, as a replay with real starts and seconds; `late_p99_s`: 99 % were sent no later than that."""

    observed: Replay
    late_p99_s: float


def play(
    server: Server, clock: Clock, traffic: Traffic, policy: BatchingPolicy, patience_s: float,
    on_share: Callable[[float], None] | None = None,
) -> Played:  # fmt: skip
    """Send the traffic in time and wait for all answers, at most `patience_s` (at least a minute) after the last.

    Raises HardwareError where the server died, or an answer is missing then.
    """
    import numpy as np

    origin_s = clock.now_s() + LEAD_S - float(traffic.arrival_s[0])
    due_s: list[float] = (origin_s + traffic.arrival_s).tolist()
    tokens: list[int] = traffic.tokens.tolist()
    batches: list[ServedBatch] = []
    late_s: list[float] = []
    answered, end_s = 0, due_s[-1] + max(LEAST_PATIENCE_S, patience_s)
    while answered < len(due_s):
        sent, now_s = len(late_s), clock.now_s()
        if sent < len(due_s) and now_s >= due_s[sent]:
            server.send(sent, tokens[sent], due_s[sent])
            late_s.append(now_s - due_s[sent])
            continue
        if now_s >= end_s:
            raise HardwareError(f"the server answered {answered:,} of {len(due_s):,} requests and then kept silent")
        batch = server.receive((due_s[sent] if sent < len(due_s) else end_s) - now_s)
        if batch is not None:
            batches.append(batch)
            answered += len(batch.numbers)
            if on_share is not None:
                on_share(answered / len(due_s))
    return Played(_as_replay(traffic, policy, batches, origin_s), quantile(np.asarray(late_s), 0.99) or 0.0)


def _as_replay(traffic: Traffic, policy: BatchingPolicy, batches: list[ServedBatch], origin_s: float) -> Replay:
    """The batches as the replay tells them, times counted as the traffic's are."""
    import numpy as np

    batch_of = np.full(traffic.requests, -1, dtype=np.int64)
    for index, batch in enumerate(batches):
        batch_of[list(batch.numbers)] = index
    if (batch_of < 0).any() or sum(len(batch.numbers) for batch in batches) != traffic.requests:
        raise HardwareError("the server answered some requests twice and others not at all")
    began_s = np.array([batch.began_s for batch in batches])
    done_s = np.array([batch.done_s for batch in batches])
    return Replay(traffic, 1, policy, batch_of, began_s - origin_s, done_s - began_s)
