"""The replay against exact results of queueing theory, each within the simulation's own interval.

One long run per case; its first tenth is dropped (the system starts empty), the rest is cut into 40 batches, and the
interval is Student's t over their means (method of batch means; Law, Simulation Modeling and Analysis, 5th ed., 9.5.3).
A percentile is tested by the share of waits up to its exact value, since a share is a mean. The intervals of all cases
hold jointly with 95 % (Bonferroni), so that a sound replay passes; that they are not too wide to fail is tested beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from castbench import stats
from castbench.cost import queueing
from castbench.cost.replay import replay
from castbench.cost.traffic import Traffic
from tests.cost.queues import MICROSECOND_PER_TOKEN

BATCHES = 40
UTILIZATIONS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
SHARES = (0.5, 0.95, 0.99)
H2_SCV = 4.0
WIDEST = 0.4
"""Half-width over mean wait up to which an interval still tells something."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Queue:
    """A queue with service of mean 1 s: how services are drawn, its exact mean wait and its exact P(wait ≤ t)."""

    name: str
    servers: int
    services: Callable[[np.random.Generator, int], Floats]
    mean_wait: Callable[[float], float]
    wait_cdf: Callable[[float, float], float] | None
    times_as_long: float = 1.0

    def requests(self, utilization: float) -> int:
        """Enough for batch means to be nearly normal: more where the queue is long or services vary much."""
        return round(self.times_as_long * (1_000_000 if utilization >= 0.9 else 400_000))


def _two_phases(rng: np.random.Generator, n: int) -> Floats:
    """Hyperexponential of mean 1 and squared variation H2_SCV, phases of balanced means."""
    p, fast, slow = _h2()
    return np.where(rng.random(n) < p, rng.exponential(1 / fast, n), rng.exponential(1 / slow, n))


def _h2() -> tuple[float, float, float]:
    """Probability of the fast phase and both rates."""
    p = (1 + math.sqrt((H2_SCV - 1) / (H2_SCV + 1))) / 2
    return p, 2 * p, 2 * (1 - p)


def _h2_wait_cdf(rate: float, t: float) -> float:
    """P(wait ≤ t) of M/H2/1 from its transform: two exponentials, whose rates are the roots of a quadratic.

    W*(s) = (1-ρ)s / (s - rate + rate·S*(s)) is (1-ρ)(s+a)(s+b) / (s² + s(a+b-rate) + ab - rate(pb+(1-p)a)).
    """
    p, a, b = _h2()
    roots = np.roots([1.0, a + b - rate, a * b - rate * (p * b + (1 - p) * a)])
    first, second = (float(root.real) for root in roots)
    tail = 0.0
    for root, other in ((first, second), (second, first)):
        residue = (1 - rate) * (root + a) * (root + b) / (root - other)
        tail += residue * math.exp(root * t) / -root
    return 1 - tail


QUEUES = (
    Queue("M/M/1", 1, lambda rng, n: rng.exponential(1.0, n), lambda rate: queueing.mmc_mean_wait(rate, 1.0),
          lambda rate, t: 1 - queueing.mmc_wait_tail(rate, 1.0, 1, t)),
    Queue("M/D/1", 1, lambda rng, n: np.ones(n), lambda rate: queueing.mg1_mean_wait(rate, 1.0, 0.0),
          lambda rate, t: queueing.md1_wait_cdf(rate, 1.0, t)),
    Queue("M/M/4", 4, lambda rng, n: rng.exponential(1.0, n), lambda rate: queueing.mmc_mean_wait(rate, 1.0, 4),
          lambda rate, t: 1 - queueing.mmc_wait_tail(rate, 1.0, 4, t)),
    Queue("M/M/8", 8, lambda rng, n: rng.exponential(1.0, n), lambda rate: queueing.mmc_mean_wait(rate, 1.0, 8),
          lambda rate, t: 1 - queueing.mmc_wait_tail(rate, 1.0, 8, t), 2.0),
    Queue("M/H2/1", 1, _two_phases, lambda rate: queueing.mg1_mean_wait(rate, 1.0, H2_SCV), _h2_wait_cdf, 2.5),
    Queue("M/Lognormal/1", 1, lambda rng, n: rng.lognormal(-0.25, math.sqrt(0.5), n),
          lambda rate: queueing.mg1_mean_wait(rate, 1.0, math.expm1(0.5)), None),
)  # fmt: skip
JOINT_ERROR = 0.05 / (len(QUEUES) * len(UTILIZATIONS) * (1 + len(SHARES)))


