"""The capacity of a run's mechanisms as a page for people and as JSON: servers with proof, range, money, day lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from castbench.cost.capacity_plan import CapacityPlan
from castbench.cost.capacity_stage import ArmCapacity
from castbench.cost.day_lines import DayLines, Line
from castbench.cost.objective import Objective
from castbench.cost.replay import BatchingPolicy
from castbench.cost.spec import Price
from castbench.cost.traffic import Traffic
from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report import json_report, text
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.catalogue import speaking
from castbench.report.nouns import CaveatNote
from castbench.said import Quantity, Statement, Unit, statement

SCHEMA = 1
"""Rises whenever a key of the JSON is renamed, removed or changes its meaning."""
_SAID_ABOVE = {
    Caveat.CPU_RUN, Caveat.FAKE_DEVICE, Caveat.WRONG_DEVICE, Caveat.PRICE_OLD, Caveat.PRICE_SUSPECT,
    Caveat.ENERGY_UNMEASURED,
}  # fmt: skip
"""Caveats that stand as warnings above or beside the price, or are about what is not asked here."""
_SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


@dataclass(frozen=True, slots=True, eq=False)
class CapacityReport:
    """What `castbench capacity` says.

    source          where the traffic came from; None: made up from a rate. `cut`: requests cut to what was measured
    notes           on the traffic, the objective, the price and what limits the figures
    lines           by label: fixed, autoscaled and ideal fleets over the traffic; only where asked for
    asked_replicas  that `ArmCapacity.sustained` is said of; None: not asked
    """

    run: str
    objective: Objective
    traffic: Traffic
    source: str | None
    cut: int
    warnings: tuple[Statement, ...]
    notes: tuple[Statement, ...]
    arms: tuple[ArmCapacity, ...]
    price: Price | None
    money_missing: Statement | None
    lines: dict[str, DayLines]
    asked_replicas: int | None
    caveats: tuple[CaveatNote, ...]

    @property
    def per_server(self) -> int:
        """Replicas in a server."""
        return self.price.devices if self.price else 1


def page(report: CapacityReport) -> tuple[Block, ...]:
    """Title, warnings, notes, the table, a sentence of proof per mechanism, what was asked for besides, doubts."""
    sized = [arm for arm in report.arms if arm.needed is not None]
    blocks: list[Block] = [Heading(text.HEADINGS["capacity"], 1)]
    blocks += [Paragraph(text.say(said), "warning") for said in report.warnings]
    blocks += [Paragraph(text.say(note)) for note in report.notes]
    if sized:
        blocks += [_heading(sized), _table(report, sized)]
    blocks += [Heading(text.HEADINGS["capacity.proof"]), Bullets(tuple(map(text.say, _proofs(report))))]
    if report.asked_replicas is not None:
        said = tuple(text.say(one) for one in _sustained(report, report.asked_replicas))
        blocks += [Heading(text.HEADINGS["capacity.sustained"]), Bullets(said)]
    if report.lines:
        blocks += [Heading(text.HEADINGS["capacity.day"]), _day_table(report)]
    labels = {arm.arm.label for arm in sized}
    doubts = [text.doubt(n.caveat, n.labels, labels) for n in report.caveats if n.caveat not in _SAID_ABOVE]
    if doubts:
        blocks += [Heading(text.HEADINGS["caveats"]), Bullets(tuple(doubts))]
    return tuple(blocks)


@speaking("en")
def as_json(report: CapacityReport) -> bytes:
    """Everything unrounded, keys in a fixed order."""
    return json_report.encoded(
        {
            "schema": SCHEMA,
            "kind": "capacity",
            "run": report.run,
            "warnings": [json_report.said(one) for one in report.warnings],
            "objective": report.objective,
            "traffic": {
                "source": report.source, "requests": report.traffic.requests, "span_s": report.traffic.span_s,
                "rate_per_s": report.traffic.rate_per_s, "cut": report.cut,
            },
            "notes": [json_report.said(note) for note in report.notes],
            "price": report.price,
            "money_missing": report.money_missing,
            "mechanisms": [_plain_arm(report, arm) for arm in report.arms],
            "asked_replicas": report.asked_replicas,
            "day_lines": report.lines,
            "caveats": [json_report.doubt(note) for note in report.caveats],
        }
    )  # fmt: skip


_WAYS = {
    (False, False): "way.batches", (True, False): "way.batches_window", (False, True): "way.batches_by_length",
    (True, True): "way.batches_window_by_length",
}  # fmt: skip
"""How batches form, by whether they wait for company and whether they are sorted by length."""


def way_said(policy: BatchingPolicy) -> Statement:
    """How batches form."""
    if policy.max_batch == 1:
        return statement("way.single")
    said = {"most": Quantity(policy.max_batch, Unit.COUNT), "window": Quantity(policy.batch_window_s * 1e3, Unit.MS)}
    return statement(_WAYS[bool(policy.batch_window_s), bool(policy.bucket_edges)], **said)


def _heading(sized: Sequence[ArmCapacity]) -> Heading:
    """The table's heading, with what its ranges are over."""
    blocks_s = [arm.plan.interval.block_s for arm in sized if arm.plan is not None and arm.plan.interval is not None]
    if not blocks_s:
        return Heading(text.HEADINGS["capacity.servers_unranged"])
    block = Quantity(blocks_s[0], Unit.SECONDS)
    return Heading(text.heading("capacity.servers", block=block))


