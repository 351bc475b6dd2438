"""Charts that a spreadsheet draws itself, from cells: the costs of the summary, and every chart of a page.

Each chart has its numbers in a table on one sheet, and its picture beside that table or, of costs, on the summary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from castbench.report.blocks import Axis, Chart, Point, Series
from castbench.report.catalogue import Section
from castbench.report.text import legible
from castbench.report.xlsx_book import Cell, Field, Formula, Sheet, at, number_format

COLUMNS = Section("sheet_columns")

COSTS = "cost-by-mechanism"
"""The chart of a page that stands on the summary instead, drawn by `costs` from the table there."""

_INK, _GRID = "#1B2430", "#DFE4EA"
_TODAY, _BASELINE, _OTHER, _GAIN, _LOSS = "#0B62A8", "#2F3B48", "#737E8B", "#0B7565", "#B8460E"
_CANDIDATES = ("#B8460E", "#6D2F9C", "#0B7565", "#A3195B")
_ROLES = {"today": _TODAY, "baseline": _BASELINE, "other": _OTHER}
_SIZE = {"width": 820, "height": 400}
_ROWS_PER_CHART = 22
_CHARTS_PER_PAGE = 2
_X, _Y, _LOW, _HIGH, _NOTE = range(1, 6)
_BESIDE = 7
_BELOW, _ABOVE, _STEPS = _BESIDE, _BESIDE + 1, _BESIDE + 2
"""Columns of a chart's table, and the one its picture begins in; what only the picture needs lies under it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the chart of costs: formulas of cells elsewhere, so that it follows them."""

    label: str
    cost: Formula
    below: Formula | None
    above: Formula | None


def prepared(sheet: Sheet) -> None:
    """Widths of the sheet that holds the tables of all charts."""
    sheet.widths(34, 26, 14, 14, 14, 40)


def costs(tables: Sheet, onto: Sheet, chart: Chart, bars: Sequence[Bar]) -> None:
    """Costs with their ranges: numbers on the sheet `tables`, the picture on another, at its next row; the bars take
    the place of the chart's series.
    """
    top = _table(tables, chart)
    for row, bar in enumerate(bars, top):
        for column, cell in ((0, bar.label), (_Y, bar.cost), (_BELOW, bar.below), (_ABOVE, bar.above)):
            tables.write(row, column, cell, tables.book.number(chart.y.unit))
    tables.row = top + len(bars) + 1
    drawn = _columns(tables, range(top, top + len(bars)), chart.y)
    _dress(drawn, tables, top, _axis(chart.x, ()), _values(chart.y, ()))
    onto.worksheet.insert_chart(onto.row, 0, drawn, {"description": legible(chart.alt)})
    onto.row += _ROWS_PER_CHART


def page(sheet: Sheet, charts: Iterable[Chart]) -> None:
    """Every chart with its table, one below another, two on a printed page."""
    breaks = []
    for index, chart in enumerate(charts):
        if index % _CHARTS_PER_PAGE == 0 and sheet.row:
            breaks.append(sheet.row)
        top = _table(sheet, chart)
        rows = _points(sheet, chart, top)
        drawn, x, y = _DRAWN[chart.kind](sheet, chart, top)
        _dress(drawn, sheet, top, x, y)
        sheet.worksheet.insert_chart(top - 1, _BESIDE, drawn, {"description": legible(chart.alt)})
        sheet.row = max(top + rows, top + _ROWS_PER_CHART) + 1
    sheet.worksheet.set_h_pagebreaks(breaks)


def _table(sheet: Sheet, chart: Chart) -> int:
    """Title and column headings of a chart's table; the row that its points begin in."""
    x, y = chart.x, chart.y
    sheet.line(chart.title, "heading")
    headings = [
        Field(COLUMNS["series"], text=True), Field(x.title, text=x.unit is None), Field(y.title),
        Field(COLUMNS["low"].format(axis=y.title)), Field(COLUMNS["high"].format(axis=y.title)),
        Field(COLUMNS["point_note"], text=True),
    ]  # fmt: skip
    sheet.table(headings, [])
    return sheet.row


