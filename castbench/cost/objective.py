"""What a fleet must keep: percentiles of latency or wait, how full it may be, and how many replicas there must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from castbench.cost.replay import Replay
from castbench.errors import InputError
from castbench.workload.spec import ServiceObjective

Measure = Literal["latency", "wait"]


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
    def name(self) -> str:
        """Such as "p99 wait"."""
        return f"p{self.share * 100:g} {self.of}"

    def __str__(self) -> str:
        return f"{self.name} ≤ {self.seconds * 1e3:g} ms"


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
        if not self.limits and self.max_utilization is None:
            raise InputError("objective: state a latency, a wait or max_utilization; else one replica would do for all")

    @classmethod
    def of_service(cls, service: ServiceObjective | None, max_utilization: float | None = None) -> Objective:
        """A profile's latency objectives as limits."""
        stated = (
            ((0.5, service.p50_ms), (0.95, service.p95_ms), (0.99, service.p99_ms)) if service is not None else ()
        )  # fmt: skip
        return cls(tuple(Limit(share, ms / 1e3) for share, ms in stated if ms is not None), max_utilization)

    @property
    def floor(self) -> int:
        """Fewest replicas, whatever the traffic."""
        return self.min_replicas * self.zones

    def bought(self, needed: int) -> int:
        """Replicas to buy where so many are needed: at least the floor, and the spares beyond."""
        return max(needed, self.floor) + self.spare

    def misses(self, replay: Replay) -> Iterator[str]:
        """What a replay misses, a sentence each; nothing where it keeps the objective."""
        for limit in self.limits:
            taken = replay.seconds_at(limit.share, limit.of)
            if taken is not None and taken > limit.seconds:
                yield f"{limit.name} is {taken * 1e3:.4g} ms, over {limit.seconds * 1e3:g} ms"
        if self.max_utilization is not None and replay.load is not None and replay.load > self.max_utilization:
            yield f"utilisation is {replay.load:.1%}, over {self.max_utilization:.1%}"

    def is_met(self, replay: Replay) -> bool:
        """Whether a replay misses nothing."""
        return next(self.misses(replay), None) is None

    def __str__(self) -> str:
        parts = [str(limit) for limit in self.limits]
        if self.max_utilization is not None:
            parts.append(f"utilisation ≤ {self.max_utilization:.0%}")
        return ", ".join(parts)
