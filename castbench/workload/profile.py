"""The schema of a workload profile: from YAML to a WorkloadProfile, or every problem at once with its place.

file ─yaml_text─▶ plain values ─pydantic─▶ ProfileKeys ─▶ WorkloadProfile
                              └─choices──▶ mechanisms (their names and parameters are checked by make_plan)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from castbench.errors import InputError, Problem
from castbench.workload.choices import LONGEST_LABEL, MOST_MECHANISMS, read_choices
from castbench.workload.length_file import MAX_TOKENS, read_length_file
from castbench.workload.lengths import from_quantiles, from_shares
from castbench.workload.scalars import (
    Between,
    CurrencyCode,
    Digest,
    Kind,
    Line,
    Name,
    Number,
    Switch,
    Whole,
    Word,
)
from castbench.workload.shipped import find_profile
from castbench.workload.spec import (
    Batching,
    Currency,
    Demand,
    Dtype,
    ElectricityTerms,
    LengthDistribution,
    MechanismChoice,
    ModelSpec,
    Observed,
    OneOffCosts,
    OwnedHardware,
    Phase,
    PriceChoice,
    Regime,
    RunningToday,
    SamplingMode,
    SamplingPolicy,
    Scope,
    ServiceObjective,
    TimeUnit,
    TraceReference,
    WorkloadProfile,
)
from castbench.workload.spelling import close_to, did_you_mean
from castbench.workload.yaml_text import parse_yaml, read_text, shown, shown_key

__all__ = ["ReadResult", "find_profile", "json_schema", "parse_profile", "problems_so_far", "read_profile"]

MOST_PROBLEMS = 50
SHARES_TOLERANCE = 1e-6
DEFAULT_BASELINE = "sdpa"
PRICE_PLANS = ("on_demand", "spot", "reserved")
DEFAULT_VOCAB_SIZE = 30522
"""The vocabulary of BERT's word pieces, which most served encoders share."""
_EAGER: Regime = "eager"
FFN_FACTOR = 4
"""Width of the feed-forward layer over the model's, as in the original Transformer."""

_SHARES, _QUANTILES, _FILE = "<shares>", "<quantiles>", "<file>"
_PLUMBING = {_SHARES, _QUANTILES, _FILE, "[key]"}
"""Parts of pydantic's error places that no user wrote."""
_SYNONYMS = (
    ("float32", "fp32"), ("f32", "fp32"), ("float", "fp32"), ("tf32", "fp32"), ("float16", "fp16"), ("half", "fp16"),
    ("bfloat16", "bf16"), ("infer", "inference"), ("train", "training"), ("pad", "padded"), ("model", "encoder"),
    ("compile", "compiled"), ("graphs", "graph"), ("cuda-graph", "graph"), ("cudagraph", "graph"), ("bursts", "burst"),
)  # fmt: skip
_PLACES = {
    "quantiles": "lengths: {quantiles: …}",
    "file": "lengths: {file: …}",
    "column": "lengths: {file: …, column: …}",
    "trace": "demand: {requests_per_second: …, trace: {file: …}}",
}
"""Keys that belong under `lengths` or `demand` but look at home at the top."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A profile as far as it could be read.

    `profile` is None when there are problems. `choices` and `baseline` are then still given where they could be read,
    so that the mechanisms' problems can be told along with these.
    """

    profile: WorkloadProfile | None
    problems: tuple[Problem, ...]
    choices: tuple[MechanismChoice, ...]
    baseline: str | None


def read_profile(path: Path) -> ReadResult:
    """Read a profile file; InputError for a file that is missing, unreadable or not YAML."""
    return parse_profile(read_text(path), str(path), path.parent)


def parse_profile(text: str, source: str, folder: Path) -> ReadResult:
    """A profile from its text; `folder` is what paths in it are relative to.

    Raises InputError for a text that is not YAML.
    """
    raw = parse_yaml(text, source)
    if not isinstance(raw, dict):
        what = f"expected keys such as name, model, lengths and mechanisms, got {shown(raw)}"
        return ReadResult(None, (Problem("", what),), (), None)
    keys, problems = _validated(raw)
    mechanisms = read_choices(raw["mechanisms"]) if "mechanisms" in raw else None
    mix = _mix(keys, folder, problems)
    problems += mechanisms.problems if mechanisms else ()
    choices = mechanisms.choices if mechanisms else ()
    if keys is None or mix is None or problems:
        given = raw.get("baseline", DEFAULT_BASELINE)
        sound = mechanisms is not None and not mechanisms.problems and isinstance(given, str)
        return ReadResult(None, _at_most(problems), choices, given if sound else None)
    return ReadResult(keys.profile(mix, choices, text, source), (), choices, keys.baseline)


