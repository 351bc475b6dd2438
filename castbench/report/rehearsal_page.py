"""A rehearsal as a page for people and as JSON: what was served beside what the replay said, and what is behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from castbench.cost.rehearsed import Percentile, Rehearsal
from castbench.plain import to_plain
from castbench.report import format as fmt
from castbench.report import json_report, text
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.capacity_page import way_said
from castbench.report.catalogue import speaking
from castbench.said import Quantity, Statement, Unit, statement

SCHEMA = 1
"""Rises whenever a key of the JSON is renamed, removed or changes its meaning."""


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """What `castbench rehearse` says; `path`: where the rehearsal was kept, None where it was not."""

    rehearsal: Rehearsal
    warnings: tuple[Statement, ...]
    longest: int
    path: str | None


def page(report: RehearsalReport) -> tuple[Block, ...]:
    """Title, warnings, what was served, the verdict, the table, what lies behind it."""
    found = report.rehearsal
    return (
        Heading(text.HEADINGS["rehearsal"], 1),
        *(Paragraph(text.say(said), "warning") for said in (*report.warnings, *_alarms(found))),
        *(Paragraph(text.say(said)) for said in _served(report)),
        Paragraph(text.say(_verdict(found)), "lead"),
        Heading(text.HEADINGS["rehearsal.table"]),
        _table(found),
        Heading(text.HEADINGS["rehearsal.more"]),
        Bullets(tuple(text.say(said) for said in _behind(report))),
    )


@speaking("en")
def as_json(report: RehearsalReport) -> bytes:
    """Everything unrounded, keys in a fixed order."""
    warnings = [json_report.said(one) for one in report.warnings]
    return json_report.encoded(
        {"schema": SCHEMA, "kind": "rehearsal", "warnings": warnings, **plain(report.rehearsal), "kept_in": report.path}
    )


def plain(rehearsal: Rehearsal) -> dict[str, Any]:
    """A rehearsal as plain values, with what follows from them."""
    lines = [{**to_plain(one), "error": one.error, "inside": one.is_inside} for one in rehearsal.percentiles]
    return {
        **to_plain(rehearsal),
        "percentiles": lines,
        "borne_out": rehearsal.is_borne_out,
        "telling": rehearsal.is_telling,
    }


def signature(rehearsal: Rehearsal) -> Statement:
    """What a rehearsal says beside a capacity figure."""
    median, p99 = rehearsal.at(0.5), rehearsal.at(0.99)
    return statement(
        "rehearsal.signature", date=rehearsal.session.created_at[:10], label=rehearsal.label,
        way=way_said(rehearsal.policy), load=_percent(rehearsal.load), p50=_ms(median.observed_s),
        said_p50=_ms(median.predicted_s), p99=_ms(p99.observed_s), said_p99=_ms(p99.predicted_s),
        error=_percent(p99.error), outcome=_outcome(p99),
    )  # fmt: skip


def _alarms(found: Rehearsal) -> Iterator[Statement]:
    """What makes the rehearsal doubtful."""
    if found.session.differs:
        differs = tuple(statement("rehearsal.difference", what=what) for what in found.session.differs)
        yield statement("rehearsal.differs", what=differs)
    if (found.session.waited_share or 0.0) > MOST_WAITED:
        yield statement("rehearsal.loaded", share=_percent(found.session.waited_share or 0.0))


_NAMES = {0.5: "p50", 0.95: "p95", 0.99: "p99"}
MOST_WAITED = 0.02
"""Share of the time that other work may take from the server before it is said; as for a run's windows."""