def _table(report: CapacityReport, sized: Sequence[ArmCapacity]) -> Table:
    """A row per mechanism with a number; replicas where a server has several."""
    names = ("label", "servers", "range", "replicas", "cost", "p50", "p95", "p99", "busy", "formula")
    rows = [_row(report, arm) for arm in sized]
    empty = {"replicas"} if report.per_server == 1 else set()
    empty |= {"range"} if all(row[2] == fmt.NOTHING for row in rows) else set()
    kept = [i for i, name in enumerate(names) if name not in empty]
    columns = tuple(Column(text.CAPACITY_COLUMNS[names[i]], names[i] != "label", names[i] == "label") for i in kept)
    return Table(columns, tuple(tuple(row[i] for i in kept) for row in rows))


def _row(report: CapacityReport, arm: ArmCapacity) -> tuple[str, ...]:
    """One mechanism's figures."""
    plan = arm.plan
    assert plan is not None and plan.units is not None and plan.outcome is not None  # noqa: PT018 - it was sized
    cost = None if report.price is None else Quantity(plan.units.whole * report.price.usd_per_hour, Unit.USD_PER_HOUR)
    latencies = [plan.outcome.seconds_at(share) for share, _ in _SHARES]
    load, formula = plan.outcome.load, plan.formula
    return (
        arm.arm.label, fmt.value(Quantity(plan.units.whole, Unit.COUNT)), _range(plan),
        fmt.value(Quantity(plan.units.replicas, Unit.COUNT)), fmt.value(cost),
        *(fmt.value(None if seconds is None else Quantity(seconds * 1e3, Unit.MS)) for seconds in latencies),
        fmt.value(None if load is None else Quantity(load * 100, Unit.PERCENT)),
        fmt.value(None if formula is None else Quantity(formula, Unit.COUNT)),
    )  # fmt: skip