def problems_so_far(raw: Mapping[str, Any]) -> tuple[Problem, ...]:
    """What is wrong with the values of a profile that is still being written; keys to come are not missed."""
    try:
        ProfileKeys.model_validate(raw)
    except ValidationError as error:
        return tuple(_problem(found) for found in error.errors(include_url=False) if found["type"] != "missing")
    return ()


def json_schema() -> dict[str, Any]:
    """JSON Schema of a profile, for editors."""
    schema = ProfileKeys.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _refused(what: str, at: str | None = None) -> PydanticCustomError:
    """An error with our own sentence; `at` is the key below the validated value that it is about."""
    return PydanticCustomError("castbench", "{what}", {"what": what, "at": at})


@dataclass(frozen=True, slots=True)
class _Is:
    """Annotation that lets a value through if it is of a kind; its sentence becomes the error."""

    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), **self.kind.json_schema()}

    def _checked(self, value: object) -> object:
        problem = self.kind.problem(value)
        if problem:
            raise _refused(problem)
        return value


def _distinct(values: list[_T]) -> list[_T]:
    """Refuse a list that says something twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise _refused(f"{value} is listed twice")
    return values


_Tokens = Annotated[int, _Is(Whole(1, MAX_TOKENS))]
_BatchSize = Annotated[int, _Is(Whole(1, 65536))]
_Usd = Annotated[float, _Is(Number(1e5, "a price in USD above 0"))]
_Share = Annotated[float, _Is(Number(1, "a share above 0 and at most 1"))]
_Ratio = Annotated[float, _Is(Number(0.5, "a ratio above 0 and at most 0.5"))]
_Milliseconds = Annotated[float, _Is(Number(1e7, unit="ms"))]
_Once = Annotated[float, _Is(Between(0, 1e9, "an amount in USD of at least 0"))]
_Name = Annotated[str, _Is(Name())]
_Line = Annotated[str, _Is(Line(120))]


class _Keys(BaseModel):
    """Base of every mapping in a profile: nothing is coerced, nothing unknown is let through."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelKeys(_Keys):
    """The served encoder."""

    layers: Annotated[int, _Is(Whole(1, 1000))] = Field(description="Transformer blocks.")
    embed_dim: Annotated[int, _Is(Whole(1, 65536))] = Field(description="Width of the model.")
    num_heads: Annotated[int, _Is(Whole(1, 1024))] = Field(description="Attention heads; must divide embed_dim.")
    ffn_dim: Annotated[int, _Is(Whole(1, 1_048_576))] | None = Field(
        None, description="Width of the feed-forward layer; 4 x embed_dim."
    )
    vocab_size: Annotated[int, _Is(Whole(2, 10_000_000))] = Field(
        DEFAULT_VOCAB_SIZE, description="Rows of the embedding table."
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelKeys:
        if self.embed_dim % self.num_heads:
            divisors = [d for d in range(1, min(self.embed_dim, 1024) + 1) if self.embed_dim % d == 0]
            near = min(divisors, key=lambda d: abs(d - self.num_heads))
            what = f"expected a divisor of embed_dim {self.embed_dim}, got {self.num_heads}{did_you_mean(near)}"
            raise _refused(what, at="num_heads")
        return self


class LengthShareKeys(_Keys):
    """One document length and its share of the requests."""

    tokens: _Tokens = Field(description="Tokens of a document.")
    share: _Share = Field(description="Its share of the requests; all shares add up to 1.")


def _whole_shares(entries: list[LengthShareKeys]) -> list[LengthShareKeys]:
    """Refuse shares that do not add up to 1, and a length that is listed twice."""
    _distinct([f"{entry.tokens} tokens" for entry in entries])
    total = math.fsum(entry.share for entry in entries)
    if abs(total - 1) > SHARES_TOLERANCE:
        raise _refused(f"expected shares that add up to 1, got {total:.8g}")
    return entries


def _quantile_share(key: str) -> str:
    """Refuse a key that is no percentile."""
    if not re.fullmatch(r"p(100|[1-9]?[0-9](\.[0-9]{1,4})?)", key):
        raise _refused("expected a percentile from p0 to p100, such as p50 or p99.9")
    return key


def _ascending(quantiles: dict[str, int]) -> dict[str, int]:
    """Refuse quantiles without both ends, given twice, or that fall."""
    ordered = sorted(quantiles, key=_percent)
    for low, high in pairwise(ordered):
        if _percent(low) == _percent(high):
            raise _refused(f"{low} and {high} are the same percentile")
        if quantiles[low] > quantiles[high]:
            what = f"expected at least the {quantiles[low]} tokens of {low}, got {quantiles[high]}"
            raise _refused(what, at=high)
    for end, meaning in (("p0", "the shortest document"), ("p100", "the longest document")):
        if end not in quantiles:
            raise _refused(f"{end} ({meaning}) is missing; give p0 and p100")
    return quantiles


def _percent(key: str) -> float:
    """50.0 for p50."""
    return float(key[1:])


_QuantileKey = Annotated[str, BeforeValidator(_quantile_share)]


class LengthQuantileKeys(_Keys):
    """Quantiles of the document lengths, straight lines between them."""

    quantiles: Annotated[dict[_QuantileKey, _Tokens], AfterValidator(_ascending)] = Field(
        description="Tokens by percentile, p0 and p100 included: {p0: 1, p50: 2730, p100: 4054}.", max_length=100
    )


class LengthFileKeys(_Keys):
    """A file of document lengths, one per line."""

    file: Annotated[str, _Is(Line(1000))] = Field(description="Text or CSV file; a path relative to the profile.")
    column: _Line | None = Field(
        None, description="Column of a CSV file with a header; without it, one length per line."
    )


def _kind_of_lengths(value: object) -> str | None:
    """Which of the three forms of `lengths` this is."""
    if isinstance(value, list):
        return _SHARES
    if isinstance(value, dict):
        return _QUANTILES if "quantiles" in value else _FILE if "file" in value else None
    return None


_ShareList = Annotated[list[LengthShareKeys], Field(min_length=1, max_length=256), AfterValidator(_whole_shares)]
_Lengths = Annotated[
    Annotated[_ShareList, Tag(_SHARES)]
    | Annotated[LengthQuantileKeys, Tag(_QUANTILES)]
    | Annotated[LengthFileKeys, Tag(_FILE)],
    Discriminator(_kind_of_lengths),
]


class ObjectiveKeys(_Keys):
    """Latency objectives of the service; at least one."""

    p50_ms: _Milliseconds | None = Field(None, description="Median latency in milliseconds.")
    p95_ms: _Milliseconds | None = Field(None, description="95th percentile in milliseconds.")
    p99_ms: _Milliseconds | None = Field(None, description="99th percentile in milliseconds.")

    @model_validator(mode="after")
    def _stated_and_ascending(self) -> ObjectiveKeys:
        stated = [
            (name, value) for name in ("p50_ms", "p95_ms", "p99_ms") if (value := getattr(self, name)) is not None
        ]
        if not stated:
            raise _refused("expected at least one of p50_ms, p95_ms, p99_ms")
        for (lower, low), (upper, high) in pairwise(stated):
            if low > high:
                raise _refused(f"expected at least the {low:g} of {lower}, got {high:g}", at=upper)
        return self


class TraceKeys(_Keys):
    """The requests that the demand was taken from, for what replays them; castbench workload from-trace writes it."""

    file: Annotated[str, _Is(Line(1000))] = Field(description="The trace; a path relative to the profile.")
    sha256: Annotated[str, _Is(Digest())] = Field(description="sha256 of the file; another file is refused.")
    rows: Annotated[int, _Is(Whole(2, 100_000_000))] = Field(description="Requests in it that are used.")
    time_scale: Annotated[float, _Is(Number(1e6))] = Field(
        1.0, description="Factor on all times: at 0.5 the same requests come twice as fast."
    )
    time_column: _Line | None = Field(None, description="Column of the arrival times.")
    time_unit: Annotated[TimeUnit, _Is(Word(get_args(TimeUnit)))] | None = Field(
        None, description="Unit of the arrival times; iso for dates."
    )
    tokens_column: _Line | None = Field(None, description="Column of the lengths in tokens.")
    sort_within_s: Annotated[float, _Is(Number(1e9, unit="s"))] = Field(
        60.0, description="Requests whose time goes back by no more than this are sorted; more is refused."
    )
    skip_unusable: Annotated[bool, _Is(Switch())] = Field(
        False, description="Leave out rows without a usable time or length, rather than refuse the file."
    )

    def noun(self) -> TraceReference:
        """The reference as the profile's noun."""
        return TraceReference(path=self.file, **self.model_dump(exclude={"file"}))


class DemandKeys(_Keys):
    """The traffic that must be served; without it there is no cost per hour."""

    requests_per_second: Annotated[float, _Is(Number(1e7))] = Field(description="Mean arrival rate of documents.")
    objective: ObjectiveKeys | None = Field(None, description="Latency objectives of the service.")
    max_utilization: _Share = Field(0.7, description="How busy a server may be on average.")
    min_replicas: Annotated[int, _Is(Whole(1, 100_000))] = Field(1, description="Fewest replicas in a zone.")
    zones: Annotated[int, _Is(Whole(1, 100))] = Field(1, description="Zones that each have them.")
    spare: Annotated[int, _Is(Whole(0, 100_000))] = Field(0, description="Replicas beyond what is needed; 1 is N+1.")
    growth_percent_per_year: (
        Annotated[float, _Is(Between(-100, 1000, "a growth in per cent above -100", above=True))] | None
    ) = Field(None, description="By how much the rate grows in a year, in per cent; negative where it falls.")
    trace: TraceKeys | None = Field(None, description="The requests that this demand was taken from.")

    def noun(self) -> Demand:
        """The demand as the profile's noun."""
        objective = ServiceObjective(**self.objective.model_dump()) if self.objective else None
        trace = self.trace.noun() if self.trace else None
        return Demand(
            self.requests_per_second, objective, self.max_utilization, trace, self.min_replicas, self.zones, self.spare,
            self.growth_percent_per_year,
        )  # fmt: skip


class TodayKeys(_Keys):
    """How the baseline's label is served today, of what this profile measures."""

    batch_size: _BatchSize | None = Field(None, description="Requests in a batch; the smallest of batch_sizes.")
    batching: Annotated[Batching, _Is(Word(get_args(Batching), _SYNONYMS))] | None = Field(
        None, description="How batches are formed; the first of batching."
    )
    regime: Annotated[Regime, _Is(Word(get_args(Regime), _SYNONYMS))] | None = Field(
        None, description="How steps are launched; eager."
    )

    def unmeasured(self, profile: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Keys that name what the profile does not measure, each with what to do."""
        asked = (
            ("batch_size", self.batch_size, "batch_sizes"), ("batching", self.batching, "batching"),
            ("regime", self.regime or _EAGER, "regimes"),
        )  # fmt: skip
        for key, value, among in asked:
            measured = profile.get(among)
            if value is not None and measured is not None and value not in measured:
                listed = ", ".join(map(str, measured))
                yield key, f"expected one of the {among} that are measured ({listed}), got {value}; add it to {among}"

    def noun(self, batch_sizes: list[int], batching: list[Batching]) -> RunningToday:
        """What runs today, of sizes and ways of batching that are measured."""
        batch_size = min(batch_sizes) if self.batch_size is None else self.batch_size
        filled: Batching = "bucketed" if batch_size == 1 else self.batching or batching[0]
        return RunningToday(batch_size, filled, self.regime or _EAGER)


class ObservedKeys(_Keys):
    """What the service is seen to take today, to hold the model against; at least one."""

    gpu_hours_per_month: Annotated[float, _Is(Number(1e9, "a number of hours above 0"))] | None = Field(
        None, description="Hours of devices paid for in a month: of GPUs, or on CPUs of servers."
    )
    requests_per_month: Annotated[float, _Is(Number(1e14, "a number of requests above 0"))] | None = Field(
        None, description="Requests answered in a month."
    )
    p50_ms: _Milliseconds | None = Field(None, description="Median latency, from arrival to answer, in milliseconds.")

    @model_validator(mode="after")
    def _stated(self) -> ObservedKeys:
        if not self.model_fields_set:
            raise _refused(f"expected at least one of {', '.join(type(self).model_fields)}")
        return self

    def noun(self) -> Observed:
        """What was observed as the profile's noun."""
        return Observed(**self.model_dump())


class OwnedKeys(_Keys):
    """A server that was bought; its price per hour is worked out from what it cost and what keeps it running."""

    purchase_usd: Annotated[float, _Is(Number(1e8, "a price in USD above 0"))] = Field(
        description="What one server cost, host and GPUs, in USD."
    )
    years: Annotated[float, _Is(Number(30))] = Field(description="Years over which it is written off.")
    utilization: _Share = Field(description="Share of the hours of those years in which it serves.")
    power_w: Annotated[float, _Is(Number(1e6, "a power in watts above 0"))] | None = Field(
        None, description="Mean power of the server while it serves, in watts."
    )
    pue: Annotated[float, _Is(Number(10, "a ratio of at least 1"))] | None = Field(
        None, description="Power of the whole room over that of its servers, at least 1."
    )
    usd_per_kwh: Annotated[float, _Is(Number(100, "a price in USD above 0"))] | None = Field(
        None, description="Price of electricity in USD per kWh."
    )
    maintenance_share: _Share | None = Field(None, description="Maintenance per year as a share of purchase_usd.")

    @model_validator(mode="after")
    def _electricity_whole(self) -> OwnedKeys:
        stated = {key: getattr(self, key) for key in ("power_w", "pue", "usd_per_kwh")}
        missing = [key for key, value in stated.items() if value is None]
        if missing and len(missing) < len(stated):
            raise _refused(f"electricity needs {', '.join(stated)} together; {' and '.join(missing)} is missing")
        if self.pue is not None and self.pue < 1:
            raise _refused(f"expected a ratio of at least 1, got {self.pue:g}", at="pue")
        return self

    def noun(self) -> OwnedHardware:
        """The server as the profile's noun."""
        return OwnedHardware(**self.model_dump())


class PriceKeys(_Keys):
    """A contract price per hour, a row of the price catalogue by cloud and instance, or a server of one's own."""

    usd_per_hour: _Usd | None = Field(None, description="Contract price of one billing unit per hour, in USD.")
    plan: Annotated[str, _Is(Word(PRICE_PLANS))] = Field("on_demand", description="on_demand, spot or reserved.")
    gpus: Annotated[int, _Is(Whole(0, 1024))] | None = Field(
        None, description="GPUs in one billing unit of a contract price or of one's own; 1, on CPU 0."
    )
    cloud: _Name | None = Field(None, description="Cloud of the catalogue row, such as aws.")
    instance: _Name | None = Field(None, description="Instance type of the catalogue row.")
    region: _Name | None = Field(None, description="Region of the catalogue row; without it, the reference region.")
    discount_percent: Annotated[float, _Is(Number(99, "a discount in per cent above 0 and at most 99"))] | None = Field(
        None, description="Discount off the on-demand price of the catalogue row; only with plan: reserved."
    )
    term_years: Annotated[int, _Is(Whole(1, 10))] | None = Field(
        None, description="Years that the reservation is made for; only with plan: reserved."
    )
    owned: OwnedKeys | None = Field(None, description="A server that was bought, instead of a rented one.")

    @model_validator(mode="after")
    def _one_kind_of_price(self) -> PriceKeys:
        catalogue = [key for key in ("cloud", "instance", "region") if getattr(self, key) is not None]
        if self.owned is not None:
            self._require_owned_alone(catalogue)
        elif self.usd_per_hour is not None and catalogue:
            raise _refused(f"usd_per_hour is a contract price and {catalogue[0]} asks the catalogue; give one of them")
        elif self.usd_per_hour is None and not (self.cloud and self.instance):
            raise _refused("expected usd_per_hour, or cloud and instance, or owned")
        elif self.usd_per_hour is None and self.gpus is not None:
            raise _refused("the catalogue knows the GPUs of an instance; leave this key out", at="gpus")
        return self

    @model_validator(mode="after")
    def _terms_of_a_reservation(self) -> PriceKeys:
        for key in ("discount_percent", "term_years"):
            if getattr(self, key) is not None and self.plan != "reserved":
                raise _refused("only used with plan: reserved; leave this key out", at=key)
        if self.discount_percent is not None and self.usd_per_hour is not None:
            raise _refused("a contract price is what is paid already; leave this key out", at="discount_percent")
        if self.plan == "reserved" and self.cloud and self.discount_percent is None:
            raise _refused("the catalogue has no reserved prices; state your discount as discount_percent", at="plan")
        return self

    def _require_owned_alone(self, catalogue: list[str]) -> None:
        """Refuse another price or plan beside a server of one's own."""
        others = [*(["usd_per_hour"] if self.usd_per_hour is not None else []), *catalogue]
        if others:
            raise _refused(f"owned is a price of its own and so is {others[0]}; give one of them")
        if "plan" in self.model_fields_set:
            raise _refused("a server of your own has no plan; leave this key out", at="plan")

    def noun(self, default_gpus: int) -> PriceChoice:
        """The price as the profile's noun."""
        gpus = default_gpus if self.gpus is None else self.gpus
        return PriceChoice(
            self.usd_per_hour, self.plan, gpus, self.cloud, self.instance, self.region,
            discount_percent=self.discount_percent, term_years=self.term_years,
            owned=self.owned.noun() if self.owned else None,
        )  # fmt: skip


class CpuPriceKeys(PriceKeys):
    """The price of a CPU server; of a contract's or one's own, its size too, because the catalogue does not know it."""

    vcpus: Annotated[int, _Is(Whole(1, 4096))] | None = Field(
        None, description="vCPUs of the server of a contract price or of one's own, compared with the threads measured."
    )

    @model_validator(mode="after")
    def _size_not_of_the_catalogue(self) -> CpuPriceKeys:
        if self.cloud is not None and self.vcpus is not None:
            raise _refused("the catalogue knows the vCPUs of an instance; leave this key out", at="vcpus")
        return self

    def noun(self, default_gpus: int) -> PriceChoice:
        """The price as the profile's noun."""
        return replace(super().noun(default_gpus), vcpus=self.vcpus)


class _AnyKeys(_Keys):
    """A mapping of which any key may be left out, but not all."""

    @model_validator(mode="after")
    def _not_empty(self) -> _AnyKeys:
        if all(value is None for _, value in self):
            raise _refused(f"expected at least one of {', '.join(type(self).model_fields)}")
        return self


class OneOffKeys(_AnyKeys):
    """What changing over to a new model costs once; at least one."""

    retraining_usd: _Once | None = Field(None, description="Training the new model, in USD.")
    validation_usd: _Once | None = Field(None, description="Checking that it may replace the old one, in USD.")
    dual_running_days: Annotated[float, _Is(Between(0, 3650, "a number of days of at least 0"))] | None = Field(
        None, description="Days that the fleets of today and of the new model run side by side."
    )
    engineering_usd: _Once | None = Field(None, description="Work on the change, in USD.")

    def noun(self) -> OneOffCosts:
        """The costs as the profile's noun."""
        return OneOffCosts(**self.model_dump())


class ElectricityKeys(_AnyKeys):
    """What a kilowatt-hour that was measured at the device stands for; at least one."""

    pue: Annotated[float, _Is(Between(1, 10, "a ratio of at least 1"))] | None = Field(
        None, description="Power of the whole room over that of its servers, at least 1."
    )
    usd_per_kwh: Annotated[float, _Is(Between(0, 100, "a price in USD of at least 0"))] | None = Field(
        None, description="Price of electricity in USD per kWh."
    )
    kg_co2_per_kwh: Annotated[float, _Is(Between(0, 100, "a mass in kg of at least 0"))] | None = Field(
        None, description="CO2 that the grid gives off per kWh, in kg."
    )

    def noun(self) -> ElectricityTerms:
        """The terms as the profile's noun."""
        return ElectricityTerms(**self.model_dump())


class CurrencyKeys(_Keys):
    """Another currency that every amount is also given in, at a rate that you state."""

    code: Annotated[str, _Is(CurrencyCode())] = Field(description="Its code in three capital letters, such as JPY.")
    per_usd: Annotated[float, _Is(Number(1e7))] = Field(description="How much of it one US dollar buys.")

    def noun(self) -> Currency:
        """The currency as the profile's noun."""
        return Currency(self.code, self.per_usd)


class SamplingKeys(_Keys):
    """When to stop measuring."""

    target_ci: _Ratio = Field(0.02, description="Half-width of the interval of a time ratio that is narrow enough.")
    max_seconds_per_case: Annotated[float, _Is(Number(86400, unit="s"))] = Field(
        60.0, description="Most seconds one case may take."
    )
    same_within: _Ratio = Field(0.01, description="Differences within this ratio count as SAME.")
    min_window_ms: Annotated[float, _Is(Number(60_000, unit="ms"))] = Field(
        100.0, description="Shortest timed window in milliseconds."
    )
    mode: Annotated[SamplingMode, _Is(Word(get_args(SamplingMode), _SYNONYMS))] = Field(
        "sustained", description="On CUDA: blocks of 1 s at the mechanism's own clock, or short interleaved windows."
    )
    energy: Annotated[bool, _Is(Switch())] = Field(
        True, description="Measure energy, where the device has readings for it."
    )
    largest_batch: Annotated[bool, _Is(Switch())] = Field(
        False, description="Search for the largest batch that fits, at every length."
    )
    confirm: Annotated[bool, _Is(Switch())] = Field(True, description="Measure selected winners again on fresh rounds.")


_MECHANISMS_LIST_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "maxItems": MOST_MECHANISMS,
    "items": {
        "anyOf": [
            {"type": "string", "description": "A mechanism's name, with its default parameters; or a preset."},
            {
                "type": "object",
                "description": "{name: {parameter: value}}, with an optional label beside it.",
                "properties": {"label": {"type": "string", "maxLength": LONGEST_LABEL}},
                "additionalProperties": {"type": ["object", "null"]},
                "minProperties": 1,
                "maxProperties": 2,
            },
        ]
    },
}
_MECHANISMS_SCHEMA = {
    "anyOf": [_MECHANISMS_LIST_SCHEMA, {"type": "string", "pattern": "^preset:", "description": "A preset's name."}]
}
"""Written by hand, because read_choices and not pydantic checks this list."""


class ProfileKeys(_Keys):
    """A castbench workload profile."""

    name: _Name = Field(description="Name of the workload; run files are named after it.")
    model: ModelKeys
    lengths: _Lengths = Field(description="Document lengths: shares, {quantiles: …} or {file: …}.")
    measure_lengths: Annotated[list[_Tokens], Field(min_length=1, max_length=32), AfterValidator(_distinct)] | None = (
        Field(None, description="Lengths to measure instead of the grid; only with quantiles or a file.")
    )
    batch_sizes: Annotated[list[_BatchSize], Field(min_length=1, max_length=32), AfterValidator(_distinct)] = Field(
        [1], description="Batch sizes to measure."
    )
    batching: Annotated[
        list[Annotated[Batching, _Is(Word(get_args(Batching), _SYNONYMS))]],
        Field(min_length=1),
        AfterValidator(_distinct),
    ] = Field(["bucketed", "padded"], description="How batches are formed: of equal lengths, or padded to the longest.")
    regimes: Annotated[
        list[Annotated[Regime, _Is(Word(get_args(Regime), _SYNONYMS))]], Field(min_length=1), AfterValidator(_distinct)
    ] = Field(["eager"], description="How steps are launched: as written, through torch.compile, as a CUDA graph.")
    phase: Annotated[Phase, _Is(Word(get_args(Phase), _SYNONYMS))] = Field("inference", description="What one step is.")
    scope: Annotated[Scope, _Is(Word(get_args(Scope), _SYNONYMS))] = Field("encoder", description="What is timed.")
    attention_share: _Share | None = Field(
        None, description="Share of the served time spent in attention; only with scope: attention."
    )
    dtype: Annotated[Dtype, _Is(Word(get_args(Dtype), _SYNONYMS))] = Field("fp32", description="Number format.")
    seed: Annotated[int, _Is(Whole(0, 2**32 - 1))] = Field(0, description="Seed of weights, inputs and orders.")
    gpu: _Line | None = Field(None, description="GPU the workload runs on; another one is pointed out.")
    baseline: Annotated[str, _Is(Line(LONGEST_LABEL))] = Field(
        DEFAULT_BASELINE, description="Label of the mechanism deployed today."
    )
    mechanisms: Annotated[Any, WithJsonSchema(_MECHANISMS_SCHEMA)] = Field(description="Mechanisms to measure.")
    today: TodayKeys | None = Field(None, description="How the baseline is served today; without it, at its best.")
    demand: DemandKeys | None = Field(None, description="Traffic to serve; without it no cost per hour.")
    observed: ObservedKeys | None = Field(None, description="What the service is seen to take, to check the model by.")
    price: PriceKeys | None = Field(None, description="Price of a GPU server.")
    price_cpu: CpuPriceKeys | None = Field(None, description="Price of a CPU server, for runs on the CPU.")
    one_off: OneOffKeys | None = Field(None, description="What changing over to a new model costs once.")
    energy: ElectricityKeys | None = Field(None, description="What electricity costs and gives off.")
    currency: CurrencyKeys | None = Field(None, description="Another currency to give amounts in as well.")
    sampling: SamplingKeys = Field(
        default_factory=lambda: SamplingKeys.model_validate({}), description="When to stop measuring."
    )

    @field_validator("measure_lengths")
    @classmethod
    def _only_for_a_grid(cls, value: list[int] | None, info: ValidationInfo) -> list[int] | None:
        if value is not None and isinstance(info.data.get("lengths"), list):
            raise _refused("lengths given as shares are all measured; leave this key out")
        return value

    @field_validator("today")
    @classmethod
    def _measured(cls, value: TodayKeys | None, info: ValidationInfo) -> TodayKeys | None:
        for key, what in () if value is None else value.unmeasured(info.data):
            raise _refused(what, at=key)
        return value

    @field_validator("attention_share")
    @classmethod
    def _only_for_attention(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("scope") == "encoder":
            raise _refused("only used with scope: attention; leave this key out")
        return value

    def profile(
        self, mix: LengthDistribution, choices: tuple[MechanismChoice, ...], text: str, source: str
    ) -> WorkloadProfile:
        """The profile as its noun."""
        ffn_dim = self.model.ffn_dim or FFN_FACTOR * self.model.embed_dim
        return WorkloadProfile(
            name=self.name,
            model=ModelSpec(**{**self.model.model_dump(), "ffn_dim": ffn_dim}),
            lengths=mix,
            measure_lengths=tuple(sorted(self.measure_lengths or ())),
            batch_sizes=tuple(self.batch_sizes),
            batching=tuple(self.batching),
            regimes=tuple(self.regimes),
            phase=self.phase,
            scope=self.scope,
            attention_share=self.attention_share,
            dtype=self.dtype,
            seed=self.seed,
            gpu=self.gpu,
            baseline=self.baseline,
            mechanisms=choices,
            demand=self.demand.noun() if self.demand else None,
            price=self.price.noun(default_gpus=1) if self.price else None,
            price_cpu=self.price_cpu.noun(default_gpus=0) if self.price_cpu else None,
            sampling=SamplingPolicy(**self.sampling.model_dump()),
            text=text,
            source=source,
            today=self.today.noun(self.batch_sizes, self.batching) if self.today else None,
            observed=self.observed.noun() if self.observed else None,
            one_off=self.one_off.noun() if self.one_off else None,
            energy=self.energy.noun() if self.energy else None,
            currency=self.currency.noun() if self.currency else None,
        )


_KEYS_AT: Mapping[tuple[str, ...], type[_Keys]] = {
    (): ProfileKeys,
    ("model",): ModelKeys,
    ("lengths", _SHARES): LengthShareKeys,
    ("lengths", _QUANTILES): LengthQuantileKeys,
    ("lengths", _FILE): LengthFileKeys,
    ("demand",): DemandKeys,
    ("demand", "objective"): ObjectiveKeys,
    ("demand", "trace"): TraceKeys,
    ("today",): TodayKeys,
    ("observed",): ObservedKeys,
    ("price",): PriceKeys,
    ("price", "owned"): OwnedKeys,
    ("price_cpu",): CpuPriceKeys,
    ("price_cpu", "owned"): OwnedKeys,
    ("one_off",): OneOffKeys,
    ("energy",): ElectricityKeys,
    ("currency",): CurrencyKeys,
    ("sampling",): SamplingKeys,
}
"""The mapping that stands at each place of a profile, to suggest keys from."""


def _validated(raw: dict[str, Any]) -> tuple[ProfileKeys | None, list[Problem]]:
    """The validated keys, or every problem found."""
    try:
        return ProfileKeys.model_validate(raw), []
    except ValidationError as error:
        return None, [_problem(details) for details in error.errors(include_url=False)]


def _mix(keys: ProfileKeys | None, folder: Path, problems: list[Problem]) -> LengthDistribution | None:
    """The length mix of validated keys; adds to `problems` what is wrong with a file or the grid asked for."""
    if keys is None:
        return None
    lengths = keys.lengths
    if isinstance(lengths, list):
        return from_shares((entry.tokens, entry.share) for entry in lengths)
    if isinstance(lengths, LengthQuantileKeys):
        mix = from_quantiles((_percent(key) / 100, tokens) for key, tokens in lengths.quantiles.items())
    else:
        try:
            mix = read_length_file(folder / lengths.file, lengths.column)
        except InputError as error:
            problems.append(Problem("lengths.file", str(error)))
            return None
    if keys.measure_lengths and max(keys.measure_lengths) < mix.tokens[-1]:
        what = f"expected one length of at least {mix.tokens[-1]}, the longest document; nothing beyond is estimated"
        problems.append(Problem("measure_lengths", what))
    return mix


def _problem(details: ErrorDetails) -> Problem:
    """One of pydantic's errors in our words."""
    loc = details["loc"]
    context = details.get("ctx", {})
    at = (context["at"],) if context.get("at") else ()
    return Problem(_place((*loc, *at)), _sentence(details, loc, context))


def _sentence(details: ErrorDetails, loc: tuple[int | str, ...], context: dict[str, Any]) -> str:
    """What was expected, what was got and what was probably meant."""
    kind, given = details["type"], shown(details["input"])
    if kind == "extra_forbidden":
        return _unknown_key(loc)
    sentences: dict[str, Callable[[], str]] = {
        "castbench": lambda: str(context["what"]),
        "missing": lambda: "this key is required, but missing",
        "union_tag_not_found": lambda: (
            f"expected a list of {{tokens, share}}, {{quantiles: …}} or {{file: …}}, got {given}"
        ),
        "list_type": lambda: f"expected a list, got {given}",
        "too_short": lambda: "expected at least one entry, got none",
        "too_long": lambda: f"expected at most {context['max_length']} entries, got {context['actual_length']}",
    }
    if kind in sentences:
        return sentences[kind]()
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"expected a mapping of keys, got {given}"
    return f"{details['msg']}, got {given}"


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    """Sentence for a key that the schema does not have."""
    home = tuple(part for part in loc[:-1] if isinstance(part, str))
    known = list(_KEYS_AT[home].model_fields)
    near = _PLACES.get(str(loc[-1])) if not home else None
    return f"unknown key; there are {', '.join(known)}{did_you_mean(near or close_to(loc[-1], known))}"


def _place(loc: tuple[int | str, ...]) -> str:
    """lengths[1].tokens"""
    place = ""
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part not in _PLUMBING:
            place += f".{shown_key(part)}" if place else shown_key(part)
    return place


def _at_most(problems: list[Problem]) -> tuple[Problem, ...]:
    """The first problems, and how many more there are: a hopeless file need not fill the screen."""
    if len(problems) <= MOST_PROBLEMS:
        return tuple(problems)
    more = Problem("", f"and {len(problems) - MOST_PROBLEMS} more problems")
    return (*problems[:MOST_PROBLEMS], more)
