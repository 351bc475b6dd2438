"""What a page is made of: headings, paragraphs, lists, commands and tables of finished text, and charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from castbench.said import Unit


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the page's title."""

    words: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; a warning must be seen, a note may be small."""

    words: str
    tone: Literal["plain", "warning", "lead", "note"] = "plain"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commands:
    """Lines to be typed."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; numbers stand to the right; a flexible column gives way when a line gets too long."""

    heading: str
    numeric: bool = True
    flexible: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of finished cells; `marked` are the rows to stress."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows, its title with the unit; `unit` is how its numbers are spoken beside the picture."""

    title: str
    log: bool = False
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a chart, with its interval where it has one; `note` is shown beside it."""

    x: float | str
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one mechanism, step or factor; the role picks the colour and the stroke.

    place   of a candidate among several, from 0: it has the same colour in every picture of a page
    """

    name: str
    points: tuple[Point, ...]
    role: Literal["today", "baseline", "candidate", "other"] = "other"
    place: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across a chart at an x, with its words."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of numbers; a drawing without pictures leaves it out, for a table beside it holds the same numbers.

    name   for file names and anchors: lower case and hyphens
    alt    what the picture shows, in a sentence, for who cannot see it
    kind   bars: one point a series, its name on the axis. waterfall: bars that begin where the one before ended; y of
           the first and the last point is a total, of those between a change. tornado: a point a factor, x its name,
           low and high what y becomes. lines: over x. scatter: points with notes
    """

    name: str
    title: str
    alt: str
    kind: Literal["bars", "lines", "waterfall", "tornado", "scatter"]
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()


Textual = Heading | Paragraph | Bullets | Commands | Table
Block = Textual | Chart
