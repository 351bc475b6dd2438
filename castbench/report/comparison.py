"""Several runs side by side: whether they may be compared, every figure in one row per run, the best of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from castbench.cost.spec import ArmProjection, Configuration, Price, Projection
from castbench.errors import InputError
from castbench.plain import to_plain
from castbench.plan import Arm, Group, Plan
from castbench.records import Caveat, RunRecord
from castbench.report import headline, text, view
from castbench.report.nouns import CaseRow, GroupTable
from castbench.report.pareto import Offer, offers
from castbench.report.rows import group_tables
from castbench.said import Quantity, Statement, Unit, Value, Words, statement, together
from castbench.units import mib

Run = tuple[RunRecord, Projection]


@dataclass(frozen=True, slots=True)
class Machine:
    """One of the runs; `letter` heads its column. `rounds` are those of its shapes, fewest to most."""

    letter: str
    label: str
    run_id: str
    created_at: str
    device_name: str
    price: Price | None
    money_missing: Statement | None
    threads: int | None
    cores: int | None
    rounds: Quantity
    caveats: tuple[Caveat, ...]


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One figure of one mechanism (at one shape, if `group` is given), a value per run; `best` is the best one's place.

    `best` is empty where the ranges do not tell the best value from another.
    """

    metric: str
    label: str
    group: Group | None
    values: tuple[Quantity | None, ...]
    best: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The least cost per hour of all runs and mechanisms; the ranges of `rivals` are not apart from its own."""

    run: str
    configuration: Configuration
    cost: Quantity
    rivals: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; `unlike` marks runs that did not do the same work; `offers`: cost beside latency."""

    unlike: bool
    machines: tuple[Machine, ...]
    notes: tuple[Statement, ...]
    cheapest: Cheapest | None
    rows: tuple[ComparedRow, ...]
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class _Metric:
    """A figure of a projection: how it is read, and which end of it is better; a counted one needs no range."""

    name: str
    read: Callable[[ArmProjection], Quantity | None]
    more_is_better: bool = False
    needs_demand: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True)
