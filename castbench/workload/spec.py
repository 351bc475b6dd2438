"""The immutable nouns a workload profile becomes; no file format and no validation library in here."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Phase = Literal["inference", "training"]
Scope = Literal["encoder", "attention"]
Dtype = Literal["fp32", "bf16", "fp16"]
Batching = Literal["bucketed", "padded"]
Regime = Literal["eager", "compiled", "graph"]
"""How steps are launched: as written, through torch.compile, or replayed as a CUDA graph."""
SamplingMode = Literal["sustained", "burst"]
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


@dataclass(frozen=True, slots=True)
class Demand:
    """How much traffic must be served, and how full a server may be."""

    requests_per_second: float
    objective: ServiceObjective | None = None
    max_utilization: float = 0.7


@dataclass(frozen=True, slots=True)
class PriceChoice:
    """What the profile says of a price: a contract price per hour, or a row of the catalogue by cloud and instance."""

    usd_per_hour: float | None = None
    plan: str = "on_demand"
    gpus: int = 1
    cloud: str | None = None
    instance: str | None = None
    region: str | None = None
    vcpus: int | None = None


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

    @property
    def economics(self) -> Economics:
        """What the money stage needs of this profile."""
        return Economics(self.demand, self.price, self.price_cpu, self.gpu, self.attention_share)
