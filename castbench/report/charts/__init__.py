"""Charts as SVG: offline, without script or outside reference, the same bytes every time; altair is imported late."""

from __future__ import annotations

from importlib.util import find_spec

from castbench.errors import InputError
from castbench.report.blocks import Chart
from castbench.report.charts.style import PRINTED, Style

NEEDED = ("altair", "vl_convert")


def require(fmt: str) -> None:
    """InputError, with the command that helps, where a format cannot draw its charts here."""
    if any(find_spec(name) is None for name in NEEDED):
        raise InputError(f"{fmt} needs altair and vl-convert: pip install 'castbench[{fmt}]'")


def svg(chart: Chart, style: Style = PRINTED, width: int = 720) -> str:
    """A chart as an SVG of that many pixels; at 360 it is set for a phone. Call `require` first.

    Nothing in it depends on the fonts of this machine: every place is computed, no text is measured.
    """
    from castbench.report.charts.drawing import draw

    return draw(chart, style, width)
