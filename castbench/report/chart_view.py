"""What is drawn of a report: cost by mechanism, where the time goes, and what changes with the length; unrounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from castbench.cost.selection import rival
from castbench.cost.spec import ArmProjection
from castbench.records import Caveat
from castbench.report import text
from castbench.report.blocks import Axis, Block, Chart, Mark, Paragraph, Point, Series
from castbench.report.nouns import CaseRow, GroupTable, Report
from castbench.said import Quantity, Unit, statement
from castbench.stats import Estimate

MOST_BARS = 20
MOST_LINES = 14
MOST_CANDIDATES = 4
"""Mechanisms in one picture; more of them would hide each other. Coloured ones are those the text speaks of."""

_ORIGINALS = ("naive", "sdpa")
"""The original Transformer and the fused one: a claim against the one is none against the other."""

Role = Literal["today", "baseline", "candidate", "other"]


def by_cost(report: Report) -> Iterator[Block]:
    """Cost per hour of every mechanism, or time per request where there is no money; nothing without any number."""
    roles = _roles(report)
    costs = [(arm, _figure(arm, arm.cost_usd_per_hour)) for arm in report.mechanisms]
    if report.money.missing is None and any(cost for _, cost in costs):
        yield from _bars("cost", Axis(_word("axis.cost"), unit=Unit.USD_PER_HOUR), costs, roles)
        return
    times = [(arm, _figure(arm, arm.seconds_per_request, 1e3)) for arm in report.mechanisms]
    if any(time for _, time in times):
        yield from _bars("time", Axis(_word("axis.time"), unit=Unit.MS), times, roles)


def split(report: Report) -> Iterator[Chart]:
    """Where the baseline's time goes, by both ceilings; nothing where they are not stated."""
    baseline, mixing, module = report.money.baseline, report.money.ceiling, report.money.module_ceiling
    stated = {said.key for said in report.ceilings}
    if baseline is None or mixing is None or module is None or not {"ceiling.mixing", "ceiling.module"} <= stated:
        return
    shares = {"mixing": _left_out(mixing), "rest": _kept(module)}
    projections = Estimate(100.0 - shares["mixing"].value - shares["rest"].value)
    parts = {"mixing": shares["mixing"], "projections": projections, "rest": shares["rest"]}
    if projections.value < 0:
        return
    axis = Axis(_word("axis.share"), unit=Unit.PERCENT)
    series = tuple(
        Series(_word(f"part.{name}"), (_point(name, share),), "candidate" if name == "mixing" else "other")
        for name, share in parts.items()
    )
    alt = text.say(
        statement("chart.split", **{name: Quantity.of(share, Unit.PERCENT) for name, share in parts.items()})
    )
    title = _word("split").format(baseline=text.say(baseline.said))
    yield Chart("time-split", title, alt, "bars", Axis(""), axis, series)


def over_length(report: Report) -> Iterator[Block]:
    """Latency, throughput and peak memory over the length at batch 1, with the crossover marked."""
    if report.money.baseline is None:
        return
    tables = _at_batch_one(report.groups, report.money.baseline.regime)
    marks = tuple(_crossover_marks(report))
    pictures: tuple[tuple[str, Unit, Callable[[CaseRow], Estimate | None], bool], ...] = (
        ("latency", Unit.MS, lambda row: row.latency_ms, True),
        ("throughput", Unit.TOKENS_PER_SECOND, lambda row: _sure(row.tokens_per_s), True),
        ("memory", Unit.MIB, lambda row: _sure(row.peak_memory_mib), False),
    )
    for name, unit, read, is_time in pictures:
        yield from _lines(report, tables, name, unit, read, marks if is_time else ())


@dataclass(frozen=True, slots=True)
class _Roles:
    """What part each mechanism plays, by its label, and which come first where not all can be drawn."""

    by_label: dict[str, Role]

    def place(self, label: str) -> int:
        """The number of a candidate among the candidates."""
        return [other for other, role in self.by_label.items() if role == "candidate"].index(label)

    def series(self, label: str, points: Sequence[Point]) -> Series:
        """A mechanism's points under its name."""
        role = self.of(label)
        return Series(self.named(label), tuple(points), role, self.place(label) if role == "candidate" else 0)

    def of(self, label: str) -> Role:
        """The part of a mechanism."""
        return self.by_label.get(label, "other")

    def named(self, label: str) -> str:
        """A label with its part where that is not plain."""
        role = self.of(label)
        return _word(f"name.{role}").format(label=label) if role in ("today", "baseline") else label


