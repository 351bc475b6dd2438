"""Colours and fonts of charts: on paper, and as CSS variables that a document fills in for light and dark.

Roles differ in lightness, stroke and marker too, so that they stay apart in grey and for colour-blind readers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

FONT = (
    "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Noto Sans', 'Hiragino Sans', 'Yu Gothic UI', Meiryo, "
    "'Noto Sans CJK JP', sans-serif"
)


@dataclass(frozen=True, slots=True)
class Style:
    """What a chart is drawn with, as CSS colours.

    ink, muted   words and axes; words of lesser weight
    grid         lines behind the data
    ground       what the chart stands on: it edges markers and words
    candidates   of several candidates in one chart, in their order; further ones begin again
    gain, loss   a step of a waterfall that lowers the bill, or raises it
    """

    ink: str
    muted: str
    grid: str
    ground: str
    today: str
    baseline: str
    candidates: tuple[str, ...]
    other: str
    gain: str
    loss: str
    font: str = FONT


LIGHT = Style(
    ink="#1b2430", muted="#56616e", grid="#dfe4ea", ground="#ffffff",
    today="#0b62a8", baseline="#2f3b48", candidates=("#b8460e", "#6d2f9c", "#0b7565", "#a3195b"), other="#67717d",
    gain="#0b7565", loss="#b8460e",
)  # fmt: skip
DARK = Style(
    ink="#e8edf3", muted="#a7b3c0", grid="#2c3743", ground="#12181f",
    today="#64b1f5", baseline="#d3dbe4", candidates=("#ff9a5c", "#c79bf2", "#4fcfb8", "#ff8fc0"), other="#8a96a3",
    gain="#4fcfb8", loss="#ff9a5c",
)  # fmt: skip
PRINTED = LIGHT
"""For documents that are paper."""


def variables(style: Style) -> dict[str, str]:
    """The colours of a style by the name of their CSS variable."""
    found: dict[str, str] = {}
    for field in fields(style):
        value = getattr(style, field.name)
        if field.name == "candidates":
            found |= {f"--candidate-{index}": colour for index, colour in enumerate(value)}
        elif field.name != "font":
            found[f"--{field.name}"] = value
    return found


def themed() -> Style:
    """A style of CSS variables: one drawing that follows the document from light to dark."""
    names = {field.name: f"var(--{field.name})" for field in fields(Style) if field.name not in ("candidates", "font")}
    candidates = tuple(f"var(--candidate-{index})" for index in range(len(LIGHT.candidates)))
    return replace(LIGHT, **names, candidates=candidates, font="inherit")
