"""What a page is made of: headings, paragraphs, lists, commands and tables of finished text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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


Block = Heading | Paragraph | Bullets | Commands | Table
