"""Charts over a number: lines with intervals and marked places, and scatters with named points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from castbench.report.blocks import Axis, Chart, Point, Series
from castbench.report.charts.canvas import NARROW, Canvas, data, number_format
from castbench.report.charts.labels import apart, fitted, free_places, linear_ticks, log_ticks, spaced
from castbench.report.charts.strokes import colours, dashes, markers, weights
from castbench.report.charts.style import Style

_HEIGHT = {False: 320, True: 300}
_LEFT, _BOTTOM, _TOP = 66, 46, 26
_MARK_LINE = 15
"""Pixels above a plot that the words of one mark take."""
_NAMES = {False: (178, 24), True: (112, 15)}
"""Pixels beside the plot for the names of lines, and the half-width cells they may have."""


_CELL = 6.0
"""Pixels that half a width of small type takes, at most."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where numbers are along an axis of `length` pixels; a log scale's numbers are above zero."""

    low: float
    high: float
    length: int
    log: bool

    def share(self, value: float) -> float:
        """0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at(self, share: float) -> float:
        """The number at a share of the length."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)

    def encoded(self) -> alt.Scale:
        """As altair takes it."""
        kind: Literal["log", "linear"] = "log" if self.log else "linear"
        return alt.Scale(type=kind, domain=[self.low, self.high], nice=False, zero=False, clamp=False)


@dataclass(frozen=True, slots=True)
class _Plot:
    """Both scales with their encodings, and how the series are told apart."""

    chart: Chart
    style: Style
    x: _Scale
    y: _Scale
    across: alt.X
    down: alt.Y
    is_phone: bool

    def paint(self, name: str) -> str:
        """The colour of a series."""
        return colours(self.chart.series, self.style)[name]


def lines(chart: Chart, style: Style, width: int) -> Canvas:
    """A line per series, its name at its end; an interval as a whisker at each point; marks as rules with words."""
    is_phone = width < NARROW
    room, cells = _NAMES[is_phone]
    plot = _plot(chart, style, width - _LEFT - room, is_phone=is_phone, measured_ticks=True)
    layers = [*_marks(plot), *_lines(plot), *_whiskers(plot), *_dots(plot), *_names(plot, cells)]
    top = _TOP + _MARK_LINE * len(chart.marks)
    padding = {"left": _LEFT, "right": room, "top": top, "bottom": _BOTTOM}
    return Canvas((*layers, _y_title(plot, -10 - _MARK_LINE * len(chart.marks))), plot.x.length, plot.y.length, padding)


def scatter(chart: Chart, style: Style, width: int) -> Canvas:
    """A point for every offer, a note beside those that have one, and a key of the series below."""
    is_phone = width < NARROW
    plot = _plot(chart, style, width - _LEFT - 24, is_phone=is_phone, measured_ticks=False)
    layers = [*_whiskers(plot), *_dots(plot, size=90), *_notes(plot), *_key(plot)]
    padding = {"left": _LEFT, "right": 24, "top": _TOP, "bottom": _BOTTOM + 8 + 20 * len(chart.series)}
    return Canvas((*layers, _y_title(plot, -10)), plot.x.length, plot.y.length, padding)


def _plot(chart: Chart, style: Style, length: int, *, is_phone: bool, measured_ticks: bool) -> _Plot:
    """Scales around the points: a log axis fits them, a linear one begins at zero."""
    points = _drawable(chart)
    xs = [float(p.x) for _, p in points] + [mark.at for mark in chart.marks]
    ys = [v for _, p in points for v in (p.y, p.low, p.high) if v is not None and (v > 0 or not chart.y.log)]
    x = _around(xs, chart.x, length)
    y = _around(ys, chart.y, _HEIGHT[is_phone])
    measured = sorted({float(p.x) for _, p in points})
    gap = 46.0 if is_phone else 52.0
    x_ticks = spaced(measured, [x.share(v) * length for v in measured], gap) if measured_ticks else _ticks(x, is_phone)
    across = alt.X("x:Q", scale=x.encoded(), axis=_axis(chart.x, x_ticks, grid=False))
    down = alt.Y("y:Q", scale=y.encoded(), axis=_axis(chart.y, _ticks(y, is_phone), grid=True, title=False))
    return _Plot(chart, style, x, y, across, down, is_phone)


