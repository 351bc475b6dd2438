"""A report or a comparison as JSON: everything at full precision, measured and projected apart, keys in fixed order.

The dataclasses here are the document's shape; json_schema.py makes the published schema from their types.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from castbench.cost.outlook_nouns import Electricity, Outlook, Rented
from castbench.cost.spec import ArmProjection
from castbench.plain import to_plain
from castbench.records import Caveat
from castbench.report import csv_table, text
from castbench.report.catalogue import speaking
from castbench.report.comparison import Cheapest, ComparedRow, Comparison, Machine
from castbench.report.nouns import (
    AtObjective,
    CaveatNote,
    ClaimedLength,
    Confirmed,
    GroupTable,
    HowMeasured,
    Money,
    Report,
    RunFacts,
)
from castbench.report.pareto import Offer
from castbench.report.plan_view import Introduction, introduction_of
from castbench.report.risks_page import risk_statements
from castbench.said import Statement, Value

SchemaNumber = Literal[1]
SCHEMA: SchemaNumber = 1
"""Rises whenever a key is added, renamed, removed or changes its meaning."""


@dataclass(frozen=True, slots=True)
class Said:
    """A statement as its sentence, its name and its unrounded values."""

    says: str
    text: str
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A doubt with the labels it touches; no labels: the whole run."""

    caveat: Caveat
    labels: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class InCurrency:
    """The amounts of the CSV summary in another currency, at the rate that was stated, by mechanism and column."""

    code: str
    per_usd: float
    mechanisms: dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class Projected:
    """What was computed from measurements, a price and a demand; months of a break-even that never comes are null."""

    money: Money
    mechanisms: tuple[ArmProjection, ...]
    at_objective: AtObjective | None
    outlook: Outlook | None
    electricity: Electricity | None
    rented: Rented | None
    in_currency: InCurrency | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured."""

    groups: tuple[GroupTable, ...]
    confirmations: tuple[Confirmed, ...]


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """Everything that is said of one run."""

    schema: SchemaNumber
    kind: Literal["report"]
    run: RunFacts
    warnings: tuple[Said, ...]
    headline: tuple[Said, ...]
    projected: Projected
    ceilings: tuple[Said, ...]
    measured: Measured
    assumptions: tuple[Said, ...]
    caveats: tuple[Doubt, ...]
    introduction: Introduction | None
    claims: tuple[ClaimedLength, ...]
    risks: tuple[Said, ...]
    how_measured: HowMeasured | None
    reproduce: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparisonDocument:
    """Runs side by side; `unlike_runs` is true where the runs did not do the same work."""

    schema: SchemaNumber
    kind: Literal["comparison"]
    unlike_runs: bool
    notes: tuple[Said, ...]
    runs: tuple[Machine, ...]
    cheapest: Cheapest | None
    offers: tuple[Offer, ...]
    rows: tuple[ComparedRow, ...]


@speaking("en")
def of_report(report: Report) -> bytes:
    """The JSON of a report."""
    return encoded(
        ReportDocument(
            schema=SCHEMA,
            kind="report",
            run=report.run,
            warnings=tuple(map(said, report.warnings)),
            headline=tuple(map(said, report.headline)),
            projected=Projected(
                money=report.money,
                mechanisms=report.mechanisms,
                at_objective=report.at_objective,
                outlook=report.outlook,
                electricity=report.electricity,
                rented=report.rented,
                in_currency=_in_currency(report),
            ),
            ceilings=tuple(map(said, report.ceilings)),
            measured=Measured(groups=report.groups, confirmations=report.confirmations),
            assumptions=tuple(map(said, report.assumptions)),
            caveats=tuple(map(doubt, report.caveats)),
            introduction=introduction_of(report),
            claims=report.claims,
            risks=tuple(map(said, risk_statements(report))),
            how_measured=report.how,
            reproduce=report.reproduce,
        )
    )


def _in_currency(report: Report) -> InCurrency | None:
    """Every mechanism's amounts in the stated currency; None where none is stated."""
    currency = report.money.currency
    if currency is None:
        return None
    rows = (csv_table.SummaryRow(report, arm) for arm in report.mechanisms)
    amounts = {row.arm.arm.label: csv_table.in_currency(row, currency) for row in rows}
    return InCurrency(currency.code, currency.per_usd, amounts)


@speaking("en")
def of_comparison(comparison: Comparison) -> bytes:
    """The JSON of a comparison."""
    return encoded(
        ComparisonDocument(
            schema=SCHEMA,
            kind="comparison",
            unlike_runs=comparison.unlike,
            notes=tuple(map(said, comparison.notes)),
            runs=comparison.machines,
            cheapest=comparison.cheapest,
            offers=comparison.offers,
            rows=comparison.rows,
        )
    )


def said(one: Statement) -> Said:
    """A statement, spoken."""
    return Said(one.key, text.say(one), dict(one.values))


def doubt(note: CaveatNote) -> Doubt:
    """A doubt, spoken."""
    return Doubt(note.caveat, note.labels, text.CAVEATS[note.caveat])


def encoded(value: Any) -> bytes:
    """Indented JSON in UTF-8; parts of sentences in English."""
    plain = _finite(to_plain(value, {Statement: text.in_english}))
    return (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    """Plain values with null for the numbers JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
