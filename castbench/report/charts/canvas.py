"""What a chart is laid out on: layers over a plot of fixed size, with margins for the words around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

NARROW = 480
"""Below this many pixels a chart is set for a phone: names above what they name, fewer ticks."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Layers over a plot of width × height pixels, with `padding` around it."""

    layers: tuple[alt.Chart, ...]
    width: int
    height: int
    padding: dict[str, int]


def data(values: Sequence[dict[str, Any]]) -> alt.Chart:
    """A layer's numbers, inline."""
    return alt.Chart(alt.InlineData(values=list(values)))


def number_format(high: float) -> str:
    """How an axis that reaches `high` spells its round numbers."""
    return ".3~s" if high >= 1e6 else ",.6~r"