def _drawable(chart: Chart) -> list[tuple[Series, Point]]:
    """Points that the axes can hold."""
    return [
        (one, point)
        for one in chart.series
        for point in one.points
        if not isinstance(point.x, str) and _fits(float(point.x), chart.x) and _fits(point.y, chart.y)
    ]


def _fits(value: float, axis: Axis) -> bool:
    """Whether an axis can hold a number."""
    return math.isfinite(value) and (value > 0 or not axis.log)


def _around(values: Sequence[float], axis: Axis, length: int) -> _Scale:
    """A scale with some room around the values."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    if axis.log:
        room = (high / low) ** 0.04 if high > low else 1.5
        return _Scale(low / room, high * room, length, True)
    low, high = min(0.0, low), max(0.0, high)
    room = (high - low) * 0.06 or 1.0
    return _Scale(low - (room if low < 0 else 0.0), high + room, length, False)


def _ticks(scale: _Scale, is_phone: bool) -> list[float]:
    """Round numbers along a scale."""
    made: Callable[[float, float, int], list[float]] = log_ticks if scale.log else linear_ticks
    return made(scale.low, scale.high, 5 if is_phone else 8)


def _axis(axis: Axis, ticks: Sequence[float], *, grid: bool, title: bool = True) -> alt.Axis:
    """An axis with these ticks."""
    named = fitted(axis.title, 60) if title else None
    return alt.Axis(
        title=named, values=list(ticks), grid=grid, format=number_format(max(ticks, default=1.0)), labelOverlap=False
    )


def _y_title(plot: _Plot, y: int) -> alt.Chart:
    """The title of the upright axis, lying above it: nobody turns the head to read it."""
    mark = data([{"t": fitted(plot.chart.y.title, 46)}]).mark_text(
        align="left", baseline="bottom", fontSize=12, color=plot.style.muted, limit=0
    )
    made: alt.Chart = mark.encode(x=alt.value(-_LEFT + 8), y=alt.value(y), text="t:N")
    return made


def _values(plot: _Plot) -> list[dict[str, Any]]:
    """Every point with what it is drawn with."""
    dashed, marked, weight = dashes(plot.chart.series), markers(plot.chart.series), weights(plot.chart.series)
    return [
        {
            "x": float(point.x), "y": point.y, "low": point.low, "high": point.high, "n": one.name,
            "c": plot.paint(one.name), "d": dashed[one.name], "m": marked[one.name], "w": weight[one.name],
            "note": fitted(point.note, 28),
        }
        for one, point in _drawable(plot.chart)
    ]  # fmt: skip


def _lines(plot: _Plot) -> Iterator[alt.Chart]:
    """The lines, what matters last and on top."""
    series = sorted(plot.chart.series, key=lambda one: one.role != "other")
    values = _values(plot)
    for one in series:
        own = [value for value in values if value["n"] == one.name]
        if len(own) > 1:
            mark = data([{"x": v["x"], "y": v["y"]} for v in own]).mark_line(
                stroke=own[0]["c"], strokeDash=own[0]["d"], strokeWidth=own[0]["w"], strokeJoin="round"
            )
            yield mark.encode(plot.across, plot.down)


def _whiskers(plot: _Plot) -> Iterator[alt.Chart]:
    """Intervals as upright strokes."""
    values = [
        {"x": v["x"], "y": v["low"], "y2": v["high"], "c": v["c"]}
        for v in _values(plot)
        if v["low"] is not None and v["high"] is not None and v["low"] < v["high"] and _fits(v["low"], plot.chart.y)
    ]
    mark = data(values).mark_rule(strokeWidth=1.4)
    yield mark.encode(plot.across, plot.down, y2=alt.Y2("y2:Q"), color=alt.Color("c:N", scale=None, legend=None))


def _dots(plot: _Plot, size: int = 44) -> Iterator[alt.Chart]:
    """The points themselves."""
    kept = ("x", "y", "c", "m")
    values = [{name: v[name] for name in kept} for v in sorted(_values(plot), key=lambda v: v["w"])]
    mark = data(values).mark_point(filled=True, size=size, opacity=1, stroke=plot.style.ground, strokeWidth=0.8)
    yield mark.encode(
        plot.across, plot.down, color=alt.Color("c:N", scale=None, legend=None),
        shape=alt.Shape("m:N", scale=None, legend=None),
    )  # fmt: skip


def _names(plot: _Plot, cells: int) -> Iterator[alt.Chart]:
    """Names beside the ends of their lines, moved apart, with a thin line to where they belong."""
    ends = {one.name: point for one, point in _drawable(plot.chart)}
    names = list(ends)
    height = plot.y.length
    wanted = [(1 - plot.y.share(ends[name].y)) * height for name in names]
    placed = apart(wanted, 14.0, -4.0, height + 4.0)
    right = plot.x.at(1 + 12 / plot.x.length)
    leaders = [
        {"x": float(ends[name].x), "y": ends[name].y, "x2": right, "y2": plot.y.at(1 - at / height)}
        for name, at in zip(names, placed, strict=True)
    ]
    mark = data(leaders).mark_rule(stroke=plot.style.muted, strokeWidth=0.6, strokeDash=[1, 2])
    yield mark.encode(plot.across, plot.down, alt.X2("x2:Q"), alt.Y2("y2:Q"))
    words = [
        {"t": fitted(name, cells), "x": right, "y": plot.y.at(1 - at / height), "c": plot.paint(name)}
        for name, at in zip(names, placed, strict=True)
    ]
    text = data(words).mark_text(align="left", baseline="middle", dx=3, fontSize=11, fontWeight=500, limit=0)
    yield text.encode(plot.across, plot.down, text="t:N", color=alt.Color("c:N", scale=None, legend=None))


def _marks(plot: _Plot) -> Iterator[alt.Chart]:
    """Rules at their places, their words above the plot, one line each."""
    for index, mark in enumerate(plot.chart.marks):
        up = -6 - _MARK_LINE * (len(plot.chart.marks) - 1 - index)
        rule = data([{"x": mark.at}]).mark_rule(stroke=plot.style.ink, strokeWidth=1.2, strokeDash=[4, 3])
        yield rule.encode(plot.across, y=alt.value(up + 4), y2=alt.value(plot.y.length))
        at = plot.x.share(mark.at) * plot.x.length
        is_right = at > plot.x.length / 2
        beside = _LEFT + at if is_right else plot.x.length - at + _NAMES[plot.is_phone][0]
        words = fitted(mark.words, int(beside / _CELL))
        text = data([{"x": mark.at, "t": words}]).mark_text(
            align="right" if is_right else "left", baseline="middle", dx=-4 if is_right else 4, fontSize=11,
            color=plot.style.ink, limit=0,
        )  # fmt: skip
        yield text.encode(plot.across, y=alt.value(up), text="t:N")


def _notes(plot: _Plot) -> Iterator[alt.Chart]:
    """Notes by their points, where they hide nothing."""
    values = _values(plot)
    width, height = plot.x.length, plot.y.length
    points = [(plot.x.share(v["x"]) * width, (1 - plot.y.share(v["y"])) * height) for v in values]
    widths = [len(v["note"]) * _CELL if v["note"] else None for v in values]
    words = [
        {"x": plot.x.at(place[0] / width), "y": plot.y.at(1 - place[1] / height), "t": value["note"]}
        for value, place in zip(values, free_places(points, widths, width + 20, height), strict=True)
        if place is not None
    ]
    text = data(words).mark_text(
        align="center", baseline="middle", fontSize=11, color=plot.style.ink, fontWeight=500, limit=0
    )
    yield text.encode(plot.across, plot.down, text="t:N")


def _key(plot: _Plot) -> Iterator[alt.Chart]:
    """Which marker is whose, below the plot."""
    marked = markers(plot.chart.series)
    for index, one in enumerate(plot.chart.series):
        y = alt.value(plot.y.length + _BOTTOM + 6 + 20 * index)
        dot = data([{}]).mark_point(
            filled=True, size=70, opacity=1, shape=marked[one.name], color=plot.paint(one.name)
        )  # fmt: skip
        yield dot.encode(x=alt.value(6), y=y)
        words = data([{"t": fitted(one.name, 44 if plot.is_phone else 90)}]).mark_text(
            align="left", baseline="middle", fontSize=12, color=plot.style.ink, limit=0
        )
        yield words.encode(x=alt.value(18), y=y, text="t:N")
