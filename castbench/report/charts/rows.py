"""Charts of rows: a name, a bar and its number on a line of its own; bars, waterfall, tornado."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from castbench.report.blocks import Chart, Point, Series
from castbench.report.charts.canvas import NARROW, Canvas, data, number_format
from castbench.report.charts.labels import fitted, linear_ticks
from castbench.report.charts.numbers import number, points_of, shown
from castbench.report.charts.strokes import colours
from castbench.report.charts.style import Style


@dataclass(frozen=True, slots=True)
class _Row:
    """A bar from `start` to `end`, its whisker from `low` to `high` where it has one, and its number in words; a note
    stands below the name where there is room.
    """

    name: str
    start: float
    end: float
    words: str
    colour: str
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Measures:
    """Sizes in pixels, for a wide page and for a phone."""

    left: int
    right: int
    step: int
    bar: int
    name_cells: int
    bar_down: int


_WIDE = _Measures(left=206, right=186, step=34, bar=18, name_cells=30, bar_down=17)
_PHONE = _Measures(left=4, right=8, step=48, bar=14, name_cells=26, bar_down=30)
_PHONE_CELLS = 50
"""Half-width cells of a name and its number together, on the line above a bar."""
_LIFT = 7
"""Pixels that a name goes up, and its note down, where there are both."""
_AXIS = 42
"""Pixels below a plot for an axis with its title."""


def bars(chart: Chart, style: Style, width: int) -> Canvas:
    """A bar from zero for every series, with its interval."""
    painted = colours(chart.series, style)
    made = [
        _Row(one.name, 0.0, point.y, shown(point, chart.y), painted[one.name], point.low, point.high)
        for one in chart.series
        for point in one.points[:1]
    ]
    return _canvas(chart, made, style, width)


def waterfall(chart: Chart, style: Style, width: int) -> Canvas:
    """Totals from zero, changes from where the bar before ended."""
    made: list[_Row] = []
    at = 0.0
    steps = points_of(chart)
    for index, (one, point) in enumerate(steps):
        is_total = index in (0, len(steps) - 1)
        start, at = (0.0, point.y) if is_total else (at, at + point.y)
        ends = {0: style.today, len(steps) - 1: style.baseline}
        colour = ends.get(index, style.gain if point.y <= 0 else style.loss)
        low, high = _around(point, start)
        made.append(_Row(_name(one, point), start, at, shown(point, chart.y), colour, low, high, point.note))
    return _canvas(chart, made, style, width, linked=True)


def _around(point: Point, start: float) -> tuple[float | None, float | None]:
    """A change's interval, moved to where the change begins."""
    return tuple(None if end is None else start + end for end in (point.low, point.high))  # type: ignore[return-value]


def tornado(chart: Chart, style: Style, width: int) -> Canvas:
    """What the result becomes between both ends of every factor, around what it is now."""
    made = []
    for one, point in points_of(chart):
        low, high = (point.y if end is None else end for end in (point.low, point.high))
        words = f"{number(low, chart.y)} … {number(high, chart.y)}"
        made.append(_Row(_name(one, point), low, high, words, colours((one,), style)[one.name]))
    centres = sorted({point.y for _, point in points_of(chart)})
    return _canvas(chart, made, style, width, rules=centres)


def _name(one: Series, point: Point) -> str:
    """A row's name: the point's where it has one."""
    return point.x if isinstance(point.x, str) else one.name


def _canvas(
    chart: Chart, made: Sequence[_Row], style: Style, width: int, *, linked: bool = False,
    rules: Sequence[float] = (),
) -> Canvas:  # fmt: skip
    """Rows under each other over one axis of numbers, zero in sight."""
    is_phone = width < NARROW
    size = _PHONE if is_phone else _WIDE
    height = max(1, len(made)) * size.step
    plot = width - size.left - size.right
    ends = [0.0, *rules, *(e for row in made for e in (row.start, row.end, row.low, row.high) if e is not None)]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.02 or 1.0
    domain = [low - (room if low < 0 else 0), high + room]
    ticks = linear_ticks(domain[0], domain[1], 3 if is_phone else 6)
    across = alt.X(
        "x:Q", scale=alt.Scale(domain=domain, nice=False, zero=False),
        axis=alt.Axis(title=fitted(chart.y.title, 60), values=ticks, format=number_format(high), grid=True),
    )  # fmt: skip
    down = alt.Y("y:Q", scale=alt.Scale(domain=[height, 0], nice=False, zero=False), axis=None)
    layers = [*_bars(made, size, across, down)]
    layers += _whiskers(made, size, across, down, style)
    layers += _links(made, size, across, down, style) if linked else []
    layers += [_rule(at, across, style) for at in dict.fromkeys([*([0.0] if low < 0 else []), *rules])]
    layers += _words(made, size, plot, style, is_phone=is_phone)
    padding = {"left": size.left, "right": size.right, "top": 4, "bottom": _AXIS}
    return Canvas(tuple(layers), plot, height, padding)


