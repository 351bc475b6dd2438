"""Draws a page for a terminal: wrapped to its width, tables aligned, colour only when asked for."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from castbench.report.blocks import Block, Bullets, Chart, Column, Commands, Heading, Paragraph, Table, Textual
from castbench.report.line_breaks import broken
from castbench.report.text import legible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table as RichTable

_GAP = 2
_INDENT = 2
_NARROWEST_LABEL = 8
_LABEL_BESIDE_FOLDS = 16
"""Cells that are left to a label where other columns have to be folded all the same."""
_MARKED = "bold green"
_BREAKS = re.compile("[–～→]")
"""Signs that a range may be broken behind."""
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
        console.print(_wrapped(block.words, console.width, _STYLES[block.tone]))
    elif isinstance(block, Bullets):
        for item in block.items:
            console.print(_bullet(item, console.width))
    elif isinstance(block, Commands):
        for line in block.lines:
            console.print(_styled(f"  {line}", ""), soft_wrap=True)
    else:
        _draw_table(console, block)


def _heading(console: Console, heading: Heading) -> None:
    """A heading after an empty line; the title stands first and has none."""
    if heading.level > 1:
        console.print()
    console.print(_styled(heading.words, "bold cyan" if heading.level < 3 else "cyan"))


def _styled(words: str, style: str) -> RenderableType:
    """Words with one style, control characters made harmless."""
    from rich.text import Text

    return Text(legible(words), style=style)


def _wrapped(words: str, width: int, style: str = "") -> RenderableType:
    """The same in lines that end where the script allows it."""
    from rich.text import Text

    return Text(broken(legible(words), width), style=style)


def _bullet(item: str, width: int) -> RenderableType:
    """An item whose further lines stand under its first word."""
    from rich.table import Table as RichTable

    grid = RichTable.grid(padding=0)
    grid.add_column(width=_INDENT)
    grid.add_column(overflow="fold")
    grid.add_row(_styled("- ", "dim"), _wrapped(item, width - _INDENT))
    return grid


def _draw_table(console: Console, table: Table) -> None:
    """A table without frames: one rule under the headings, the flexible column cut to what is left.

    Where that is not enough the widest columns are folded, so that no number is cut. Rows that fit are written as they
    are, since laying out ten thousand takes seconds.
    """
    rows = [tuple(legible(cell) for cell in row) for row in table.rows]
    wanted = _wanted(table, rows)
    widths = _narrowed(table, wanted, console.width)
    columns = list(zip(widths, table.columns, strict=True))
    if any(cells < most and not column.flexible for most, (cells, column) in zip(wanted, columns, strict=True)):
        folded = [[_folded(*each) for each in zip(row, columns, strict=True)] for row in rows]
        console.print(_table(table, folded, widths))
        return
    console.print(_table(table, (), widths))
    for index, row in enumerate(rows):
        cells = (_padded(*each) for each in zip(row, widths, table.columns, strict=True))
        console.out((" " * _GAP).join(cells), style=_MARKED if index in table.marked else None, highlight=False)


def _padded(words: str, width: int, column: Column) -> str:
    """Words in a cell of that width, their middle left out where they are longer."""
    from rich.cells import cell_len

    cut = _middle_cut(words, width)
    room = " " * (width - cell_len(cut))
    return room + cut if column.numeric else cut + room


def _table(table: Table, rows: Sequence[Sequence[str]], widths: Sequence[int]) -> RichTable:
    """The headings of a table with the rule under them, and these rows."""
    from rich.box import Box
    from rich.table import Table as RichTable
    from rich.text import Text

    rule = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
    drawn = RichTable(box=rule, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold")
    for column, cells in zip(table.columns, widths, strict=True):
        drawn.add_column(
            column.heading, justify="right" if column.numeric else "left", min_width=cells, max_width=cells,
            overflow="fold",
        )  # fmt: skip
    for index, row in enumerate(rows):
        drawn.add_row(*map(Text, row), style=_MARKED if index in table.marked else None)
    return drawn


def _folded(words: str, place: tuple[int, Column]) -> str:
    """Words in a narrow column: a label loses its middle, a range is broken behind its sign."""
    from rich.cells import cell_len

    width, column = place
    if column.flexible:
        return _middle_cut(words, width)
    return words if cell_len(words) <= width else _BREAKS.sub(r"\g<0>\n", words)


def _wanted(table: Table, rows: Sequence[tuple[str, ...]]) -> list[int]:
    """Cells of each column: what its widest cell and the longest word of its heading need."""
    from rich.cells import cell_len

    wanted = []
    for index, column in enumerate(table.columns):
        heading = max((cell_len(word) for word in column.heading.split()), default=0)
        wanted.append(max([heading, *(cell_len(row[index]) for row in rows)]))
    return wanted


def _narrowed(table: Table, wanted: Sequence[int], width: int) -> list[int]:
    """Cells of each column in so wide a terminal: flexible ones give way first, then whichever is the widest."""
    widths = list(wanted)
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    room = sum(max(0, w - _NARROWEST_LABEL) for w, column in zip(widths, table.columns, strict=True) if column.flexible)
    narrowest = _NARROWEST_LABEL if room >= excess else _LABEL_BESIDE_FOLDS
    for index, column in enumerate(table.columns):
        if column.flexible and excess > 0:
            before = widths[index]
            widths[index] = min(before, max(narrowest, before - excess))
            excess -= before - widths[index]
    for _ in range(excess):
        widest = widths.index(max(widths))
        widths[widest] = max(_NARROWEST_LABEL, widths[widest] - 1)
    return widths


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
