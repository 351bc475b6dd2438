"""Three lines over the traffic: a fixed fleet, an autoscaled one, and the ideal that follows the need at once.

fixed        the plan's replicas, all the time
autoscaled   decided every period from the work that came in the last one; ordered replicas serve after their start-up;
             replayed, so that what the delay costs in latency is seen
ideal        what each period needs to keep the objective by itself, known beforehand and free to change, never more
             than the fixed fleet: a bound, not an offer
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from castbench.cost.replay import FleetChange, Lifetime
from castbench.cost.sizing import Setting, size_fleet
from castbench.cost.traffic import BLOCK_S
from castbench.errors import InputError
from castbench.said import Statement
from castbench.units import SECONDS_PER_HOUR

TARGETS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Utilisations an autoscaler may aim at, tried from the cheapest."""


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """How a fleet follows its traffic.

    period_s         how often it decides, from the work that arrived since the last decision
    start_delay_s    from ordering a replica to its first request; paid for
    hold_s           it gives replicas back only when fewer would have done all this time
    floor, ceiling   fewest and most replicas
    billing_step_s   a replica's life is paid in whole steps of this; 0: to the moment
    step             replicas come in lots of this size (billing units)
    """

    period_s: float = 60.0
    start_delay_s: float = 120.0
    hold_s: float = 300.0
    floor: int = 1
    ceiling: int | None = None
    billing_step_s: float = 60.0
    step: int = 1

    def __post_init__(self) -> None:
        if self.period_s <= 0 or min(self.start_delay_s, self.hold_s, self.billing_step_s) < 0:
            raise InputError("autoscaling: the period must be above 0 s, delays and billing step 0 s or more")
        if min(self.floor, self.step) < 1 or (self.ceiling is not None and self.ceiling < self.floor):
            raise InputError("autoscaling: floor and step must be 1 or more, and the ceiling no lower than the floor")

    def clamped(self, wanted: float) -> int:
        """Whole lots within floor and ceiling."""
        lots = math.ceil(wanted / self.step) * self.step
        most = lots if self.ceiling is None else min(lots, self.ceiling)
        return max(math.ceil(self.floor / self.step) * self.step, most)


@dataclass(frozen=True, slots=True)
class Line:
    """One fleet over the traffic: what is paid, and whether it keeps the objective.

    replica_hours    paid, billing steps included; mean_replicas is that over the traffic's hours
    steps            (seconds from the first arrival, replicas held from then on)
    missed           what it misses of the objective; None where it was not replayed as a whole (ideal)
    aimed_at         utilisation the autoscaler aimed at
    """

    name: str
    replica_hours: float
    mean_replicas: float | None
    peak_replicas: int
    steps: tuple[tuple[float, int], ...]
    missed: tuple[Statement, ...] | None
    aimed_at: float | None = None


@dataclass(frozen=True, slots=True)
class DayLines:
    """The three, and how many hours of traffic they cover."""

    fixed: Line
    autoscaled: Line
    ideal: Line
    hours: float


def day_lines(setting: Setting, replicas: int, autoscaler: Autoscaler, *, period_s: float = BLOCK_S) -> DayLines:
    """The three lines for a fleet of `replicas` that keeps the objective. period_s: how often the ideal changes.

    The autoscaler aims at the highest utilisation of TARGETS with which it keeps the objective; where none does, at the
    lowest, and its line says what it misses.
    """
    return DayLines(
        _fixed(setting, replicas), _autoscaled(setting, autoscaler), _ideal(setting, replicas, period_s),
        setting.traffic.span_s / SECONDS_PER_HOUR,
    )  # fmt: skip


