"""The numbers of a chart in words: beside its bars, and as a table for who cannot see it or wants to check it."""

from __future__ import annotations

from collections.abc import Sequence

from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Axis, Chart, Column, Point, Series, Table
from castbench.said import Quantity, Unit


def shown(point: Point, axis: Axis) -> str:
    """A point's number with its interval and unit, after its mark if it is rough."""
    if axis.unit is None:
        return cell(point, axis)
    return _rough(point) + fmt.text(Quantity(point.y, axis.unit, point.low, point.high))


def number(value: float, axis: Axis) -> str:
    """A number with its unit."""
    return fmt.text(Quantity(value, axis.unit)) if axis.unit else fmt.value(Quantity(value, Unit.TIMES))


def cell(point: Point, axis: Axis) -> str:
    """A point's number with its interval, without the unit that stands in a heading."""
    quantity = Quantity(point.y, axis.unit or Unit.TIMES, point.low, point.high)
    value = _rough(point) + fmt.value(quantity)
    if point.low is None:
        return value
    return text.word("with_range", value=value, range=fmt.spread(quantity, unit=False))


def numbers_of(chart: Chart) -> Table:
    """Every point of a chart: a row per line and a column per x, else a row per point."""
    if chart.kind == "lines":
        return _over_x(chart)
    if chart.kind == "scatter":
        return _scattered(chart)
    columns = (Column(chart.x.title or text.CHARTS["name.part"], numeric=False), Column(chart.y.title))
    return Table(columns, tuple((_name(chart, one, point), cell(point, chart.y)) for one, point in points_of(chart)))


def points_of(chart: Chart) -> list[tuple[Series, Point]]:
    """The points of all series, in order."""
    return [(one, point) for one in chart.series for point in one.points]


def _rough(point: Point) -> str:
    """The mark of a number that rests on too little to have a range."""
    return text.ROUGH if point.note == text.ROUGH else ""


def _name(chart: Chart, one: Series, point: Point) -> str:
    """What a row is about: the series of bars, the point of others."""
    return one.name if chart.kind == "bars" or not isinstance(point.x, str) else point.x


def _over_x(chart: Chart) -> Table:
    """A row per series, a column per x."""
    xs = sorted({float(point.x) for _, point in points_of(chart) if not isinstance(point.x, str)})
    columns = [Column(chart.y.title, numeric=False), *(Column(number(x, chart.x)) for x in xs)]
    return Table(tuple(columns), tuple((one.name, *_along(one, xs, chart.y)) for one in chart.series))


def _along(one: Series, xs: Sequence[float], axis: Axis) -> list[str]:
    """A series' numbers at every x; a dash where it has none."""
    found = {float(point.x): point for point in one.points if not isinstance(point.x, str)}
    return [cell(found[x], axis) if x in found else fmt.NOTHING for x in xs]


def _scattered(chart: Chart) -> Table:
    """A row per point: its series, its name, both its numbers."""
    columns = (
        Column(text.CHARTS["name.series"], numeric=False), Column(text.CHARTS["name.note"], numeric=False),
        Column(chart.x.title), Column(chart.y.title),
    )  # fmt: skip
    rows = tuple(
        (one.name, point.note or fmt.NOTHING, _place(point, chart.x), cell(point, chart.y))
        for one, point in points_of(chart)
    )
    return Table(columns, rows)


def _place(point: Point, axis: Axis) -> str:
    """Where a point is along the lower axis."""
    return point.x if isinstance(point.x, str) else fmt.value(Quantity(point.x, axis.unit or Unit.TIMES))