def _served(report: RehearsalReport) -> Iterator[Statement]:
    """What came, and how it was served."""
    found = report.rehearsal
    yield statement(
        "rehearsal.served", requests=Quantity(found.requests, Unit.COUNT), span=Quantity(found.span_s, Unit.SECONDS),
        label=found.label, way=way_said(found.policy), regime=found.regime, rate=Quantity(found.rate_per_s, Unit.RATE),
        load=_percent(found.load),
    )  # fmt: skip
    yield statement("rehearsal.poisson") if found.source is None else statement("rehearsal.source", source=found.source)
    if found.cut:
        longest, count = Quantity(report.longest, Unit.TOKENS), Quantity(found.cut, Unit.COUNT)
        yield statement("capacity.cut", count=count, longest=longest)
    overhead = Quantity(found.overhead_s * 1e3, Unit.MS)
    if found.is_overhead_measured:
        yield statement("rehearsal.overhead", overhead=overhead, bare=overhead)
    else:
        yield statement("rehearsal.overhead_given", overhead=overhead)


def _verdict(found: Rehearsal) -> Statement:
    """Whether the replay is borne out, and how far off its p99 is."""
    error = _percent(found.at(0.99).error)
    if not found.is_telling:
        wide = next(one for one in (found.at(0.5), found.at(0.99)) if not one.is_telling)
        return statement("rehearsal.untelling", what=_name(wide), low=_ms(wide.low_s), high=_ms(wide.high_s))
    if found.is_borne_out:
        return statement("rehearsal.borne_out", error=error)
    outside = [_name(one) for one in (found.at(0.5), found.at(0.99)) if not one.is_inside]
    if len(outside) == 1:
        return statement("rehearsal.not_borne_out", what=outside[0], error=error)
    return statement("rehearsal.neither_borne_out", error=error)


def _table(found: Rehearsal) -> Table:
    """A row per percentile."""
    columns = tuple(Column(heading, key not in ("share", "inside")) for key, heading in text.REHEARSAL_COLUMNS.items())
    return Table(columns, tuple(_row(one) for one in found.percentiles))


def _row(one: Percentile) -> tuple[str, ...]:
    """One percentile."""
    within = Quantity(one.predicted_s * 1e3, Unit.MS, one.low_s * 1e3, one.high_s * 1e3)
    return (
        _name(one), fmt.value(_ms(one.observed_s)), fmt.value(_ms(one.predicted_s)), fmt.spread(within, unit=False),
        fmt.value(_percent(one.error)), text.WORDS["band.inside" if one.is_inside else "band.outside"],
    )  # fmt: skip


def _behind(report: RehearsalReport) -> Iterator[Statement]:
    """Whose the error is, how batches formed, how it was sent, what the band is, where it is kept."""
    found = report.rehearsal
    at_speed = [_ms(seconds) for seconds in found.predicted_at_speed_s]
    yield statement(
        "rehearsal.batches", ratio=Quantity(found.service_ratio, Unit.TIMES), p50=at_speed[0], p99=at_speed[-1]
    )
    yield statement(
        "rehearsal.together", observed=Quantity(found.observed_batch, Unit.EXPECTED),
        predicted=Quantity(found.predicted_batch, Unit.EXPECTED), busy=_percent(found.observed_busy),
        predicted_busy=_percent(found.predicted_busy),
    )  # fmt: skip
    yield statement("rehearsal.late", late=_ms(found.session.late_p99_s))
    yield statement("rehearsal.band", level=_percent(found.level), replays=Quantity(found.replays, Unit.COUNT))
    if report.path is not None:
        yield statement("rehearsal.kept", path=report.path)


def _outcome(p99: Percentile) -> str:
    """The word for where the 99th percentile lay."""
    if not p99.is_telling:
        return "band.untelling"
    return "band.inside_it" if p99.is_inside else "band.outside_it"


def _name(one: Percentile) -> str:
    """p50 and so on."""
    return _NAMES[one.share]


def _ms(seconds: float) -> Quantity:
    """Seconds as people's milliseconds."""
    return Quantity(seconds * 1e3, Unit.MS)


def _percent(share: float) -> Quantity:
    """A share as a percentage."""
    return Quantity(share * 100, Unit.PERCENT)