def _middle(index: int, size: _Measures) -> float:
    """Where the middle of a row's bar is."""
    return index * size.step + size.bar_down


def _bars(made: Sequence[_Row], size: _Measures, across: alt.X, down: alt.Y) -> Iterator[alt.Chart]:
    """The bars."""
    values = [
        {
            "x": row.start, "x2": row.end, "y": _middle(i, size) - size.bar / 2, "y2": _middle(i, size) + size.bar / 2,
            "c": row.colour,
        }
        for i, row in enumerate(made)
    ]  # fmt: skip
    colour = alt.Color("c:N", scale=None, legend=None)
    yield data(values).mark_rect(cornerRadius=2).encode(across, down, alt.X2("x2:Q"), alt.Y2("y2:Q"), color=colour)


def _whiskers(made: Sequence[_Row], size: _Measures, across: alt.X, down: alt.Y, style: Style) -> Iterator[alt.Chart]:
    """Intervals across the ends of their bars, on an edge of the ground's colour so that they show on any bar."""
    values = [
        {"x": row.low, "x2": row.high, "y": _middle(i, size)}
        for i, row in enumerate(made)
        if row.low is not None and row.high is not None and row.low < row.high
    ]
    for colour, wide in ((style.ground, 4.5), (style.ink, 1.6)):
        base = data(values)
        yield base.mark_rule(stroke=colour, strokeWidth=wide).encode(across, down, alt.X2("x2:Q"))
    for end in ("x", "x2"):
        ticks = [{"x": value[end], "y": value["y"] - 4, "y2": value["y"] + 4} for value in values]
        yield data(ticks).mark_rule(stroke=style.ink, strokeWidth=1.6).encode(across, down, y2=alt.Y2("y2:Q"))


def _links(made: Sequence[_Row], size: _Measures, across: alt.X, down: alt.Y, style: Style) -> list[alt.Chart]:
    """From the end of every bar down to the next one."""
    values = [
        {"x": row.end, "y": _middle(i, size) + size.bar / 2, "y2": _middle(i + 1, size) - size.bar / 2}
        for i, row in enumerate(made[:-1])
    ]
    mark = data(values).mark_rule(stroke=style.muted, strokeWidth=1, strokeDash=[2, 2])
    return [mark.encode(across, down, y2=alt.Y2("y2:Q"))]


def _rule(at: float, across: alt.X, style: Style) -> alt.Chart:
    """A line from top to bottom."""
    made: alt.Chart = data([{"x": at}]).mark_rule(stroke=style.ink, strokeWidth=1.2).encode(across)
    return made


def _words(made: Sequence[_Row], size: _Measures, plot: int, style: Style, *, is_phone: bool) -> Iterator[alt.Chart]:
    """Names and numbers: on both sides of the plot, notes below the names; on a phone on a line above the bar."""
    middles = [_middle(index, size) for index in range(len(made))]
    room = [max(12, _PHONE_CELLS - len(row.words)) if is_phone else size.name_cells for row in made]
    names = [fitted(row.name, cells) for row, cells in zip(made, room, strict=True)]
    numbers = [row.words for row in made]
    height = len(made) * size.step
    if is_phone:
        above = [at - _PHONE.bar_down + 10 for at in middles]
        # Above its bar a name stands on the grid: an edge of the ground's colour keeps the lines off it.
        halo = {"stroke": style.ground, "strokeWidth": 4}
        for edge, inks in ((halo, (style.ground, style.ground)), ({}, (style.ink, style.muted))):
            yield _column(names, above, height, 0, align="left", color=inks[0], fontWeight=500, **edge)
            yield _column(numbers, above, height, plot, align="right", color=inks[1], **edge)
        return
    noted = [(fitted(row.note, size.name_cells + 4), at) for row, at in zip(made, middles, strict=True) if row.note]
    lifted = [at - (_LIFT if row.note else 0) for row, at in zip(made, middles, strict=True)]
    yield _column(names, lifted, height, -10, align="right", color=style.ink, fontWeight=500)
    yield _column(
        [note for note, _ in noted], [at + _LIFT for _, at in noted], height, -10, align="right", color=style.muted,
        fontSize=10.5,
    )  # fmt: skip
    yield _column(numbers, middles, height, plot + 10, align="left", color=style.muted)


def _column(words: Sequence[str], places: Sequence[float], height: int, x: int, **written: Any) -> alt.Chart:
    """Words under each other at one x."""
    values = [{"t": one, "y": at} for one, at in zip(words, places, strict=True)]
    down = alt.Y("y:Q", scale=alt.Scale(domain=[height, 0], nice=False, zero=False), axis=None)
    mark = data(values).mark_text(**{"baseline": "middle", "fontSize": 12, "limit": 0, **written})
    made: alt.Chart = mark.encode(down, x=alt.value(x), text="t:N")
    return made
