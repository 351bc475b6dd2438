"""Several runs side by side: whether they may be compared, every figure in one row per run, the best of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from castbench.cost.spec import ArmProjection, Configuration, Price, Projection
from castbench.errors import InputError
from castbench.plain import to_plain
from castbench.plan import Arm, Group, Plan
from castbench.records import RunRecord
from castbench.report import view
from castbench.report.nouns import CaseRow, Quantity, Statement, Unit, statement
from castbench.stats import Estimate
from castbench.units import mib

Run = tuple[RunRecord, Projection]


@dataclass(frozen=True, slots=True)
class Machine:
    """One of the runs; `letter` heads its column."""

    letter: str
    label: str
    run_id: str
    created_at: str
    device_name: str
    price: Price | None
    money_missing: str | None


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One figure of one mechanism (at one shape, if `group` is given), a value per run; `best` are their places."""

    metric: str
    label: str
    group: Group | None
    values: tuple[Quantity | None, ...]
    best: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The least cost per hour of all runs and mechanisms."""

    run: str
    configuration: Configuration
    cost: Quantity


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; `unlike` marks runs that did not do the same work."""

    unlike: bool
    machines: tuple[Machine, ...]
    notes: tuple[Statement, ...]
    cheapest: Cheapest | None
    rows: tuple[ComparedRow, ...]


@dataclass(frozen=True, slots=True)
class _Metric:
    """A figure of a projection: how it is read, and which end of it is better."""

    name: str
    read: Callable[[ArmProjection], Quantity | None]
    more_is_better: bool = False
    needs_demand: bool = False


@dataclass(frozen=True, slots=True)
class _CaseMetric:
    """A figure of a measured case."""

    name: str
    read: Callable[[CaseRow], Quantity | None]
    more_is_better: bool = False


def _number(value: float | None, unit: Unit) -> Quantity | None:
    return None if value is None else Quantity(value, unit)


METRICS = (
    _Metric("cost_usd_per_hour", lambda a: Quantity.of(a.cost_usd_per_hour, Unit.USD_PER_HOUR), needs_demand=True),
    _Metric("replicas", lambda a: Quantity.of(view.replicas_estimate(a), Unit.COUNT), needs_demand=True),
    _Metric(
        "cost_usd_per_million_tokens",
        lambda a: Quantity.of(a.usd_per_million_tokens, Unit.USD_PER_MILLION_TOKENS),
    ),
    _Metric("time_per_request_ms", lambda a: Quantity.of(a.seconds_per_request, Unit.MS, 1e3)),
    _Metric("speedup_vs_baseline", lambda a: Quantity.of(a.speedup, Unit.TIMES), more_is_better=True),
    _Metric(
        "peak_memory_mib",
        lambda a: _number(None if a.peak_memory_bytes is None else mib(a.peak_memory_bytes), Unit.MIB),
    ),
)
CASE_METRICS = (
    _CaseMetric("latency_p50_ms", lambda c: Quantity.of(c.latency_ms, Unit.MS)),
    _CaseMetric(
        "throughput_tokens_per_s", lambda c: _number(c.tokens_per_s, Unit.TOKENS_PER_SECOND), more_is_better=True
    ),
    _CaseMetric("peak_memory_mib", lambda c: _number(c.peak_memory_mib, Unit.MIB)),
)