def _roles(report: Report) -> _Roles:
    """Today's and the headline's baseline, the originals, what the headline speaks of, and CAST.

    Figures are of every mechanism at its best, so none is today's where that is served in another way.
    """
    arms, money = report.mechanisms, report.money
    roles: dict[str, Role] = {}
    if money.today is not None and any(arm.configuration == money.today for arm in arms):
        roles[money.today.label] = "today"
    if money.baseline is not None:
        roles.setdefault(money.baseline.label, "baseline")
    subject = rival(arms, money.today, money.baseline)
    wanted = [subject] if subject is not None else []
    wanted += [arm for name in _ORIGINALS for arm in arms if arm.arm.mechanism == name][:MOST_CANDIDATES]
    wanted += sorted((arm for arm in arms if arm.arm.mechanism == "cast"), key=_slowness)
    for arm in wanted:
        if sum(role == "candidate" for role in roles.values()) < MOST_CANDIDATES:
            roles.setdefault(arm.arm.label, "candidate")
    return _Roles(roles)


def _slowness(arm: ArmProjection) -> float:
    """Time over the traffic; what is not known comes last."""
    return float("inf") if arm.seconds_per_request is None else arm.seconds_per_request.value


def _figure(arm: ArmProjection, estimate: Estimate | None, factor: float = 1.0) -> Estimate | None:
    """An estimate in another unit, without its range where that rests on too few rounds to be one; None where an arm
    has no configuration.
    """
    if estimate is None or arm.configuration is None:
        return None
    if Caveat.FEW_ROUNDS in arm.caveats or estimate.low is None or estimate.high is None:
        return Estimate(estimate.value * factor)
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor)


def _bars(
    name: str, axis: Axis, figures: Sequence[tuple[ArmProjection, Estimate | None]], roles: _Roles
) -> Iterator[Chart]:
    """Bars from the least upwards; where there are too many, those the text speaks of and the least."""
    assert axis.unit is not None
    known = sorted(((arm.arm, one) for arm, one in figures if one is not None), key=lambda pair: pair[1].value)
    first = sorted(known, key=lambda pair: roles.of(pair[0].label) == "other")[:MOST_BARS]
    drawn = [pair for pair in known if pair in first]
    series = tuple(roles.series(arm.label, [_bar(arm.label, one)]) for arm, one in drawn)
    (least, low), (most, high) = drawn[0], drawn[-1]
    key = "chart.one_bar" if len(drawn) == 1 else "chart.bars" if len(drawn) == len(known) else "chart.bars_some"
    ranged = any(one.low is not None for _, one in drawn)
    alt = statement(
        key, ranges=statement("chart.whiskers" if ranged else "chart.rough"),
        count=Quantity(len(drawn), Unit.COUNT), all=Quantity(len(known), Unit.COUNT), least_name=least.label,
        least=Quantity.of(low, axis.unit), most_name=most.label, most=Quantity.of(high, axis.unit),
    )  # fmt: skip
    yield Chart(f"{name}-by-mechanism", _word(name), text.say(alt), "bars", Axis(_word("name.mechanism")), axis, series)


def _bar(label: str, one: Estimate) -> Point:
    """A number with its interval, or marked as rough: costs and times have none on too few rounds only."""
    return Point(label, one.value, one.low, one.high, "" if one.low is not None else text.ROUGH)


def _point(x: float | str, one: Estimate) -> Point:
    """A number with its interval."""
    return Point(x, one.value, one.low, one.high)


def _at_batch_one(groups: Sequence[GroupTable], regime: str) -> list[GroupTable]:
    """Shapes of one request in a regime, shortest first, without those that only check the interpolation."""
    found = [
        table
        for table in groups
        if (table.group.shape.batch_size, table.group.regime) == (1, regime) and not table.group.held_out
    ]
    return sorted(found, key=lambda table: table.group.shape.seq_len)