def waits_of(queue: Queue, utilization: float, requests: int, seed: int) -> Floats:
    """Waits of one run in the order of arrival, the first tenth dropped."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / (utilization * queue.servers), requests))
    tokens = np.maximum(1, np.rint(queue.services(rng, requests) * 1e6))
    waits = replay(Traffic.of(arrivals, tokens), MICROSECOND_PER_TOKEN, queue.servers).wait_s
    return waits[requests // 10 :]


def batch_means(values: Floats, error: float) -> tuple[float, float]:
    """Mean and half-width of its interval of level 1 - error."""
    means = values[: values.size // BATCHES * BATCHES].reshape(BATCHES, -1).mean(axis=1)
    return float(means.mean()), t_quantile(1 - error / 2) * float(means.std(ddof=1)) / math.sqrt(BATCHES)


def t_quantile(share: float) -> float:
    """Student's t with one degree fewer than batches."""
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stats.student_t_share(middle, BATCHES - 1) < share else (low, middle)
    return high


def quantile_of(queue: Queue, rate: float, share: float) -> float:
    """The exact wait that `share` do not exceed."""
    assert queue.wait_cdf is not None
    low, high = 0.0, 500.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if queue.wait_cdf(rate, middle) >= share else (middle, high)
    return 0.0 if high < 1e-9 else high


@pytest.mark.slow
@pytest.mark.parametrize("utilization", UTILIZATIONS)
@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_waits_are_those_of_theory(queue: Queue, utilization: float) -> None:
    """Mean wait, and the shares that wait up to the exact p50, p95 and p99, are within the run's own interval."""
    waits = waits_of(
        queue, utilization, queue.requests(utilization), seed=100 * QUEUES.index(queue) + round(utilization * 100)
    )
    rate = utilization * queue.servers
    expected = queue.mean_wait(rate)
    mean, half = batch_means(waits, JOINT_ERROR)
    assert mean == pytest.approx(expected, abs=half)
    assert half <= WIDEST * expected
    for share in SHARES if queue.wait_cdf else ():
        t = quantile_of(queue, rate, share)
        exact = queue.wait_cdf(rate, t)
        below, half = batch_means((waits <= t).astype(float), JOINT_ERROR)
        assert below == pytest.approx(exact, abs=max(half, 1e-4)), share
        assert half <= 0.1


def test_the_intervals_are_as_sure_as_they_say() -> None:
    """Over 300 short runs of M/M/1 the 95 % interval holds the exact mean as often as 95 % would, to 4 errors."""
    queue, runs = QUEUES[0], 300
    held = 0
    for seed in range(runs):
        mean, half = batch_means(waits_of(queue, 0.5, 20_000, seed=1000 + seed), 0.05)
        held += abs(mean - queue.mean_wait(0.5)) <= half
    assert held / runs == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / runs))


def test_one_server_too_few_would_be_noticed() -> None:
    """The test is sharp enough to tell 4 servers from 5 at the same rate."""
    five = Queue("M/M/5", 5, QUEUES[2].services, QUEUES[2].mean_wait, None)
    waits = waits_of(five, 0.8 * 4 / 5, 250_000, seed=80)
    mean, half = batch_means(waits, JOINT_ERROR)
    assert abs(mean - QUEUES[2].mean_wait(0.8 * 4)) > 3 * half