def _range(plan: CapacityPlan) -> str:
    """Servers as bought over resampled traffic."""
    ends, units = plan.bought_range, plan.units
    if ends is None or units is None:
        return fmt.NOTHING
    low, high = (None if end is None else end // units.replicas_per_unit for end in ends)
    if high is None:
        return text.word("open_range", low=Quantity(low or 0, Unit.COUNT))
    return fmt.spread(Quantity(units.whole, Unit.COUNT, low, high))


def _proofs(report: CapacityReport) -> Iterator[Statement]:
    """Why just so many, a sentence per mechanism; or why none."""
    for arm in report.arms:
        plan = arm.plan
        if plan is None or plan.units is None or arm.way is None:
            yield statement("capacity.none", label=arm.arm.label, why=arm.why_none)
            continue
        yield statement(
            "capacity.proof", label=arm.arm.label, way=way_said(plan.setting.policy),
            regime=arm.way.regime,
            proof=plan.sizing.proof, fraction=Quantity(plan.units.fractional, Unit.EXPECTED),
            drop=_drop(plan),
        )  # fmt: skip


def _drop(plan: CapacityPlan) -> Statement:
    """What would remove a unit."""
    assert plan.units is not None
    factor = plan.units.speedup_to_drop
    if factor.value is None:
        return statement("capacity.no_drop", why=factor.reason)
    return statement("capacity.drop", times=Quantity(factor.value, Unit.TIMES))


def _sustained(report: CapacityReport, asked: int) -> Iterator[Statement]:
    """The rate a stated number of replicas bears."""
    replicas = Quantity(asked, Unit.COUNT)
    for arm in report.arms:
        label, factor = arm.arm.label, arm.sustained
        if factor is None:
            yield statement("capacity.no_rate_either", label=label)
        elif factor.value is None:
            yield statement("capacity.no_rate", label=label, why=factor.reason)
        else:
            yield statement("capacity.rate", label=label, replicas=replicas, rate=Quantity(factor.value, Unit.RATE))


def _day_table(report: CapacityReport) -> Table:
    """Three lines per mechanism."""
    names = ("label", "line", "hours", "mean", "peak", "missed")
    columns = tuple(Column(text.CAPACITY_COLUMNS[n], n in ("hours", "mean", "peak"), n == "missed") for n in names)
    rows: list[tuple[str, ...]] = []
    for label, lines in report.lines.items():
        for number, line in enumerate((lines.fixed, lines.autoscaled, lines.ideal)):
            rows.append(("" if number else label, *_line_cells(line)))
    return Table(columns, tuple(rows))


def _line_cells(line: Line) -> tuple[str, ...]:
    """A fleet over the traffic."""
    mean = None if line.mean_replicas is None else Quantity(line.mean_replicas, Unit.EXPECTED)
    missed = text.WORDS["day_line.bound"]
    if line.missed is not None:
        missed = text.WORDS["semicolon"].join(map(text.say, line.missed)) or text.WORDS["day_line.kept"]
    return (
        text.DAY_LINES[line.name], fmt.value(Quantity(line.replica_hours, Unit.HOURS)), fmt.value(mean),
        fmt.value(Quantity(line.peak_replicas, Unit.COUNT)), missed,
    )  # fmt: skip


def _plain_arm(report: CapacityReport, arm: ArmCapacity) -> dict[str, Any]:
    """One mechanism; null where nothing could be sized."""
    plan, price = arm.plan, report.price
    outcome = None if plan is None else plan.outcome
    units = None if plan is None else plan.units
    return {
        "label": arm.arm.label,
        "reason": arm.why_none,
        "way": None if arm.way is None else {"regime": arm.way.regime, "bucketed": arm.way.bucketed},
        "policy": None if plan is None else plan.setting.policy,
        "policies_tried": None if plan is None else plan.trials,
        "sizing": None if plan is None else plan.sizing,
        "proof": None if plan is None else plan.sizing.proof,
        "units": units,
        "cost_usd_per_hour": None if units is None or price is None else units.whole * price.usd_per_hour,
        "interval": None if plan is None else plan.interval,
        "bought_range": None if plan is None else plan.bought_range,
        "formula": None if plan is None else plan.formula,
        "utilization": None if outcome is None else outcome.utilization,
        "load": None if outcome is None else outcome.load,
        "mean_batch_size": None if outcome is None else outcome.mean_batch_size,
        "latency_s": None if outcome is None else {name: outcome.seconds_at(share) for share, name in _SHARES},
        "wait_s": None if outcome is None else {name: outcome.seconds_at(share, "wait") for share, name in _SHARES},
        "sustained_per_s": arm.sustained,
    }
