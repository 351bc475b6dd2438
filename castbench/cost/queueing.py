"""Textbook queues: exact waits of M/M/1, M/D/1, M/M/c and M/G/1, and an approximation of G/G/c as a quick bound.

Sources: Gross, Shortle, Thompson and Harris, Fundamentals of Queueing Theory, 4th ed., 2.2-2.3 (M/M/c), 5.1 (M/G/1);
Franx, Oper. Res. Letters 29 (2001) (M/D/c waits); Allen, Probability, Statistics and Queueing Theory, 2nd ed., 5.3.
Rates are per second, times in seconds, `scv` is the variance over the squared mean. Waits are from arrival to the
start of service, first come first served. A utilisation of 1 or more has no steady state: waits are infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castbench.cost.objective import Objective

ROUNDING = 1e-12
"""What 1 - 0.99 may miss 0.01 by."""


def erlang_c(servers: int, load: float) -> float:
    """Probability of having to wait in M/M/c at an offered load of `load` erlangs; 1 from load = servers on.

    By the recursion of Erlang B, which neither overflows nor cancels.
    """
    if load >= servers:
        return 1.0
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mmc_mean_wait(rate: float, service_s: float, servers: int = 1) -> float:
    """Mean wait of M/M/c: C / (c/S - rate)."""
    return mgc_mean_wait(rate, service_s, servers, service_scv=1.0)


def mmc_wait_tail(rate: float, service_s: float, servers: int, seconds: float) -> float:
    """P(wait > seconds) of M/M/c: C · exp(-(c/S - rate) t)."""
    return mgc_wait_tail(rate, service_s, servers, seconds, service_scv=1.0)


def mmc_wait_quantile(rate: float, service_s: float, servers: int, share: float) -> float:
    """The wait of M/M/c that `share` of the requests do not exceed; 0 for those who need not wait."""
    load = rate * service_s
    if load >= servers:
        return math.inf
    waiting = erlang_c(servers, load)
    return max(0.0, math.log(waiting / (1 - share)) / (servers / service_s - rate)) if waiting else 0.0


def mg1_mean_wait(rate: float, service_s: float, service_scv: float) -> float:
    """Mean wait of M/G/1 (Pollaczek-Khinchine): rate · E[S²] / 2(1 - ρ)."""
    load = rate * service_s
    return load * service_s * (1 + service_scv) / (2 * (1 - load)) if load < 1 else math.inf


def md1_wait_cdf(rate: float, service_s: float, seconds: float) -> float:
    """P(wait ≤ seconds) of M/D/1, exact.

    With (k-1)D ≤ t < kD and u = kD - t, as seen u before the arrival: the wait is at most t just if those queued
    then, and those who came since, are at most k-1. So Σ_j Poisson(j; rate·u) · P(queued ≤ k-1-j), all terms positive.
    """
    load = rate * service_s
    if load >= 1:
        return 0.0
    if service_s == 0 or seconds < 0:
        return float(seconds >= 0)
    periods = math.floor(seconds / service_s) + 1
    came = rate * (periods * service_s - seconds)
    queued = _md1_queue_cdf(load, periods)
    term, total = math.exp(-came), 0.0
    for j in range(periods):
        total += term * queued[periods - 1 - j]
        term *= came / (j + 1)
    return min(1.0, total)


def md1_wait_quantile(rate: float, service_s: float, share: float) -> float:
    """The wait of M/D/1 that `share` of the requests do not exceed, by bisection on the exact distribution."""
    if rate * service_s >= 1:
        return math.inf
    if md1_wait_cdf(rate, service_s, 0.0) >= share:
        return 0.0
    high = service_s
    while md1_wait_cdf(rate, service_s, high) < share:
        high *= 2
    return _first(lambda t: md1_wait_cdf(rate, service_s, t) >= share, 0.0, high)


def mgc_mean_wait(
    rate: float, service_s: float, servers: int, *, service_scv: float, arrival_scv: float = 1.0
) -> float:
    """Mean wait of G/G/c after Allen and Cunneen: (cₐ² + cₛ²)/2 times that of M/M/c.

    With Poisson arrivals it is Lee and Longton's of M/G/c; exact for M/M/c, and for M/G/1 (Pollaczek-Khinchine).
    """
    load = rate * service_s
    if load >= servers:
        return math.inf
    if load == 0:
        return 0.0
    return (arrival_scv + service_scv) / 2 * erlang_c(servers, load) / (servers / service_s - rate)


def mgc_wait_tail(
    rate: float, service_s: float, servers: int, seconds: float, *, service_scv: float, arrival_scv: float = 1.0
) -> float:
    """P(wait > seconds) of G/G/c, approximately: Erlang's C, and an exponential wait of those who wait.

    Exact for M/M/c. It knows arrivals by one number of their gaps and nothing of bursts that last.
    """
    if seconds < 0:
        return 1.0
    waiting, decay = _exponential_wait(rate, service_s, servers, service_scv, arrival_scv)
    return waiting * math.exp(-seconds * decay) if waiting else 0.0


def servers_by_formula(
    rate: float,
    service_s: float,
    service_scv: float,
    objective: Objective,
    *,
    arrival_scv: float = 1.0,
    service_sample_s: Sequence[float] = (),
) -> int | None:
    """Fewest servers that keep an objective by `mgc_wait_tail`: a quick bound, never to be used alone.

    A latency is the wait and an independent service time out of `service_sample_s` (without one, the mean) one after
    the other. Floor and spare are not in it. None where no number of servers is enough.
    """
    sample = service_sample_s or (service_s,)
    if not _keeps(objective, sample, 0.0, (0.0, 1.0)):
        return None  # nobody would wait, and still it is not kept

    def enough(servers: int) -> bool:
        wait = _exponential_wait(rate, service_s, servers, service_scv, arrival_scv)
        return _keeps(objective, sample, rate * service_s / servers, wait)

    more = fewest = math.floor(rate * service_s) + 1
    while not enough(more):
        more *= 2
    return next(servers for servers in range(fewest, more + 1) if enough(servers))


def _exponential_wait(
    rate: float, service_s: float, servers: int, service_scv: float, arrival_scv: float
) -> tuple[float, float]:
    """The approximated wait: probability of waiting, and the decay per second of those who wait."""
    if rate * service_s >= servers:
        return 1.0, 0.0
    waiting = erlang_c(servers, rate * service_s)
    mean_s = mgc_mean_wait(rate, service_s, servers, service_scv=service_scv, arrival_scv=arrival_scv)
    return (waiting, waiting / mean_s) if mean_s else (0.0, math.inf)


def _keeps(objective: Objective, sample: Sequence[float], utilization: float, wait: tuple[float, float]) -> bool:
    """Whether waits of this probability and decay keep every limit."""
    waiting, decay = wait

    def tail(seconds: float) -> float:
        return 1.0 if seconds < 0 else waiting * math.exp(-seconds * decay) if waiting else 0.0

    if objective.max_utilization is not None and utilization > objective.max_utilization:
        return False
    for limit in objective.limits:
        services = (0.0,) if limit.of == "wait" else sample
        missed = math.fsum(tail(limit.seconds - service_s) for service_s in services) / len(services)
        if missed > 1 - limit.share + ROUNDING:
            return False
    return True


def _md1_queue_cdf(load: float, count: int) -> list[float]:
    """P(queued ≤ m) for m < count in M/D/1, without the one in service.

    By balancing crossings of every level of the chain at departures: up from 0 or j with more arrivals than places
    to the level, down with none; all terms positive.
    """
    none = math.exp(-load)
    more_than = [1 - none]  # P(arrivals in one service > k)
    term = none
    for k in range(1, count + 1):
        term *= load / k
        more_than.append(max(0.0, more_than[-1] - term))
    states = [1 - load]
    for n in range(count):
        up = states[0] * more_than[n] + math.fsum(states[j] * more_than[n + 1 - j] for j in range(1, n + 1))
        states.append(up / none)
    cumulative, total = [], states[0]
    for state in states[1:]:
        total += state
        cumulative.append(min(1.0, total))
    return cumulative


def _first(true_from: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition starts to hold between low and high, to a relative 1e-12."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if true_from(middle) else (middle, high)
    return high
