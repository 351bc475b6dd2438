"""From a Chart block to SVG: one picture of fixed places, layered by altair and written by vl-convert."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import vl_convert

from castbench.report.blocks import Chart, Point
from castbench.report.charts import curves, rows
from castbench.report.charts.canvas import Canvas
from castbench.report.charts.style import Style

_DRAWN = {
    "bars": rows.bars, "waterfall": rows.waterfall, "tornado": rows.tornado, "lines": curves.lines,
    "scatter": curves.scatter,
}  # fmt: skip


def draw(chart: Chart, style: Style, width: int) -> str:
    """The chart as SVG; what is not a finite number is left out."""
    finite = replace(chart, series=tuple(replace(one, points=tuple(_finite(one.points))) for one in chart.series))
    canvas = _DRAWN[chart.kind](finite, style, width)
    # No address is allowed, so that not even a hostile name could make the converter load something.
    drawn = vl_convert.vegalite_to_svg(_placed(canvas, style), vl_version=_version(), allowed_base_urls=[])
    return str(drawn)


def _finite(points: Sequence[Point]) -> Iterator[Point]:
    """The points that have a place; an end that has none is not known."""
    for point in points:
        if math.isfinite(point.y):
            low, high = (end if end is not None and math.isfinite(end) else None for end in (point.low, point.high))
            yield replace(point, low=low, high=high)


def _version() -> str:
    """The version of Vega-Lite that altair writes, as the converter names it: 6.1 of v6.1.0."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _placed(canvas: Canvas, style: Style) -> dict[str, Any]:
    """The layers in their frame as Vega-Lite, nothing of it measured or guessed."""
    plain: dict[str, Any] = {"labelColor": style.muted, "titleColor": style.muted, "titleFontWeight": "normal"}
    layered = alt.layer(*canvas.layers).properties(
        width=canvas.width, height=canvas.height, padding=canvas.padding, autosize=alt.AutoSizeParams(type="none")
    )
    placed = (
        layered.configure(background="transparent", font=style.font, aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            **plain, domainColor=style.grid, tickColor=style.grid, gridColor=style.grid, labelFontSize=11,
            titleFontSize=12, labelLimit=0, titleLimit=0, labelPadding=4, tickSize=4,
        )
    )  # fmt: skip
    spec: dict[str, Any] = placed.to_dict(validate=False)  # each part was checked when it was made
    return spec
