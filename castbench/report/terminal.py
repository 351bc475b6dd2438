"""Draws a page for a terminal: wrapped to its width, tables aligned, colour only when asked for."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from castbench.report.blocks import Block, Bullets, Chart, Commands, Heading, Paragraph, Table, Textual
from castbench.report.text import legible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable

_GAP = 2
_NARROWEST_LABEL = 8
_STYLES = {"plain": "", "warning": "bold red", "lead": "bold", "note": "dim"}


def draw(blocks: Sequence[Block], *, width: int = 80, colour: bool = False) -> bytes:
    """The page in UTF-8, no line longer than `width` cells unless a table cannot be made narrower."""
    from rich.console import Console

    sink = io.StringIO()
    console = Console(
        file=sink, width=width, force_terminal=colour, color_system="standard" if colour else None,
        markup=False, emoji=False, highlight=False, legacy_windows=False, _environ={},
    )  # fmt: skip
    for block in blocks:
        if not isinstance(block, Chart):
            _draw_block(console, block)
    lines = sink.getvalue().splitlines()
    return ("\n".join(line.rstrip() for line in lines) + "\n").encode("utf-8", "replace")


def shown_on(stream: TextIO) -> tuple[int, bool]:
    """Width and colour for a stream: its own on a terminal (no colour under NO_COLOR), 80 and none elsewhere."""
    if not stream.isatty():
        return 80, False
    return shutil.get_terminal_size((80, 24)).columns, not os.environ.get("NO_COLOR")


def _draw_block(console: Console, block: Textual) -> None:
    """One block, with the empty line that belongs before it."""
    if isinstance(block, Heading):
        _heading(console, block)
    elif isinstance(block, Paragraph):
        console.print(_styled(block.words, _STYLES[block.tone]))
    elif isinstance(block, Bullets):
        for item in block.items:
            console.print(_bullet(item))
    elif isinstance(block, Commands):
        for line in block.lines:
            console.print(_styled(f"  {line}", ""), soft_wrap=True)
    else:
        console.print(_table(block, console.width))


def _heading(console: Console, heading: Heading) -> None:
    """A heading after an empty line; the title stands first and has none."""
    if heading.level > 1:
        console.print()
    console.print(_styled(heading.words, "bold cyan" if heading.level < 3 else "cyan"))


def _styled(words: str, style: str) -> RenderableType:
    """Words with one style, control characters made harmless."""
    from rich.text import Text

    return Text(legible(words), style=style)


def _bullet(item: str) -> RenderableType:
    """An item whose further lines stand under its first word."""
    from rich.table import Table as RichTable

    grid = RichTable.grid(padding=0)
    grid.add_column(width=2)
    grid.add_column(overflow="fold")
    grid.add_row(_styled("- ", "dim"), _styled(item, ""))
    return grid


def _table(table: Table, width: int) -> RichTable:
    """A table without frames: one rule under the headings, the flexible column cut to what is left."""
    from rich.box import Box
    from rich.table import Table as RichTable

    rows = [tuple(legible(cell) for cell in row) for row in table.rows]
    widths = _widths(table, rows, width)
    rule = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
    drawn = RichTable(box=rule, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold")
    for column, cells in zip(table.columns, widths, strict=True):
        drawn.add_column(
            column.heading, justify="right" if column.numeric else "left", min_width=cells, max_width=cells,
            no_wrap=not column.heading.count(" "), overflow="fold",
        )  # fmt: skip
    for index, row in enumerate(rows):
        cut = [_middle_cut(cell, cells) for cell, cells in zip(row, widths, strict=True)]
        drawn.add_row(*(_styled(cell, "") for cell in cut), style="bold green" if index in table.marked else None)
    return drawn


def _widths(table: Table, rows: Sequence[tuple[str, ...]], width: int) -> list[int]:
    """Cells of each column: what its widest cell and the longest word of its heading need."""
    from rich.cells import cell_len

    wanted = []
    for index, column in enumerate(table.columns):
        heading = max((cell_len(word) for word in column.heading.split()), default=0)
        wanted.append(max([heading, *(cell_len(row[index]) for row in rows)]))
    excess = sum(wanted) + _GAP * (len(wanted) - 1) - width
    for index, column in enumerate(table.columns):
        if column.flexible and excess > 0:
            wanted[index] = max(_NARROWEST_LABEL, wanted[index] - excess)
    return wanted


def _middle_cut(words: str, width: int) -> str:
    """Words in at most `width` cells, their middle left out: labels differ at their ends."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(words) <= width:
        return words
    tail_cells = (width - 1) // 2
    tail = words[-tail_cells:] if tail_cells else ""
    while cell_len(tail) > tail_cells:
        tail = tail[1:]
    return set_cell_size(words, width - 1 - cell_len(tail)).rstrip() + "…" + tail
