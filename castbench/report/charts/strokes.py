"""How the series of a chart are told apart: by colour, by stroke and by marker, so that no reader needs colour."""

from __future__ import annotations

from collections.abc import Sequence

from castbench.report.blocks import Series
from castbench.report.charts.style import Style

_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
_MARKERS = ("circle", "triangle-up", "diamond")
_SQUARE = "square"


def colours(series: Sequence[Series], style: Style) -> dict[str, str]:
    """The colour of every series by its name: its role's, a candidate's by its place."""
    fixed = {"today": style.today, "baseline": style.baseline, "other": style.other}
    return {one.name: fixed.get(one.role) or style.candidates[one.place % len(style.candidates)] for one in series}


def dashes(series: Sequence[Series]) -> dict[str, list[int]]:
    """The stroke of every series: unbroken for what runs today and the baseline, others in turn."""
    return {one.name: _DASHES[turn % len(_DASHES)] for turn, one in _turns(series)}


def markers(series: Sequence[Series]) -> dict[str, str]:
    """The marker of every series: squares for what runs today and the baseline, others in turn."""
    return {
        one.name: _SQUARE if one.role in ("today", "baseline") else _MARKERS[turn % len(_MARKERS)]
        for turn, one in _turns(series)
    }


def weights(series: Sequence[Series]) -> dict[str, float]:
    """The width of every series' stroke, in pixels: what the text speaks of is drawn stronger."""
    return {one.name: 1.2 if one.role == "other" else 2.4 for one in series}


def _turns(series: Sequence[Series]) -> list[tuple[int, Series]]:
    """Series with whose turn it is: none for what runs today and the baseline, candidates by place, others in order."""
    others = 0
    found = []
    for one in series:
        others += one.role == "other"
        found.append(({"candidate": one.place, "other": others}.get(one.role, 0), one))
    return found