def _lines(
    report: Report, tables: Sequence[GroupTable], name: str, unit: Unit,
    read: Callable[[CaseRow], Estimate | None], marks: tuple[Mark, ...],
) -> Iterator[Block]:  # fmt: skip
    """A line per mechanism that has a number at two lengths or more; nothing where none has."""
    roles, points = _roles(report), _points_by_arm(tables, read)
    known = {label: found for label, found in points.items() if len(found) > 1}
    if not known:
        return
    speed = {arm.arm.label: _slowness(arm) for arm in report.mechanisms}
    order = sorted(known, key=lambda label: (roles.of(label) == "other", speed.get(label, float("inf"))))
    drawn = [label for label in points if label in order[:MOST_LINES]]
    series = tuple(roles.series(label, known[label]) for label in drawn)
    lengths = sorted({float(point.x) for one in series for point in one.points})
    shown = tuple(mark for mark in marks if lengths[0] <= mark.at <= lengths[-1])
    axes = Axis(_word("axis.length"), True, Unit.TOKENS), Axis(_word(f"axis.{name}"), True, unit)
    alt = _lines_alt(series, lengths, unit, tables[0].group.regime)
    yield Chart(f"{name}-by-length", _word(name), alt, "lines", *axes, series, shown)
    if len(drawn) < len(known):
        counts = {"shown": len(drawn), "all": len(known)}
        said = statement("chart.lines_some", **{key: Quantity(count, Unit.COUNT) for key, count in counts.items()})
        yield Paragraph(text.say(said), "note")


def _points_by_arm(tables: Sequence[GroupTable], read: Callable[[CaseRow], Estimate | None]) -> dict[str, list[Point]]:
    """Numbers over the length by label, in the plan's order; ceilings are bounds and no lines."""
    found: dict[str, list[Point]] = {}
    for table in tables:
        for row in table.rows:
            number = read(row)
            if number is not None and number.value > 0 and row.arm.role != "ceiling":
                few = Caveat.FEW_ROUNDS in row.caveats
                point = _point(table.group.shape.seq_len, Estimate(number.value) if few else number)
                found.setdefault(row.arm.label, []).append(point)
    return found


def _lines_alt(series: Sequence[Series], lengths: Sequence[float], unit: Unit, regime: str) -> str:
    """What lines show, in a sentence: where they end."""
    ends = tuple(
        statement("chart.lines_end", label=one.name, value=Quantity(one.points[-1].y, unit))
        for one in series
        if float(one.points[-1].x) == lengths[-1] and one.role != "other"
    )
    shortest, longest = (Quantity(length, Unit.TOKENS) for length in (lengths[0], lengths[-1]))
    return text.say(statement("chart.lines", shortest=shortest, longest=longest, regime=regime, ends=ends or None))


def _crossover_marks(report: Report) -> Iterator[Mark]:
    """Between which lengths the mechanism that the headline speaks of, or else CAST, becomes FASTER for good."""
    subject = rival(report.mechanisms, report.money.today, report.money.baseline)
    asked = [*([subject] if subject else []), *(arm for arm in report.mechanisms if arm.arm.mechanism == "cast")]
    arm = next((arm for arm in asked if arm.crossover[1] is not None), None)
    if arm is None:
        return
    for key, length in zip(("chart.not_faster", "chart.faster_from"), arm.crossover, strict=True):
        if length is not None:
            words = statement(key, label=arm.arm.label, length=Quantity(length, Unit.TOKENS))
            yield Mark(length, text.say(words))


def _left_out(ceiling: Estimate) -> Estimate:
    """Percent of the time that is gone where something is left out: 1 - 1/speed-up."""
    kept = _kept(ceiling)
    ends = (None if end is None else 100.0 - end for end in (kept.high, kept.low))
    return Estimate(100.0 - kept.value, *ends)


def _kept(ceiling: Estimate) -> Estimate:
    """Percent of the time that is left: 1/speed-up."""
    ends = (None if end is None else 100.0 / end for end in (ceiling.high, ceiling.low))
    return Estimate(100.0 / ceiling.value, *ends)


def _sure(number: float | None) -> Estimate | None:
    """A number without an interval; None stays None."""
    return None if number is None else Estimate(number)


def _word(key: str) -> str:
    """A title or a name on an axis."""
    return text.CHARTS[key]
