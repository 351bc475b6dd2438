"""The nouns of the money stage: price, surface, capacity, savings; ranges are 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from castbench.cost.outlook_nouns import Electricity, Outlook, Rented
from castbench.plan import Arm
from castbench.records import Caveat
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import Batching, Demand, LengthDistribution, Observed, Regime


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
    electricity_usd_per_hour: what of the price of a server of one's own is electricity; None: not stated.
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
    electricity_usd_per_hour: float | None = None

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
        """Batch size, batching where it matters, and regime: "batch 8, padded, eager", in formats for machines."""
        filled = f", {self.batching}" if self.batch_size > 1 else ""
        return f"batch {self.batch_size}{filled}, {self.regime}"

    def __str__(self) -> str:
        return f"{self.label} ({self.how})"

    @property
    def manner(self) -> Statement:
        """`how` in the language of a report."""
        batch = Quantity(self.batch_size, Unit.COUNT)
        if self.batch_size == 1:
            return statement("how.one", batch=batch, regime=self.regime)
        return statement("how.several", batch=batch, batching=self.batching, regime=self.regime)

    @property
    def said(self) -> Statement:
        """The label with `manner`."""
        return statement("configuration", label=self.label, how=self.manner)


@dataclass(frozen=True, slots=True)
class Change:
    """What changing from one configuration to another gives; negative where it takes. None: not known.

    capacity_released_units_per_hour   billing units per hour no longer needed, as a fraction
    saving_usd_per_hour                whole units no longer needed times their price
    cash_saving_usd_per_hour           what leaves the invoice: the saving less what is paid whatever is used
    saving_percent                     the saving in per cent of the former's cost
    """

    capacity_released_units_per_hour: Estimate | None = None
    saving_usd_per_hour: Estimate | None = None
    cash_saving_usd_per_hour: Estimate | None = None
    saving_percent: float | None = None
    probability_saving_positive: float | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """One configuration as it would run; servers and cost are None where demand or price are not known."""

    configuration: Configuration
    seconds_per_request: Estimate
    replicas: int | None
    replicas_shares: tuple[tuple[int, float], ...]
    utilization: float | None
    cost_usd_per_hour: Estimate | None


Move = Literal["batching", "batch_size", "regime", "together", "mechanism", "new_model"]
"""What a step of the waterfall changes; together: several of the first three at once."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the waterfall: what is changed, what that leads to, and what it gives.

    alternatives   configurations measured that such a step could have led to; where none is cheaper, nothing is changed
    """

    move: Move
    to: Running
    change: Change
    alternatives: int


@dataclass(frozen=True, slots=True)
class Waterfall:
    """From what runs today, by steps that need no new model, to the mechanism that needs one, which is the last step.

    tuned   all steps but the last kind together; `total`: all of them
    """

    today: Running
    steps: tuple[Step, ...]
    tuned: Change
    total: Change


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The model of today held against what is observed; None: not stated or not known.

    bill_explained      device hours that the model needs over those paid for; 1 is all of them
    latency_explained   median time in the model over the median latency observed
    p50_s               the former of these two times
    demand_ratio        requests of the demand over those observed
    units_paid          billing units paid for, on average over a month
    bill_usd_per_hour   what they cost
    spare_units         whole units paid for beyond those that the model needs; 0 where none is
    """

    stated: Observed
    bill_explained: Estimate | None
    latency_explained: Estimate | None
    p50_s: Estimate | None
    demand_ratio: float | None
    units_paid: float | None
    bill_usd_per_hour: float | None
    spare_units: int | None


RangePart = Literal["rounds", "interpolation", "whole_servers"]
"""Where the range of a saving comes from; interpolation: with the dependence on what inputs hold."""