def _points(sheet: Sheet, chart: Chart, top: int) -> int:
    """A row for every point, two for every mark; how many there are."""
    rows = [(series.name, point) for series in chart.series for point in series.points]
    ys = [point.y for _, point in rows if math.isfinite(point.y)]
    ends = (min(ys), max(ys)) if ys else (0.0, 0.0)
    rows += [(mark.words, Point(mark.at, end)) for mark in chart.marks for end in ends]
    x, y = sheet.book.number(chart.x.unit), sheet.book.number(chart.y.unit)
    for row, (name, point) in enumerate(rows, top):
        below, above = (None if end is None else abs(end - point.y) for end in (point.low, point.high))
        cells: list[Cell] = [name, point.x, point.y, point.low, point.high, point.note or None, None, below, above]
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell, x if column == _X else y)
    return len(rows)


Drawn = tuple[Any, dict[str, Any], dict[str, Any]]
"""A chart, and what its two axes look like."""


def _bars(sheet: Sheet, chart: Chart, top: int) -> Drawn:
    """One bar a series."""
    drawn = _columns(sheet, range(top, top + len(_all_points(chart))), chart.y)
    return drawn, _axis(chart.x, ()), _values(chart.y, ())


def _columns(sheet: Sheet, rows: range, axis: Axis) -> Any:
    """Upright bars with their ranges, named by the first column."""
    drawn = sheet.book.workbook.add_chart({"type": "column"})
    labels = {"value": True, "position": "inside_base", "font": {"color": "#FFFFFF"}}
    drawn.add_series(
        {
            "categories": _area(sheet, rows, 0), "values": _area(sheet, rows, _Y), "gap": 60,
            "fill": {"color": _TODAY}, "y_error_bars": _ranges(sheet, rows),
            "data_labels": {**labels, "num_format": number_format(axis.unit)},
        }
    )  # fmt: skip
    drawn.set_legend({"none": True})
    return drawn


def _lines(sheet: Sheet, chart: Chart, top: int) -> Drawn:
    """Series over a number, with their ranges, and marks as dashed lines across; a scatter has no lines."""
    subtype = "straight_with_markers" if chart.kind == "lines" else "marker_only"
    drawn = sheet.book.workbook.add_chart({"type": "scatter", "subtype": subtype})
    row = top
    for series in chart.series:
        rows = range(row, row + len(series.points))
        colour = _CANDIDATES[series.place % len(_CANDIDATES)] if series.role == "candidate" else _ROLES[series.role]
        drawn.add_series(
            {
                **_line(sheet, rows), "y_error_bars": _ranges(sheet, rows), **_labels(sheet, rows, series),
                "line": {"color": colour, "width": 2} if chart.kind == "lines" else {"none": True},
                "marker": {"type": "circle", "size": 6, "fill": {"color": colour}, "border": {"color": colour}},
            }
        )  # fmt: skip
        row = rows.stop
    for _ in chart.marks:
        dashed = {"marker": {"type": "none"}, "line": {"color": _INK, "width": 1, "dash_type": "dash"}}
        drawn.add_series({**_line(sheet, range(row, row + 2)), **dashed})
        row += 2
    drawn.set_legend({"position": "right"})
    points = _all_points(chart)
    xs = [*(float(point.x) for point in points), *(mark.at for mark in chart.marks)]
    return drawn, _axis(chart.x, xs, base=2), _values(chart.y, [point.y for point in points])


def _line(sheet: Sheet, rows: range) -> dict[str, Any]:
    """Where the name and the points of a line stand."""
    return {
        "name": [sheet.title, rows.start, 0], "categories": _area(sheet, rows, _X), "values": _area(sheet, rows, _Y),
    }  # fmt: skip


def _labels(sheet: Sheet, rows: range, series: Series) -> dict[str, Any]:
    """The notes of points beside them, by reference to their cells: they are others' words."""
    if not any(point.note for point in series.points):
        return {}
    custom = [{"value": f"={sheet.name}!{at(row, _NOTE, fixed=True)}"} for row in rows]
    return {"data_labels": {"value": True, "custom": custom}}


def _waterfall(sheet: Sheet, chart: Chart, top: int) -> Drawn:
    """Totals at both ends and changes between, each from where the one before ended."""
    points = _all_points(chart)
    for row, cells in enumerate(_steps(points), top):
        for column, cell in enumerate(cells, _STEPS):
            sheet.write(row, column, cell)
    rows = range(top, top + len(points))
    drawn = sheet.book.workbook.add_chart({"type": "column", "subtype": "stacked"})
    for column, colour in enumerate((None, _TODAY, _GAIN, _LOSS), _STEPS):
        labels = {"value": True, "num_format": number_format(chart.y.unit) + ";;", "font": {"color": "#FFFFFF"}}
        drawn.add_series(
            {
                "categories": _area(sheet, rows, _X), "values": _area(sheet, rows, column), "gap": 40,
                "fill": {"none": True} if colour is None else {"color": colour},
                **({} if colour is None else {"data_labels": labels}),
            }
        )  # fmt: skip
    drawn.set_legend({"none": True})
    return drawn, _axis(chart.x, ()), _values(chart.y, ())


