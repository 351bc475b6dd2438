"""What a report consists of: unrounded numbers and statements, no sentence and no layout yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from castbench.cost.spec import ArmProjection, Configuration, Price
from castbench.plan import Arm, Group
from castbench.records import Caveat, Environment, Status
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import Demand, LengthDistribution


class Unit(StrEnum):
    """What a quantity counts; GIVEN is a number somebody stated, shown with all the digits they gave."""

    MS = "ms"
    MIB = "mib"
    USD = "usd"
    USD_PER_HOUR = "usd_per_hour"
    USD_PER_MILLION_TOKENS = "usd_per_million_tokens"
    TIMES = "times"
    PERCENT = "percent"
    PROBABILITY = "probability"
    TOKENS = "tokens"
    TOKENS_PER_SECOND = "tokens_per_second"
    COUNT = "count"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Quantity:
    """An unrounded number with its interval, if it has one, and its unit."""

    value: float
    unit: Unit
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate | None, unit: Unit, factor: float = 1.0) -> Quantity | None:
        """An estimate times `factor`, interval turned round where the factor is negative; None stays None."""
        if estimate is None:
            return None
        low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
        return cls(estimate.value * factor, unit, *((low, high) if factor >= 0 else (high, low)))


Value = Quantity | tuple[Quantity, ...] | str | None
"""What a statement can be filled with; several quantities are spoken as a list."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence, unspoken: the name of its template in text.py, and the values to put in."""

    key: str
    values: tuple[tuple[str, Value], ...] = ()


def statement(key: str, **values: Value) -> Statement:
    """A statement with its values by name."""
    return Statement(key, tuple(values.items()))


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One mechanism at one shape, as measured; None: not known.

    latency_ms   median step: mean over worker processes with a 95 % interval over them
    mean_ms      mean wall time of a step, stalls included
    tokens_per_s real tokens; in padded groups the number expected from the length mix
    """

    arm: Arm
    status: Status
    reason: str | None
    latency_ms: Estimate | None
    mean_ms: float | None
    step_p95_ms: float | None
    step_p99_ms: float | None
    sequences_per_s: float | None
    tokens_per_s: float | None
    peak_memory_mib: float | None
    weights_mib: float | None
    parity_error: float | None
    ran_as: str | None
    speedup: Estimate | None
    verdict: Verdict | None
    rounds: int
    stopped_by: str | None
    caveats: tuple[Caveat, ...]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """All mechanisms at one shape."""

    group: Group
    rows: tuple[CaseRow, ...]


@dataclass(frozen=True, slots=True)
class CaveatNote:
    """A doubt and the labels it touches; no labels: the whole run."""

    caveat: Caveat
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Which run this is, where it was measured, and under which rules."""

    run_id: str
    created_at: str
    profile_name: str
    profile_source: str
    path: str | None
    profile_sha256: str
    comparable_sha256: str
    plan_sha256: str
    environment: Environment
    phase: str
    scope: str
    dtype: str
    baseline_label: str
    same_within: float
    damage: tuple[str, ...]
    resumed: int
    seed: int


@dataclass(frozen=True, slots=True)
class Money:
    """What the projection stands on; `missing` says in a sentence why there is no money figure."""

    today: Configuration | None
    baseline: Configuration | None
    price: Price | None
    demand: Demand | None
    mix: LengthDistribution
    missing: str | None
    ceiling: Estimate | None
    module_ceiling: Estimate | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is said of one run, in the order in which it is said."""

    run: RunFacts
    warnings: tuple[Statement, ...]
    headline: tuple[Statement, ...]
    mechanisms: tuple[ArmProjection, ...]
    money: Money
    ceilings: tuple[Statement, ...]
    groups: tuple[GroupTable, ...]
    assumptions: tuple[Statement, ...]
    caveats: tuple[CaveatNote, ...]
    reproduce: tuple[str, ...]
