"""The nouns of what lies beyond today's saving: break-even, growth, sensitivity, the next measurement, energy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from castbench.plan import Group
from castbench.said import Statement
from castbench.stats import Estimate
from castbench.workload.spec import ElectricityTerms, OneOffCosts

HORIZON_MONTHS = 120
"""Months that are looked ahead: what has not paid back in ten years is not waited for."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When one-off costs have come back as cash saved. Infinite months: not within HORIZON_MONTHS.

    one_off_usd         all that was stated, dual running as the new fleet's cost; a range where its size is not sure
    cash_usd_per_month  cash saved in the first month
    months              at the demand as it is
    months_growing      with the stated growth; None where none is stated
    within              (months, probability of breaking even by then), growth included where it is stated;
                        None without draws
    never_probability   that it does not within HORIZON_MONTHS
    """

    stated: OneOffCosts
    one_off_usd: Estimate
    cash_usd_per_month: Estimate
    months: Estimate
    months_growing: Estimate | None
    within: tuple[tuple[int, float | None], ...]
    never_probability: float | None


@dataclass(frozen=True, slots=True)
class GrownYear:
    """Whole servers of both after some years of growth, and what they cost; None: no price is known."""

    years: int
    requests_per_second: float
    baseline_replicas: Estimate
    replicas: Estimate
    baseline_cost_usd_per_hour: Estimate | None
    cost_usd_per_hour: Estimate | None
    saving_usd_per_hour: Estimate | None


@dataclass(frozen=True, slots=True)
class Growth:
    """What the stated growth of the rate does to both fleets."""

    percent_per_year: float
    years: tuple[GrownYear, ...]


class Moved(StrEnum):
    """What is moved."""

    PRICE = "price"
    RATE = "rate"
    UTILIZATION = "utilization"
    TIMES = "times"
    LENGTHS = "lengths"
    ATTENTION = "attention"


@dataclass(frozen=True, slots=True)
class Factor:
    """One assumption moved alone, and the saving at its lower and upper value; None: not covered by the measurements.

    base, lower, upper   of the factor: USD per hour, requests per second, shares; TIMES is the subject's time over
                         the baseline's, LENGTHS a factor on all lengths
    now                  saving in USD per hour as everything was assumed, in whole servers
    at_lower, at_upper   the same there; configurations stay as they are
    flips_at             the nearest value at which something is saved no more, or for the first time; None: nowhere
                         within `searched`
    searched             lowest and highest value that was tried; None where the factor cannot change the sign
    """

    moved: Moved
    base: float
    lower: float
    upper: float
    now: float
    at_lower: float | None
    at_upper: float | None
    flips_at: float | None
    searched: tuple[float, float] | None

    @property
    def low(self) -> float:
        """The least that is saved over what is covered."""
        return min(self._known)

    @property
    def high(self) -> float:
        """The most that is saved over what is covered."""
        return max(self._known)

    @property
    def _known(self) -> list[float]:
        return [saving for saving in (self.now, self.at_lower, self.at_upper) if saving is not None]


class Wanted(StrEnum):
    """What should be measured next."""

    FIRST_ROUNDS = "first-rounds"
    ROUNDS = "rounds"
    ALL_ROUNDS = "all-rounds"
    ENDLESS = "endless"
    LENGTHS = "lengths"
    FRESH = "fresh"
    QUALITY = "quality"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class NextMeasurement:
    """The measurement that could change what is recommended.

    group       the shape at which more rounds help most; None where it is no matter of one shape
    rounds      further rounds, there or at every shape of both configurations; None where it is no matter of rounds
    seconds     what they take on the machine of this run, by the rounds it holds
    usd         the same at the price of one server; None: no price is known
    """

    wanted: Wanted
    group: Group | None = None
    rounds: int | None = None
    seconds: float | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What lies ahead of the arm that the headline speaks of.

    subject              its label
    break_even           None: no one-off costs are stated or needed, or no money is known
    growth               None: no growth is stated
    sensitivity          what each assumption does to its saving, the strongest first; empty where no money is known
    steps_break_even     in training: how many times the baseline's steps it may need at the same cost to quality
    """

    subject: str
    break_even: BreakEven | None
    growth: Growth | None
    sensitivity: tuple[Factor, ...]
    next_measurement: NextMeasurement
    steps_break_even: Estimate | None


@dataclass(frozen=True, slots=True)
class ArmEnergy:
    """Energy of one mechanism in the configuration that is costed. None: not known, `missing` says why.

    kwh_per_million_tokens           while working, PUE included where it is stated
    kwh_per_month                    the same of a month's traffic
    idle_kwh_per_month               of the fleet while it waits with the model loaded, PUE included
    usd_per_month, kg_co2_per_month  of both, of what is known of them
    source, scope                    how the joules were read, and what the readings cover
    """

    label: str
    missing: Statement | None
    kwh_per_million_tokens: Estimate | None = None
    kg_co2_per_million_tokens: Estimate | None = None
    kwh_per_month: Estimate | None = None
    idle_kwh_per_month: float | None = None
    usd_per_month: Estimate | None = None
    kg_co2_per_month: Estimate | None = None
    source: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Rented:
    """The same GPU from a price list, beside a server of one's own; USD per hour of one GPU.

    even_at_share   share of the hours in use from which on one's own costs less; None: at no share
    """

    gpu: str
    name: str
    source: str
    as_of: str | None
    rented_usd_per_gpu_hour: float
    owned_usd_per_gpu_hour: float
    even_at_share: float | None


@dataclass(frozen=True, slots=True)
class Electricity:
    """What was stated of electricity, and what every mechanism takes."""

    terms: ElectricityTerms
    arms: tuple[ArmEnergy, ...]

    def of(self, label: str) -> ArmEnergy | None:
        """One mechanism's energy; None for a label that there is none of."""
        return next((arm for arm in self.arms if arm.label == label), None)
