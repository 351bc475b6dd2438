"""What a fleet must keep: percentiles of latency or wait, how full it may be, and how many replicas there must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from castbench.cost.replay import Replay
from castbench.errors import InputError
from castbench.said import Quantity, Statement, Unit, statement
from castbench.workload.spec import Demand, ServiceObjective

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

Measure = Literal["latency", "wait"]

_LIMITS: dict[Measure, str] = {"latency": "limit.latency", "wait": "limit.wait"}
_MISSES: dict[Measure, str] = {"latency": "miss.latency", "wait": "miss.wait"}

MOST_ASKED = 100_000
"""Replicas that a floor and spares may add up to."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`share` of the requests take at most `seconds`: from arrival to answer (latency) or to service (wait)."""

    share: float
    seconds: float
    of: Measure = "latency"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not self.seconds >= 0:
            raise InputError("objective: a share above 0 and up to 1, and 0 or more seconds, are needed")

    @property
    def values(self) -> dict[str, Quantity]:
        """What a sentence about it needs."""
        return {"share": Quantity(self.share * 100, Unit.GIVEN), "limit": Quantity(self.seconds * 1e3, Unit.MS)}


@dataclass(frozen=True, slots=True)
class Objective:
    """Everything asked of a fleet at once.

    max_utilization      most work per second and replica (`Replay.load`); None: not limited
    min_replicas, zones  at least min_replicas in each of so many zones
    spare                replicas bought beyond what is needed, so that as many may fail (N+1: 1)
    """

    limits: tuple[Limit, ...] = ()
    max_utilization: float | None = None
    min_replicas: int = 1
    zones: int = 1
    spare: int = 0

    def __post_init__(self) -> None:
        if self.max_utilization is not None and not 0 < self.max_utilization <= 1:
            raise InputError(f"objective: max_utilization must be above 0 and at most 1, got {self.max_utilization:g}")
        if min(self.min_replicas, self.zones) < 1 or self.spare < 0:
            raise InputError("objective: at least 1 replica and 1 zone, and 0 or more spare replicas, are needed")
        if self.min_replicas * self.zones + self.spare > MOST_ASKED:
            raise InputError(f"objective: at most {MOST_ASKED:,} replicas can be asked for, spare ones included")
        if not self.limits and self.max_utilization is None:
            raise InputError("objective: state a latency, a wait or max_utilization; else one replica would do for all")

    @classmethod
    def of_service(cls, service: ServiceObjective | None, max_utilization: float | None = None) -> Objective:
        """A profile's latency objectives as limits."""
        stated = (
            ((0.5, service.p50_ms), (0.95, service.p95_ms), (0.99, service.p99_ms)) if service is not None else ()
        )  # fmt: skip
        return cls(tuple(Limit(share, ms / 1e3) for share, ms in stated if ms is not None), max_utilization)

    @classmethod
    def of_demand(cls, demand: Demand) -> Objective:
        """Everything that a profile's demand asks of a fleet."""
        return cls.of_service(demand.objective, demand.max_utilization).as_redundant_as(demand)

    def as_redundant_as(self, demand: Demand) -> Objective:
        """The same latencies and utilisation, with a demand's fewest replicas, zones and spares."""
        return replace(self, min_replicas=demand.min_replicas, zones=demand.zones, spare=demand.spare)

    @property
    def floor(self) -> int:
        """Fewest replicas, whatever the traffic."""
        return self.min_replicas * self.zones

    def bought(self, needed: int) -> int:
        """Replicas to buy where so many are needed: at least the floor, and the spares beyond."""
        return max(needed, self.floor) + self.spare

    def bought_drawn(self, needed: Drawn) -> Drawn:
        """The same of a drawn number of replicas."""
        import numpy as np

        bought: Drawn = np.maximum(needed, self.floor) + self.spare
        return bought

    def misses(self, replay: Replay) -> Iterator[Statement]:
        """What a replay misses, one by one; nothing where it keeps the objective."""
        for limit in self.limits:
            taken = replay.seconds_at(limit.share, limit.of)
            if taken is not None and taken > limit.seconds:
                yield statement(_MISSES[limit.of], taken=Quantity(taken * 1e3, Unit.MS), **limit.values)
        if self.max_utilization is not None and replay.load is not None and replay.load > self.max_utilization:
            yield statement(
                "miss.utilization", load=Quantity(replay.load * 100, Unit.PERCENT),
                limit=Quantity(self.max_utilization * 100, Unit.PERCENT),
            )  # fmt: skip

    def is_met(self, replay: Replay) -> bool:
        """Whether a replay misses nothing."""
        return next(self.misses(replay), None) is None

    @property
    def said(self) -> Statement:
        """Everything asked, one after the other."""
        parts = [statement(_LIMITS[limit.of], **limit.values) for limit in self.limits]
        if self.max_utilization is not None:
            parts.append(statement("limit.utilization", limit=Quantity(self.max_utilization * 100, Unit.PERCENT)))
        return statement("limits", parts=tuple(parts))
