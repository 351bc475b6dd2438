"""The section on servers at the objective: what was replayed, a row per mechanism, what has no answer."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.nouns import AtObjective, SizedArm
from castbench.report.objective_view import why_untested
from castbench.said import Quantity, Statement, Unit, statement

_COLUMNS = ("label", "servers", "cost", "p50", "p95", "p99", "busy", "formula")


def objective(found: AtObjective | None) -> Iterator[Block]:
    """Nothing where no objective was stated."""
    if found is None:
        return
    yield Heading(text.HEADINGS["objective"])
    missing = why_untested(found)
    if missing is not None:
        yield Paragraph(text.say(missing))
        return
    yield Paragraph(text.say(_traffic(found)))
    sized = [arm for arm in found.arms if arm.servers is not None]
    if sized:
        is_priced = any(arm.cost_usd_per_hour is not None for arm in sized)
        kept = [i for i, name in enumerate(_COLUMNS) if is_priced or name != "cost"]
        columns = [Column(text.CAPACITY_COLUMNS[name], name != "label", name == "label") for name in _COLUMNS]
        rows = [_row(arm) for arm in sized]
        yield Table(tuple(columns[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))
    missed = [_none(found, arm) for arm in found.arms if arm.servers is None]
    if missed:
        yield Bullets(tuple(map(text.say, missed)))
    for key in ("objective.rate_alone", "objective.few"):
        yield Paragraph(text.say(statement(key)), "note")


def _traffic(found: AtObjective) -> Statement:
    """What was replayed."""
    return statement(
        "objective.traffic", traffic=found.source or text.WORDS["objective.poisson"],
        requests=None if found.requests is None else Quantity(found.requests, Unit.COUNT),
        rate=None if found.rate_per_s is None else Quantity(found.rate_per_s, Unit.RATE),
    )  # fmt: skip


def _none(found: AtObjective, arm: SizedArm) -> Statement:
    """Why a mechanism has no number."""
    return statement("objective.none", label=arm.label, objective=found.objective, why=arm.reason)


def _row(arm: SizedArm) -> tuple[str, ...]:
    """One mechanism's cells."""
    cost = None if arm.cost_usd_per_hour is None else Quantity(arm.cost_usd_per_hour, Unit.USD_PER_HOUR)
    return (
        arm.label, fmt.value(Quantity(arm.servers or 0, Unit.COUNT)), fmt.value(cost),
        *(fmt.value(None if seconds is None else Quantity(seconds * 1e3, Unit.MS)) for _, seconds in arm.latencies_s),
        fmt.value(None if arm.load is None else Quantity(arm.load * 100, Unit.PERCENT)),
        fmt.value(None if arm.formula_servers is None else Quantity(arm.formula_servers, Unit.COUNT)),
    )  # fmt: skip