def _steps(points: Sequence[Point]) -> list[tuple[float | None, ...]]:
    """Of each bar: where it floats, and its height as a total, a fall or a rise."""
    made: list[tuple[float | None, ...]] = []
    level = 0.0
    for index, point in enumerate(points):
        if index in (0, len(points) - 1):
            made.append((None, point.y, None, None))
            level = point.y
        else:
            made.append((min(level, level + point.y), None, max(-point.y, 0.0), max(point.y, 0.0)))
            level += point.y
    return made


def _tornado(sheet: Sheet, chart: Chart, top: int) -> Drawn:
    """What a figure becomes at both ends of each factor, from what it is."""
    points = _all_points(chart)
    rows = range(top, top + len(points))
    drawn = sheet.book.workbook.add_chart({"type": "bar"})
    for column, colour in ((_LOW, _LOSS), (_HIGH, _TODAY)):
        drawn.add_series(
            {
                "name": [sheet.title, top - 1, column], "categories": _area(sheet, rows, _X),
                "values": _area(sheet, rows, column), "fill": {"color": colour}, "gap": 40, "overlap": 100,
            }
        )  # fmt: skip
    drawn.set_legend({"position": "bottom"})
    crossing = {"crossing": points[0].y} if points else {}
    # Of lying bars the library calls the values' axis x, and that of their names y.
    return drawn, {**_values(chart.y, ()), **crossing}, {**_axis(chart.x, ()), "reverse": True, "label_position": "low"}


_DRAWN: dict[str, Callable[[Sheet, Chart, int], Drawn]] = {
    "bars": _bars, "lines": _lines, "scatter": _lines, "waterfall": _waterfall, "tornado": _tornado,
}  # fmt: skip


def _all_points(chart: Chart) -> list[Point]:
    """The points of all series in order, as they stand in the table."""
    return [point for series in chart.series for point in series.points]


def _dress(drawn: Any, sheet: Sheet, top: int, x: dict[str, Any], y: dict[str, Any]) -> None:
    """Title, axes and size."""
    drawn.set_title({"name": [sheet.title, top - 2, 0], "name_font": {"size": 13, "color": _INK}, "overlay": False})
    drawn.set_x_axis(x)
    drawn.set_y_axis(y)
    drawn.set_size(_SIZE)


def _axis(axis: Axis, numbers: Sequence[float], base: int = 10) -> dict[str, Any]:
    """Title, number format and scale; a logarithmic one ends just beyond its numbers."""
    made: dict[str, Any] = {"name": legible(axis.title).lstrip("= "), "num_format": number_format(axis.unit)}
    known = [number for number in numbers if math.isfinite(number) and number > 0]
    if axis.log and known:
        low, high = _powers_around(min(known), max(known), base)
        made |= {"log_base": base, "major_unit": base, "min": low, "max": high}
    return made


def _values(axis: Axis, numbers: Sequence[float]) -> dict[str, Any]:
    """An axis of figures, with lines behind them."""
    return {**_axis(axis, numbers), "major_gridlines": {"visible": True, "line": {"color": _GRID, "width": 0.75}}}


def _powers_around(low: float, high: float, base: int) -> tuple[float, float]:
    """The largest power of the base at or below `low`, and the least at or above `high`."""
    exponent = 0
    while float(base) ** exponent > low:
        exponent -= 1
    while float(base) ** (exponent + 1) <= low:
        exponent += 1
    below = float(base) ** exponent
    while float(base) ** exponent < high:
        exponent += 1
    return below, float(base) ** exponent


def _ranges(sheet: Sheet, rows: range) -> dict[str, Any]:
    """Error bars from the columns below and above."""
    ends = {
        end: f"={sheet.name}!{at(rows.start, column, fixed=True)}:{at(rows.stop - 1, column, fixed=True)}"
        for end, column in (("minus_values", _BELOW), ("plus_values", _ABOVE))
    }
    return {"type": "custom", **ends, "line": {"color": _INK, "width": 1}}


def _area(sheet: Sheet, rows: range, column: int) -> list[Any]:
    """Some rows of one column."""
    return [sheet.title, rows.start, column, rows.stop - 1, column]
