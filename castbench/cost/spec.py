"""The nouns of the money stage: price, surface, capacity, savings; ranges are 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from castbench.plan import Arm
from castbench.records import Caveat
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import Batching, Demand, LengthDistribution, Regime


class Recommendation(StrEnum):
    """What to do with a mechanism, in the only words that are used for it."""

    KEEP = "KEEP"
    TUNE_FIRST = "TUNE-FIRST"
    PILOT = "PILOT"
    ROLL_OUT = "ROLL-OUT"


class QualityStatus(StrEnum):
    """What is known of a mechanism's quality against the baseline's."""

    NOT_MEASURED = "not_measured"
    LOWER = "lower"
    EQUAL = "equal_within_margin"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one billing unit (an instance with `gpus` GPUs, or a CPU server with 0) per hour.

    flags: why the row is doubtful (suspect rules, age) in sentences, empty when it is not; `caveats` says the same
    in the words that travel with numbers. spot_usd_per_hour: the catalogue's other price of the same instance.
    contract: the user's own (stated in the profile, or of a price list of theirs): redacted reports leave it out.
    term_years: how long a reservation is paid for, whatever is used; None: no such commitment is known.
    """

    usd_per_hour: float
    name: str
    plan: str
    gpus: int
    as_of: str | None
    source: str
    cloud: str | None = None
    region: str | None = None
    accelerator: str | None = None
    host_included: bool | None = None
    contract: bool = False
    flags: tuple[str, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    instance: str | None = None
    vcpus: int | None = None
    memory_gib: float | None = None
    spot_usd_per_hour: float | None = None
    note: str | None = None
    term_years: int | None = None

    @property
    def devices(self) -> int:
        """Devices that serve in one billing unit: its GPUs, or 1 for a CPU server."""
        return max(1, self.gpus)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way of running an arm: how requests are batched, and the regime."""

    label: str
    batch_size: int
    batching: Batching
    regime: Regime = "eager"

    @property
    def how(self) -> str:
        """Batch size, batching where it matters, and regime: "batch 8, padded, eager"."""
        filled = f", {self.batching}" if self.batch_size > 1 else ""
        return f"batch {self.batch_size}{filled}, {self.regime}"

    def __str__(self) -> str:
        return f"{self.label} ({self.how})"


@dataclass(frozen=True, slots=True)
class ArmProjection:
    """What one arm would cost in its best configuration, against the cheapest exact one. None: not known.

    seconds_per_request   device seconds one request takes, averaged over the traffic
    replicas              whole billing units; `replicas_fractional` before rounding up
    replicas_shares       distribution of `replicas` over the draws: (replicas, share), ascending
    utilization           share of time the replicas are busy
    saving_usd_per_hour   what the bill falls by (whole units); negative: it rises
    saving_percent        the same in per cent of the baseline's cost, 0 to 100 where something is saved
    cash_saving_usd_per_hour   what leaves the invoice: here the saving itself, no commitments being known
    capacity_released_units_per_hour   billing units per hour no longer needed, as a fraction
    speedup               ratio of the baseline configuration's seconds per request to this one's
    crossover             last length not won and first one won for good, at batch 1 and in the regime of the headline's
                          baseline; see cost/verdicts.py
    interpolation_error   relative error at the held-out point (interpolated over measured, minus 1); None where
                          there is no such point or this arm was not measured there
    """

    arm: Arm
    configuration: Configuration | None
    reason: str | None
    seconds_per_request: Estimate | None
    usd_per_million_tokens: Estimate | None
    replicas: int | None
    replicas_fractional: Estimate | None
    replicas_shares: tuple[tuple[int, float], ...]
    utilization: float | None
    cost_usd_per_hour: Estimate | None
    saving_usd_per_hour: Estimate | None
    saving_percent: float | None
    probability_saving_positive: float | None
    capacity_released_units_per_hour: Estimate | None
    cash_saving_usd_per_hour: Estimate | None
    speedup: Estimate | None
    verdict: Verdict
    peak_memory_bytes: int | None
    crossover: tuple[int | None, int | None]
    interpolation_error: float | None
    recommendation: Recommendation
    quality_status: QualityStatus
    caveats: tuple[Caveat, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """The whole money stage of one run: every arm but the ceilings, the baseline at its best, what was assumed.

    today          the profile's baseline label in its own best configuration
    baseline       the cheapest exact configuration measured, which savings are counted against
    ceiling        speed-up over `baseline` if the mixing cost nothing (Amdahl); None: not measured
    money_missing  why there is no money figure, in a sentence; None where there is
    """

    arms: tuple[ArmProjection, ...]
    today: Configuration | None
    baseline: Configuration | None
    ceiling: Estimate | None
    module_ceiling: Estimate | None
    price: Price | None
    demand: Demand | None
    mix: LengthDistribution
    money_missing: str | None
    assumptions: tuple[str, ...]

    def arm(self, label: str) -> ArmProjection:
        """The projection of that label; KeyError if there is none."""
        for projected in self.arms:
            if projected.arm.label == label:
                return projected
        raise KeyError(label)