def scaled_fleet(setting: Setting, autoscaler: Autoscaler, aimed_at: float) -> list[tuple[float, int]]:
    """How many replicas the autoscaler wants from each decision on: (time, number), the first at the first arrival.

    Work is that of full batches. Before the first decision it is as though the first period had been seen already.
    """
    import numpy as np

    traffic, batch, period_s = setting.traffic, setting.policy.max_batch, autoscaler.period_s
    edges = traffic.edges_s(period_s)
    block_of = np.searchsorted(edges, traffic.arrival_s, side="right") - 1
    work_s = setting.service.mean_seconds(batch, traffic.tokens) / batch
    came = np.bincount(block_of, weights=work_s, minlength=edges.size - 1)
    wanted = [autoscaler.clamped(float(work) / period_s / aimed_at) for work in came]
    seen = [wanted[0], *wanted[:-1]]
    held = 1 + math.ceil(autoscaler.hold_s / period_s)
    numbers = [max(seen[max(0, k + 1 - held) : k + 1]) for k in range(len(seen))]
    return list(zip(edges[:-1].tolist(), numbers, strict=True))


def _fixed(setting: Setting, replicas: int) -> Line:
    """The same fleet all the time."""
    missed = tuple(setting.objective.misses(setting.outcome(replicas)))
    hours = replicas * setting.traffic.span_s / SECONDS_PER_HOUR
    return Line("fixed", hours, float(replicas), replicas, ((0.0, replicas),), missed)


def _autoscaled(setting: Setting, autoscaler: Autoscaler) -> Line:
    """The cheapest setting that keeps the objective, else the last one tried."""
    bench = setting.bench()
    for target in TARGETS:
        numbers = scaled_fleet(setting, autoscaler, target)
        replay, lifetimes = bench.run_changing(_changes(numbers, autoscaler), numbers[0][1])
        missed = tuple(setting.objective.misses(replay))
        if not missed:
            break
    hours = _paid_hours(lifetimes, autoscaler.billing_step_s)
    mean = _mean(hours, setting.traffic.span_s)
    return Line("autoscaled", hours, mean, replay.replicas, _steps(numbers), missed, target)


def _ideal(setting: Setting, replicas: int, period_s: float) -> Line:
    """Every period by itself: empty at its start, its own fewest replicas, at least the floor, at most `replicas`."""
    numbers: list[tuple[float, int]] = []
    hours = 0.0
    for begin, end in pairwise(setting.traffic.edges_s(period_s).tolist()):
        part = setting.traffic.between(begin, end)
        needed = 0
        if part.requests:
            sized = size_fleet(replace(setting, traffic=part), scan=False)
            needed = replicas if sized.needed is None else min(replicas, sized.needed)
        numbers.append((begin, max(setting.objective.floor, needed)))
        hours += numbers[-1][1] * (end - begin) / SECONDS_PER_HOUR
    mean = _mean(hours, setting.traffic.span_s)
    return Line("ideal", hours, mean, max(number for _, number in numbers), _steps(numbers), None)


def _changes(numbers: Sequence[tuple[float, int]], autoscaler: Autoscaler) -> list[FleetChange]:
    """Orders and returns between one decision and the next."""
    return [
        FleetChange(at_s, after - before, autoscaler.start_delay_s if after > before else 0.0)
        for (_, before), (at_s, after) in pairwise(numbers)
        if after != before
    ]


def _paid_hours(lifetimes: Sequence[Lifetime], step_s: float) -> float:
    """Replica hours on the bill: every life in whole steps."""
    lives = (life.end_s - life.begin_s for life in lifetimes)
    if step_s == 0:
        return math.fsum(lives) / SECONDS_PER_HOUR
    return math.fsum(math.ceil(life / step_s * (1 - 1e-12)) * step_s for life in lives) / SECONDS_PER_HOUR


def _mean(replica_hours: float, span_s: float) -> float | None:
    """Replica hours over the hours of the traffic."""
    return replica_hours * SECONDS_PER_HOUR / span_s if span_s else None


def _steps(numbers: Sequence[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Only where the number changes, from the first arrival on."""
    begin = numbers[0][0]
    kept = [numbers[0], *(after for before, after in pairwise(numbers) if after[1] != before[1])]
    return tuple((at_s - begin, number) for at_s, number in kept)
