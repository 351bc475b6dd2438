"""The immutable nouns a workload profile becomes; no file format and no validation library in here."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Phase = Literal["inference", "training"]
Scope = Literal["encoder", "attention"]
Dtype = Literal["fp32", "bf16", "fp16"]
Batching = Literal["bucketed", "padded"]
Regime = Literal["eager", "compiled", "graph"]
"""How steps are launched: as written, through torch.compile, or replayed as a CUDA graph."""
SamplingMode = Literal["sustained", "burst"]
TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
"""Unit of a trace's times; iso: dates as ISO 8601 writes them."""
ParamValue = int | float | str | bool | None

ELEMENT_BYTES: dict[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of one batch: rows, and tokens per row after padding."""

    batch_size: int
    seq_len: int


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The served encoder that mechanisms are swapped into."""

    layers: int
    embed_dim: int
    num_heads: int
    ffn_dim: int
    vocab_size: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads


@dataclass(frozen=True, slots=True)
class LengthDistribution:
    """Document lengths as a discrete distribution: `tokens` ascending and distinct, `shares` adding up to 1.

    `exact` is True when the user listed the lengths themselves (shares), so that every one of them is measured;
    False when they stand for a continuous distribution (quantiles, a file), where a grid is measured and the
    rest interpolated.
    """

    tokens: tuple[int, ...]
    shares: tuple[float, ...]
    exact: bool
    source: str

    @property
    def mean_tokens(self) -> float:
        """Expected tokens per request."""
        return math.fsum(t * s for t, s in zip(self.tokens, self.shares, strict=True))

    def share_up_to(self, tokens: int) -> float:
        """Probability that a request has at most `tokens` tokens."""
        return min(1.0, math.fsum(self.shares[: bisect_left(self.tokens, tokens + 1)]))

    def longest_of(self, batch_size: int) -> LengthDistribution:
        """Distribution of the longest of `batch_size` independent requests: what a padded batch is padded to."""
        edges = [0.0, *(self.share_up_to(t) ** batch_size for t in self.tokens)]
        shares = tuple(high - low for low, high in pairwise(edges))
        return LengthDistribution(self.tokens, shares, self.exact, f"longest of {batch_size}: {self.source}")


@dataclass(frozen=True, slots=True)
class ServiceObjective:
    """Latency objectives of the service in milliseconds; None where none is stated."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None

    def __str__(self) -> str:
        """As it was stated: "p99 ≤ 250 ms"."""
        stated = (("p50", self.p50_ms), ("p95", self.p95_ms), ("p99", self.p99_ms))
        return ", ".join(f"{name} ≤ {limit_ms:g} ms" for name, limit_ms in stated if limit_ms is not None)


@dataclass(frozen=True, slots=True)
class TraceReference:
    """A file of observed requests that a demand was taken from, and how it is to be read again.

    path            as the profile gives it: relative to the profile's folder
    sha256          of the file as it lies there, in hex
    rows            requests in it that are used
    time_scale      factor on all times: at 0.5 the same requests come twice as fast
    time_column, time_unit, tokens_column   None: recognised by the layout of the file
    sort_within_s   how far a time may go back behind an earlier one; such requests are sorted
    skip_unusable   whether rows without a usable time or length are left out, rather than refused
    """

    path: str
    sha256: str
    rows: int
    time_scale: float = 1.0
    time_column: str | None = None
    time_unit: TimeUnit | None = None
    tokens_column: str | None = None
    sort_within_s: float = 60.0
    skip_unusable: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Observed requests in the order of their arrival, at least two and not all at once.

    arrival_s   seconds after the first request, ascending
    tokens      length of each
    source      where they come from, in words
    """

    arrival_s: NDArray[np.float64]
    tokens: NDArray[np.int32]
    source: str

    @property
    def requests_per_second(self) -> float:
        """Mean rate: one over the mean time between arrivals."""
        return (len(self.arrival_s) - 1) / float(self.arrival_s[-1])


@dataclass(frozen=True, slots=True)
class Demand:
    """How much traffic must be served, and how full a server may be; `trace`: the requests it was taken from.

    min_replicas, zones, spare   fewest replicas in each of so many zones, and replicas beyond what is needed; what
                                 follows from them is told by cost/objective.py
    growth_percent_per_year      by how much the rate grows in a year; None: not stated
    """

    requests_per_second: float
    objective: ServiceObjective | None = None
    max_utilization: float = 0.7
    trace: TraceReference | None = None
    min_replicas: int = 1
    zones: int = 1
    spare: int = 0
    growth_percent_per_year: float | None = None


@dataclass(frozen=True, slots=True)
class RunningToday:
    """How the baseline's label is served today; batches of 1 are `bucketed`: they have nothing to be padded to."""

    batch_size: int
    batching: Batching
    regime: Regime


@dataclass(frozen=True, slots=True)
class Observed:
    """What the service is seen to take today; None: not stated.

    gpu_hours_per_month   hours of devices that are paid for (of servers, on CPUs)
    requests_per_month    requests answered
    p50_ms                median latency, from arrival to answer
    """

    gpu_hours_per_month: float | None = None
    requests_per_month: float | None = None
    p50_ms: float | None = None


@dataclass(frozen=True, slots=True)
class OwnedHardware:
    """A server that was bought, as its owner states it; cost/owned.py makes a price per hour of it. None: not stated.

    purchase_usd        price of one server, host and GPUs
    years               over which it is written off
    utilization         share of the hours of those years in which it serves
    power_w             mean power of the server while it serves
    pue                 power of the whole room over that of its servers
    usd_per_kwh         price of electricity
    maintenance_share   maintenance per year, as a share of the purchase price
    """

    purchase_usd: float
    years: float
    utilization: float
    power_w: float | None = None
    pue: float | None = None
    usd_per_kwh: float | None = None
    maintenance_share: float | None = None


@dataclass(frozen=True, slots=True)
class PriceChoice:
    """What the profile says of a price: a contract price per hour, a row of the catalogue, or a server of one's own.

    discount_percent   off the on-demand price of a catalogue row, with plan reserved
    term_years         years that a reservation was made for
    """

    usd_per_hour: float | None = None
    plan: str = "on_demand"
    gpus: int = 1
    cloud: str | None = None
    instance: str | None = None
    region: str | None = None
    vcpus: int | None = None
    discount_percent: float | None = None
    term_years: int | None = None
    owned: OwnedHardware | None = None


@dataclass(frozen=True, slots=True)
class OneOffCosts:
    """What changing over to a new model costs once, as stated; None: not stated.

    dual_running_days   days that the fleets of today and of the new model run side by side
    """

    retraining_usd: float | None = None
    validation_usd: float | None = None
    dual_running_days: float | None = None
    engineering_usd: float | None = None


@dataclass(frozen=True, slots=True)
class ElectricityTerms:
    """What a kilowatt-hour at the device stands for, as stated; None: not stated.

    pue              power of the whole room over that of its servers
    usd_per_kwh      price of electricity
    kg_co2_per_kwh   CO2 that the grid gives off for it
    """

    pue: float | None = None
    usd_per_kwh: float | None = None
    kg_co2_per_kwh: float | None = None


@dataclass(frozen=True, slots=True)
class Currency:
    """Another currency that amounts are shown in too; `code` is three capital letters."""

    code: str
    per_usd: float


@dataclass(frozen=True, slots=True)
class SamplingPolicy:
    """When to stop measuring a group of cases, and which passes to make; see docs/method.md.

    mode            sustained: on CUDA, blocks of at least 1 s at the arm's own clock; burst: short windows interleaved
    energy          whether the energy pass is made, where the device has readings
    largest_batch   whether the largest batch that fits is searched for at every length
    confirm         whether selected winners are measured again on fresh rounds
    """

    target_ci: float = 0.02
    max_seconds_per_case: float = 60.0
    same_within: float = 0.01
    min_window_ms: float = 100.0
    mode: SamplingMode = "sustained"
    energy: bool = True
    largest_batch: bool = False
    confirm: bool = True


@dataclass(frozen=True, slots=True)
class MechanismChoice:
    """One entry of `mechanisms:`: a mechanism, the parameters given for it, and the label if one was given."""

    name: str
    params: tuple[tuple[str, ParamValue], ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Economics:
    """What the money stage needs of a profile; kept in a run's header, so that a report needs no profile file."""

    demand: Demand | None = None
    price: PriceChoice | None = None
    price_cpu: PriceChoice | None = None
    gpu: str | None = None
    attention_share: float | None = None
    today: RunningToday | None = None
    observed: Observed | None = None
    one_off: OneOffCosts | None = None
    energy: ElectricityTerms | None = None
    currency: Currency | None = None


@dataclass(frozen=True, slots=True)
class WorkloadProfile:
    """A team's workload as they wrote it, validated; `text` is the file verbatim and `source` where it came from."""

    name: str
    model: ModelSpec
    lengths: LengthDistribution
    measure_lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    batching: tuple[Batching, ...]
    regimes: tuple[Regime, ...]
    phase: Phase
    scope: Scope
    attention_share: float | None
    dtype: Dtype
    seed: int
    gpu: str | None
    baseline: str
    mechanisms: tuple[MechanismChoice, ...]
    demand: Demand | None
    price: PriceChoice | None
    price_cpu: PriceChoice | None
    sampling: SamplingPolicy
    text: str
    source: str
    today: RunningToday | None = None
    observed: Observed | None = None
    one_off: OneOffCosts | None = None
    energy: ElectricityTerms | None = None
    currency: Currency | None = None

    @property
    def economics(self) -> Economics:
        """What the money stage needs of this profile."""
        return Economics(
            self.demand, self.price, self.price_cpu, self.gpu, self.attention_share, self.today, self.observed,
            self.one_off, self.energy, self.currency,
        )  # fmt: skip