def labels_for(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """A name for each run: its device's; runs on equal devices get a number behind it."""
    names = [record.header.environment.device_name for record in records]
    labels: list[str] = []
    for index, name in enumerate(names):
        label, number = name, names[: index + 1].count(name)
        if names.count(name) > 1:
            label = f"{name} #{number}"
        while label in labels:
            number += 1
            label = f"{name} #{number}"
        labels.append(label)
    return tuple(labels)


def require_two(runs: Sequence[object]) -> None:
    """InputError where there is nothing to compare."""
    if len(runs) < 2:
        raise InputError("compare: expected two runs or more, got one; name another run file")


def check_comparable(records: Sequence[RunRecord], labels: Sequence[str], *, forced: bool) -> tuple[Statement, ...]:
    """What keeps the runs from being comparable; InputError with it unless `forced`."""
    first = records[0].header
    found = []
    for record, label in zip(records[1:], labels[1:], strict=True):
        if record.header.comparable_sha256 != first.comparable_sha256:
            what = differences(first.plan, record.header.plan) or ("the profiles' comparable hashes",)
            found.append((label, "; ".join(what)))
    if found and not forced:
        told = ". ".join(f"{labels[0]} and {label} differ in {what}" for label, what in found)
        raise InputError(f"these runs did not do the same work: {told}. Compare them all the same with --force")
    return tuple(statement("compare.difference", what=f"{what} ({labels[0]}, {label})") for label, what in found)


def differences(one: Plan, other: Plan) -> tuple[str, ...]:
    """The fields in which two plans ask for different work, with what stands in the one and in the other."""
    mine, theirs = _comparable_fields(one), _comparable_fields(other)
    return tuple(f"{name}: {_difference(mine[name], theirs[name])}" for name in mine if mine[name] != theirs[name])


def _comparable_fields(plan: Plan) -> dict[str, tuple[str, ...]]:
    """What two runs must share, by the name a user knows it under."""
    served: dict[str, Any] = to_plain(plan.served)
    model: dict[str, Any] = served.pop("model")
    return {
        **{f"model.{name}": (str(value),) for name, value in model.items()},
        **{name: (str(value),) for name, value in served.items()},
        "lengths": tuple(f"{t} tokens (share {s})" for t, s in zip(plan.mix.tokens, plan.mix.shares, strict=True)),
        "groups": tuple(group.key for group in plan.groups),
        "baseline": (plan.baseline,),
        "mechanisms": tuple(_described(arm) for arm in plan.arms),
    }


def _described(arm: Arm) -> str:
    """An arm with the parameters that are set."""
    stated = ", ".join(f"{name}={value}" for name, value in arm.params if value is not None)
    return f"{arm.label} = {arm.mechanism}({stated})"


def _difference(mine: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """What only one of two lists holds."""
    if set(mine) == set(theirs):
        return "the same in another order"
    return f"{_first([x for x in mine if x not in theirs])} against {_first([x for x in theirs if x not in mine])}"


def _first(items: list[str], count: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return (", ".join(items[:count]) or "none") + more


def build(runs: Sequence[Run], labels: Sequence[str], *, forced: bool = False) -> Comparison:
    """The comparison of two or more runs, priced under the first one's demand.

    Raises InputError for fewer than two runs, and for runs that did unlike work unless `forced`. Figures that hang on
    the demand are empty for a projection made under another demand than the first.
    """
    require_two(runs)
    unlike = check_comparable([record for record, _ in runs], labels, forced=forced)
    rows = (*_mechanism_rows([projection for _, projection in runs]), *_case_rows(runs))
    cheapest = _cheapest([projection for _, projection in runs], labels)
    notes = (*_notes(runs[0][1], labels[0], unlike), _cheapest_statement(cheapest))
    return Comparison(bool(unlike), tuple(_machines(runs, labels)), notes, cheapest, rows)


def _machines(runs: Sequence[Run], labels: Sequence[str]) -> Iterator[Machine]:
    """Who is compared."""
    for index, ((record, projection), label) in enumerate(zip(runs, labels, strict=True)):
        header = record.header
        yield Machine(
            letter(index), label, header.run_id, header.created_at, header.environment.device_name,
            projection.price, projection.money_missing,
        )  # fmt: skip


def letter(index: int) -> str:
    """A, B, … Z, AA, AB, …"""
    return (letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def _notes(first: Projection, label: str, unlike: Sequence[Statement]) -> Iterator[Statement]:
    """What must be known before a row is read."""
    if unlike:
        yield statement("compare.unlike")
        yield from unlike
    yield statement("compare.unpaired")
    if first.demand is None:
        yield statement("compare.no_demand", run=label)
    else:
        yield statement(
            "compare.demand", run=label, rate=Quantity(first.demand.requests_per_second, Unit.GIVEN),
            utilization=Quantity(first.demand.max_utilization * 100, Unit.PERCENT),
        )  # fmt: skip


def _mechanism_rows(projections: Sequence[Projection]) -> Iterator[ComparedRow]:
    """Rows by mechanism, every label of any run."""
    arms = [{arm.arm.label: arm for arm in p.arms if arm.arm.role != "ceiling"} for p in projections]
    for label in dict.fromkeys(label for by_label in arms for label in by_label):
        for metric in METRICS:
            values = tuple(
                _read(metric, by_label.get(label), under_same_demand(p, projections[0]))
                for by_label, p in zip(arms, projections, strict=True)
            )
            if any(value is not None for value in values):
                yield ComparedRow(metric.name, label, None, values, _best(values, metric.more_is_better))


def _read(metric: _Metric, arm: ArmProjection | None, same_demand: bool) -> Quantity | None:
    """A figure of a mechanism, if it is there and means the same in every run."""
    return None if arm is None or (metric.needs_demand and not same_demand) else metric.read(arm)


def under_same_demand(projection: Projection, first: Projection) -> bool:
    """Whether servers and costs of two projections answer the same traffic."""
    return first.demand is not None and projection.demand == first.demand


def _case_rows(runs: Sequence[Run]) -> Iterator[ComparedRow]:
    """Rows by case, every case of any run; ceilings and lengths measured as a check only are left out."""
    tables = [
        {
            (table.group, row.arm.label): row
            for table in view.group_tables(record)
            for row in table.rows
            if not table.group.held_out and row.arm.role != "ceiling"
        }
        for record, _ in runs
    ]
    for key in dict.fromkeys(key for table in tables for key in table):
        found = [table.get(key) for table in tables]
        for metric in CASE_METRICS:
            values = tuple(None if row is None else metric.read(row) for row in found)
            if any(value is not None for value in values):
                yield ComparedRow(metric.name, key[1], key[0], values, _best(values, metric.more_is_better))


def _best(values: Sequence[Quantity | None], more_is_better: bool) -> tuple[int, ...]:
    """Places of the best value, all of them where several are equal; none where there is nothing to choose."""
    known = [value.value for value in values if value is not None]
    if len(known) < 2 or min(known) == max(known):
        return ()
    best = max(known) if more_is_better else min(known)
    return tuple(i for i, value in enumerate(values) if value is not None and value.value == best)


def _cheapest(projections: Sequence[Projection], labels: Sequence[str]) -> Cheapest | None:
    """The least cost per hour under the first run's demand; the first of equals."""
    offers: list[tuple[Estimate, str, Configuration]] = [
        (arm.cost_usd_per_hour, label, arm.configuration)
        for projection, label in zip(projections, labels, strict=True)
        if under_same_demand(projection, projections[0])
        for arm in projection.arms
        if arm.arm.role != "ceiling" and arm.cost_usd_per_hour is not None and arm.configuration is not None
    ]
    if not offers:
        return None
    cost, label, used = min(offers, key=lambda offer: offer[0].value)
    return Cheapest(label, used, Quantity(cost.value, Unit.USD_PER_HOUR, cost.low, cost.high))


def _cheapest_statement(cheapest: Cheapest | None) -> Statement:
    """Which run and configuration is the cheapest overall."""
    if cheapest is None:
        return statement("compare.no_cheapest")
    return statement(
        "compare.cheapest", configuration=str(cheapest.configuration), run=cheapest.run, cost=cheapest.cost
    )