class _CaseMetric:
    """A figure of a measured case; a counted one needs no range."""

    name: str
    read: Callable[[CaseRow], Quantity | None]
    more_is_better: bool = False
    counted: bool = False


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
        counted=True,
    ),
)
CASE_METRICS = (
    _CaseMetric("latency_p50_ms", lambda c: Quantity.of(c.latency_ms, Unit.MS)),
    _CaseMetric(
        "throughput_tokens_per_s", lambda c: _number(c.tokens_per_s, Unit.TOKENS_PER_SECOND), more_is_better=True
    ),
    _CaseMetric("peak_memory_mib", lambda c: _number(c.peak_memory_mib, Unit.MIB), counted=True),
    _CaseMetric("reserved_memory_mib", lambda c: _number(c.reserved_memory_mib, Unit.MIB), counted=True),
    _CaseMetric(
        "largest_batch",
        lambda c: _number(c.largest_batch.fits if c.largest_batch else None, Unit.COUNT),
        more_is_better=True,
        counted=True,
    ),
    _CaseMetric(
        "energy_j_per_seq", lambda c: Quantity.of(c.energy.gross_j_per_sequence, Unit.JOULES) if c.energy else None
    ),
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


def require_several(records: Sequence[RunRecord], labels: Sequence[str]) -> None:
    """InputError where there is nothing to compare: fewer than two runs, or a run and itself."""
    if len(records) < 2:
        raise InputError("compare: expected two runs or more, got one; name another run file")
    seen: dict[tuple[object, ...], str] = {}
    for record, label in zip(records, labels, strict=True):
        header = record.header
        # A simulation's id is drawn from its seed alone; what it simulated tells its runs apart.
        told_apart = (header.plan_sha256, len(record.rounds)) if header.environment.device == "fake" else ()
        first = seen.setdefault((header.run_id, *told_apart), label)
        if first != label:
            raise InputError(f"compare: {label} is the same run as {first} ({header.run_id}); name another run file")


def check_comparable(records: Sequence[RunRecord], labels: Sequence[str], *, forced: bool) -> tuple[Statement, ...]:
    """What keeps the runs from being comparable; InputError with it unless `forced`."""
    first = records[0].header
    found = []
    for record, label in zip(records[1:], labels[1:], strict=True):
        if record.header.comparable_sha256 != first.comparable_sha256:
            what = differences(first.plan, record.header.plan) or (statement("differ.hashes"),)
            found.append((label, what))
    if found and not forced:
        told = ". ".join(
            f"{labels[0]} and {label} differ in {text.in_english(together(what))}" for label, what in found
        )
        raise InputError(f"these runs did not do the same work: {told}. Compare them all the same with --force")
    return tuple(statement("compare.difference", what=what, one=labels[0], other=label) for label, what in found)


def differences(one: Plan, other: Plan) -> tuple[Statement, ...]:
    """The fields in which two plans ask for different work, with what stands in the one and in the other."""
    mine, theirs = _comparable_fields(one), _comparable_fields(other)
    return tuple(_difference(name, mine[name], theirs[name]) for name in mine if mine[name] != theirs[name])


def _comparable_fields(plan: Plan) -> dict[str, tuple[Words, ...]]:
    """What two runs must share, by the name a user knows it under."""
    served: dict[str, Any] = to_plain(plan.served)
    model: dict[str, Any] = served.pop("model")
    return {
        **{f"model.{name}": (str(value),) for name, value in model.items()},
        **{name: (str(value),) for name, value in served.items()},
        "lengths": tuple(map(_length, plan.mix.tokens, plan.mix.shares)),
        "groups": tuple(group.key for group in plan.groups),
        "baseline": (plan.baseline,),
        "mechanisms": tuple(_described(arm) for arm in plan.arms),
    }


def _length(tokens: int, share: float) -> Statement:
    """A length with its share."""
    return statement("differ.length", tokens=Quantity(tokens, Unit.TOKENS), share=Quantity(share, Unit.GIVEN))


def _described(arm: Arm) -> str:
    """An arm with the parameters that are set."""
    stated = ", ".join(f"{name}={value}" for name, value in arm.params if value is not None)
    return f"{arm.label} = {arm.mechanism}({stated})"


def _difference(name: str, mine: tuple[Words, ...], theirs: tuple[Words, ...]) -> Statement:
    """What only one of two lists holds."""
    if set(mine) == set(theirs):
        return statement("differ.order", name=name)
    only_mine, only_theirs = [x for x in mine if x not in theirs], [x for x in theirs if x not in mine]
    return statement("differ.field", name=name, mine=_first(only_mine), theirs=_first(only_theirs))


def _first(items: Sequence[Words], count: int = 3) -> Statement:
    """The first few of a list, and how many more there are."""
    if not items:
        return statement("first.none")
    more = len(items) - count
    if more <= 0:
        return statement("first.all", items=tuple(items))
    return statement("first.few", items=tuple(items[:count]), more=Quantity(more, Unit.COUNT))


def build(runs: Sequence[Run], labels: Sequence[str], *, forced: bool = False) -> Comparison:
    """The comparison of two or more runs, priced under the first one's demand.

    Raises InputError for fewer than two runs, for a run named twice, and for runs that did unlike work unless
    `forced`. Figures that hang on the demand are empty for a projection made under another demand than the first.
    """
    records, projections = [record for record, _ in runs], [projection for _, projection in runs]
    require_several(records, labels)
    unlike = check_comparable(records, labels, forced=forced)
    tables = [group_tables(record) for record in records]
    machines = tuple(
        _machine(index, label, run, groups)
        for index, (label, run, groups) in enumerate(zip(labels, runs, tables, strict=True))
    )
    cheapest = _cheapest(projections, labels)
    notes = (
        *_unlike_notes(unlike), *_apart_notes(records), *_demand_note(projections[0], labels[0]),
        _cheapest_statement(cheapest),
    )  # fmt: skip
    return Comparison(
        bool(unlike), machines, notes, cheapest, (*_mechanism_rows(projections), *_case_rows(tables)),
        tuple(_offers(projections, tables)),
    )  # fmt: skip


def _offers(projections: Sequence[Projection], tables: Sequence[Sequence[GroupTable]]) -> Iterator[Offer]:
    """What every run whose costs answer the first one's demand would cost, with its latency."""
    for place, (projection, groups) in enumerate(zip(projections, tables, strict=True)):
        if under_same_demand(projection, projections[0]):
            yield from offers(place, projection.arms, groups)


def _machine(index: int, label: str, run: Run, groups: Sequence[GroupTable]) -> Machine:
    """Who is compared, how much was measured there, and every doubt about it."""
    record, projection = run
    header, here = record.header, record.header.environment
    arms = [arm for arm in projection.arms if arm.arm.role != "ceiling"]
    return Machine(
        letter(index), label, header.run_id, header.created_at, here.device_name, projection.price,
        projection.money_missing, here.threads, here.cpu_cores, headline.rounds_per_shape(groups),
        tuple(note.caveat for note in view.caveat_notes(arms, groups)),
    )  # fmt: skip


def letter(index: int) -> str:
    """A, B, … Z, AA, AB, …"""
    return (letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def _unlike_notes(unlike: Sequence[Statement]) -> Iterator[Statement]:
    """That the runs did not do the same work, and in what, where that is so."""
    if unlike:
        yield statement("compare.unlike")
        yield from unlike


def _apart_notes(records: Sequence[RunRecord]) -> Iterator[Statement]:
    """What else differs between the runs than what they are compared for: machine, moment, threads."""
    by_machine: dict[tuple[str, str, str | None], list[str]] = {}
    threads: dict[str, int] = {}
    for index, here in enumerate(record.header.environment for record in records):
        by_machine.setdefault((here.device_name, here.host, here.device_uuid), []).append(letter(index))
        if here.device == "cpu" and here.threads is not None:
            threads[letter(index)] = here.threads
    if len(by_machine) > 1:
        yield statement("compare.unpaired")
    for letters in by_machine.values():
        if len(letters) > 1:
            key = "compare.same_machine_twice" if len(letters) == 2 else "compare.same_machine"
            yield statement(key, runs=tuple(letters), times=Quantity(len(letters), Unit.COUNT))
    if len(set(threads.values())) > 1:
        counted = (statement("compare.has", run=n, count=Quantity(c, Unit.COUNT)) for n, c in threads.items())
        yield statement("compare.threads", threads=tuple(counted))


def _demand_note(first: Projection, label: str) -> Iterator[Statement]:
    """Whose demand the servers and costs answer."""
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
                yield ComparedRow(metric.name, label, None, values, _best(values, metric))


def _read(metric: _Metric, arm: ArmProjection | None, same_demand: bool) -> Quantity | None:
    """A figure of a mechanism, if it is there and means the same in every run."""
    if arm is None or (metric.needs_demand and not same_demand):
        return None
    return _valid(metric.read(arm), arm)


def _valid(figure: Quantity | None, arm: ArmProjection) -> Quantity | None:
    """A figure without its range where that rests on too few rounds to be one."""
    is_rough = figure is not None and Caveat.FEW_ROUNDS in arm.caveats
    return replace(figure, low=None, high=None) if figure is not None and is_rough else figure


def under_same_demand(projection: Projection, first: Projection) -> bool:
    """Whether servers and costs of two projections answer the same traffic."""
    return first.demand is not None and projection.demand == first.demand


def _case_rows(runs: Sequence[Sequence[GroupTable]]) -> Iterator[ComparedRow]:
    """Rows by case, every case of any run; ceilings and lengths measured as a check only are left out."""
    tables = [
        {
            (table.group, row.arm.label): row
            for table in groups
            for row in table.rows
            if not table.group.held_out and row.arm.role != "ceiling"
        }
        for groups in runs
    ]
    for key in dict.fromkeys(key for table in tables for key in table):
        found = [table.get(key) for table in tables]
        for metric in CASE_METRICS:
            values = tuple(None if row is None else metric.read(row) for row in found)
            if any(value is not None for value in values):
                yield ComparedRow(metric.name, key[1], key[0], values, _best(values, metric))


def _best(values: Sequence[Quantity | None], metric: _Metric | _CaseMetric) -> tuple[int, ...]:
    """Place of the best value, if its range is apart from every other's; none where there is nothing to choose."""
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ()
    choose = max if metric.more_is_better else min
    best, place = choose(known, key=lambda one: one[0].value)
    others = [value for value, other in known if other != place]
    if metric.counted:
        return () if any(value.value == best.value for value in others) else (place,)
    return (place,) if all(_apart(best, value) for value in others) else ()


def _apart(one: Quantity, other: Quantity) -> bool:
    """Whether two ranges do not overlap; False where either is not known."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _cheapest(projections: Sequence[Projection], labels: Sequence[str]) -> Cheapest | None:
    """The least cost per hour under the first run's demand; the first of equals."""
    offers = [
        (cost, label, arm.configuration)
        for projection, label in zip(projections, labels, strict=True)
        if under_same_demand(projection, projections[0])
        for arm in projection.arms
        if arm.arm.role != "ceiling" and arm.configuration is not None
        if (cost := _valid(Quantity.of(arm.cost_usd_per_hour, Unit.USD_PER_HOUR), arm)) is not None
    ]
    if not offers:
        return None
    best, *others = sorted(offers, key=lambda offer: offer[0].value)
    cost, label, used = best
    rivals = tuple(
        statement("compare.on", configuration=other.said, run=run)
        for amount, run, other in others
        if not _apart(cost, amount)
    )
    return Cheapest(label, used, cost, rivals)


def _cheapest_statement(cheapest: Cheapest | None) -> Statement:
    """Which run and configuration is the cheapest overall, as far as the ranges tell."""
    if cheapest is None:
        return statement("compare.no_cheapest")
    said: dict[str, Value] = {
        "configuration": cheapest.configuration.said, "run": cheapest.run, "cost": cheapest.cost,
    }  # fmt: skip
    if cheapest.cost.low is None:
        return statement("compare.cheapest_rough", **said)
    if cheapest.rivals:
        return statement("compare.cheapest_tied", rivals=_first(cheapest.rivals), **said)
    return statement("compare.cheapest", **said)