@dataclass(frozen=True, slots=True)
class RangeParts:
    """How wide the range of a saving is, and which of its parts makes it the widest; widths in USD per hour.

    width       in whole servers, as they are bought
    fractional  as if servers could be bought in fractions, so that no step hides or adds anything
    without     the latter without the noise of rounds, and without the doubt about interpolation and data
    dominant    the part without which it falls the most; None where there is no range
    """

    label: str
    width_usd_per_hour: float
    fractional_usd_per_hour: float
    without: tuple[tuple[RangePart, float], ...]
    dominant: RangePart | None


@dataclass(frozen=True, slots=True)
class Headroom:
    """Memory that one mechanism needs, weights included, against its device's and the smallest GPU that would do.

    gpu, gpu_bytes   of the catalogue, with room left for driver and fragmentation; None: not on a GPU, or none would do
    """

    label: str
    needed_bytes: int
    device_bytes: int
    gpu: str | None
    gpu_bytes: int | None


@dataclass(frozen=True, slots=True)
class Savings:
    """What is saved step by step, in capacity and in cash, how it stands to the bill, and what else was not measured.

    today_stated   whether the profile states how the baseline is served today; else its best configuration is meant
    unmeasured     steps that no measurement of this run covers, with what to do to measure each
    """

    today_stated: bool
    waterfall: Waterfall | None
    unmeasured: tuple[Statement, ...]
    observed: Reconciled | None
    range_parts: RangeParts | None
    headroom: tuple[Headroom, ...]


@dataclass(frozen=True, slots=True)
class ArmProjection:
    """What one arm would cost in its best configuration, against the cheapest exact one. None: not known.

    seconds_per_request   device seconds one request takes, averaged over the traffic
    usd_per_million_tokens   at the demand's utilisation, or at full load where no demand is stated
    replicas              whole billing units; `replicas_fractional` before rounding up
    replicas_shares       distribution of `replicas` over the draws: (replicas, share), ascending
    utilization           share of time the replicas are busy
    saving_usd_per_hour   what the bill falls by (whole units); negative: it rises
    saving_percent        the same in per cent of the baseline's cost, 0 to 100 where something is saved
    cash_saving_usd_per_hour   what leaves the invoice: the saving less what is paid whatever is used; cost/cash.py
    capacity_released_units_per_hour   billing units per hour no longer needed, as a fraction
    speedup               ratio of the baseline configuration's seconds per request to this one's
    crossover             last length not won and first one won for good, at batch 1 and in the regime of the headline's
                          baseline; see cost/verdicts.py
    interpolation_error   relative error at the held-out point (interpolated over measured, minus 1); None where
                          there is no such point or this arm was not measured there
    """

    arm: Arm
    configuration: Configuration | None
    reason: Statement | None
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
    usd_per_million_tokens_full_load: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """The whole money stage of one run: every arm but the ceilings, the baseline at its best, what was assumed.

    today          the profile's baseline label as it is served today, or in its own best configuration
    savings        the waterfall, the bill explained, what the range comes from
    outlook        break-even, growth, sensitivity and what to measure next, of the arm that the headline speaks of
    electricity    energy of every arm; None: nothing is stated of electricity
    rented         the same GPU rented, where the price is a server of one's own and the price list has it
    baseline       the cheapest exact configuration measured, which savings are counted against
    ceiling        speed-up over `baseline` if the mixing cost nothing (Amdahl); None: not measured
    money_missing  why there is no money figure; None where there is
    """

    arms: tuple[ArmProjection, ...]
    today: Configuration | None
    baseline: Configuration | None
    ceiling: Estimate | None
    module_ceiling: Estimate | None
    price: Price | None
    demand: Demand | None
    mix: LengthDistribution
    money_missing: Statement | None
    assumptions: tuple[Statement, ...]
    savings: Savings | None = None
    outlook: Outlook | None = None
    electricity: Electricity | None = None
    rented: Rented | None = None

    def arm(self, label: str) -> ArmProjection:
        """The projection of that label; KeyError if there is none."""
        for projected in self.arms:
            if projected.arm.label == label:
                return projected
        raise KeyError(label)
