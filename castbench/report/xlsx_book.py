"""A workbook in memory: cells that are what they look like, number formats by unit, sheets ready to be printed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from castbench.report.extra import needed
from castbench.report.text import legible
from castbench.said import Unit

_LONGEST_TEXT = 32_767
"""Characters that a cell can hold."""
_LONGEST_NAME = 31
"""Characters that the name of a sheet can have."""
_FORBIDDEN_IN_NAMES = str.maketrans(dict.fromkeys("[]:*?/\\'", " "))
_WIDEST_TEXT, _WIDTH_OF_NUMBERS, _NARROWEST = 44, 12, 10
_ROWS_MEASURED = 300
"""Rows that the widths of a table's columns are taken from."""
_POINTS_PER_LINE = 15.5

_PLAIN = "General"
NUMBER_FORMATS: dict[Unit, str] = {
    Unit.USD: "#,##0",
    Unit.USD_PER_HOUR: "#,##0.00",
    Unit.USD_PER_MILLION_TOKENS: "#,##0.0000",
    Unit.TIMES: '0.00"×"',
    Unit.PERCENT: "0.0",
    Unit.PROBABILITY: '[>0.99]"> 99%";[<0.01]"< 1%";0%',
    Unit.MS: "#,##0.00",
    Unit.MIB: "#,##0.0",
    Unit.JOULES: "#,##0.000",
    Unit.WATTS: "#,##0.0",
    Unit.TOKENS: "#,##0",
    Unit.TOKENS_PER_SECOND: "#,##0",
    Unit.SECONDS: "#,##0.00",
    Unit.HOURS: "#,##0.0",
    Unit.RATE: "#,##0.00",
    Unit.COUNT: "#,##0",
    Unit.EXPECTED: "0.00",
}
"""How a spreadsheet shows a number of that unit; the cell keeps it unrounded."""

_LOOKS: dict[str, dict[str, Any]] = {
    "title": {"bold": True, "font_size": 16},
    "lead": {"font_size": 12, "text_wrap": True, "valign": "top"},
    "warning": {"bold": True, "font_color": "#B00020", "text_wrap": True, "valign": "top"},
    "plain": {"text_wrap": True, "valign": "top", "align": "left"},
    "text": {"text_wrap": True, "valign": "top", "align": "left", "indent": 1},
    "note": {"font_color": "#555555", "text_wrap": True, "valign": "top"},
    "heading": {"bold": True, "font_size": 12, "font_color": "#1F4E79"},
    "subheading": {"bold": True},
    "header": {
        "bold": True,
        "bg_color": "#1F4E79",
        "font_color": "#FFFFFF",
        "text_wrap": True,
        "valign": "bottom",
        "align": "left",
        "indent": 1,
    },
    "header of numbers": {
        "bold": True,
        "bg_color": "#1F4E79",
        "font_color": "#FFFFFF",
        "text_wrap": True,
        "valign": "bottom",
        "align": "right",
    },
    "cell": {"valign": "top"},
    "input": {"bold": True, "bg_color": "#FFF2CC", "font_color": "#1F3FBF", "border": 1},
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula, and the number it has with the inputs of the report."""

    words: str
    value: float


Cell = str | float | int | bool | Enum | Formula | None


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table; a number has a unit or is plain, text is wrapped."""

    heading: str
    unit: Unit | None = None
    text: bool = False


class Book:
    """A workbook that is written to memory; the same cells give the same bytes."""

    def __init__(self, title: str, created_at: str, footer: str) -> None:
        self._sink = io.BytesIO()
        xlsxwriter = needed("xlsxwriter", "xlsx")
        # Foreign text is written by write_string alone; these settings are a second lock.
        plain = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
        self.workbook = xlsxwriter.Workbook(self._sink, plain)
        # The library gives every part of the file the year 1980; this date is the only other one inside.
        self.workbook.set_properties({"title": legible(title), "created": _moment(created_at)})
        self._footer = f"&L{legible(footer)[:120].replace('&', '&&')}&R&P / &N"
        self._formats: dict[tuple[str, str, bool], Any] = {}

    def sheet(self, name: str) -> Sheet:
        """A new sheet, landscape and as wide as the paper."""
        made = self.workbook.add_worksheet(legible(name).translate(_FORBIDDEN_IN_NAMES)[:_LONGEST_NAME])
        made.set_landscape()
        made.set_paper(9)
        made.fit_to_pages(1, 0)
        made.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
        made.set_footer(self._footer)
        return Sheet(self, made)

    def look(self, name: str, number_format: str = "General", *, marked: bool = False) -> Any:
        """A format; equal ones are one."""
        key = (name, number_format, marked)
        if key not in self._formats:
            stress = {"bold": True, "bg_color": "#E2F0D9"} if marked else {}
            self._formats[key] = self.workbook.add_format({**_LOOKS[name], "num_format": number_format, **stress})
        return self._formats[key]

    def number(self, unit: Unit | None, *, marked: bool = False) -> Any:
        """The format of a number of that unit."""
        return self.look("cell", number_format(unit), marked=marked)

    def closed(self) -> bytes:
        """The file."""
        self.workbook.close()
        return self._sink.getvalue()


class Sheet:
    """One sheet, written downwards; `row` is the next free one, counted from 0."""

    def __init__(self, book: Book, worksheet: Any) -> None:
        self.book, self.worksheet, self.row = book, worksheet, 0
        self._widths: dict[int, float] = {}

    @property
    def title(self) -> str:
        """The sheet's name."""
        return str(self.worksheet.get_name())

    @property
    def name(self) -> str:
        """The name as formulas spell it."""
        return f"'{self.title}'"

    def line(self, words: str, look: str = "plain", *, columns: int = 1) -> None:
        """Words over so many columns, in as many lines as they need at the widths these have."""
        if columns > 1:
            self.worksheet.merge_range(self.row, 0, self.row, columns - 1, "", self.book.look(look))
            width = sum(self._widths.get(column, _NARROWEST) for column in range(columns))
            self._heighten(self.row, _lines(words, width), 22 if look == "title" else _POINTS_PER_LINE)
        self.write(self.row, 0, words, self.book.look(look))
        self.row += 1

    def _heighten(self, row: int, lines: int, points: float = _POINTS_PER_LINE) -> None:
        """Room for so many lines: not every program makes it by itself."""
        if lines > 1 or points > _POINTS_PER_LINE:
            self.worksheet.set_row(row, points * lines + 2)

    def widths(self, *widths: float) -> None:
        """Widths of the columns from the first on, in characters."""
        for column, width in enumerate(widths):
            self._widths[column] = width
            self.worksheet.set_column(column, column, width)

    @staticmethod
    def _fitting(fields: Sequence[Field], rows: Sequence[Sequence[Cell]]) -> list[float]:
        """Widths after the longest text of each column, and what numbers need."""
        return [_width(field, [row[i] for row in rows[:_ROWS_MEASURED]]) for i, field in enumerate(fields)]

    def table(
        self, fields: Sequence[Field], rows: Sequence[Sequence[Cell]], *, marked: Sequence[int] = (),
        units: Sequence[Unit | None] = (),
    ) -> None:  # fmt: skip
        """A heading and rows; `marked` are stressed. `units`, one a row, are for tables whose rows differ in unit."""
        widths = [self._widths.get(column, _NARROWEST) for column in range(len(fields))]
        self._heighten(self.row, max(_lines(field.heading, width) for field, width in zip(fields, widths, strict=True)))
        for column, field in enumerate(fields):
            look = "header" if field.text else "header of numbers"
            self.write(self.row, column, field.heading, self.book.look(look))
        for index, row in enumerate(rows):
            looks = [self._look(field, units[index] if units else field.unit, index in marked) for field in fields]
            lines = 1
            for column, (cell, look) in enumerate(zip(row, looks, strict=True)):
                self.write(self.row + 1 + index, column, cell, look)
                if cell is None and index in marked:
                    self.worksheet.write_blank(self.row + 1 + index, column, None, look)
                if fields[column].text and isinstance(cell, str):
                    lines = max(lines, _lines(cell, widths[column]))
            self._heighten(self.row + 1 + index, lines)
        self.row += 1 + len(rows)

    def _look(self, field: Field, unit: Unit | None, marked: bool) -> Any:
        """The format of one cell."""
        if field.text:
            return self.book.look("text", marked=marked)
        return self.book.number(unit, marked=marked)

    def only_table(
        self, fields: Sequence[Field], rows: Sequence[Sequence[Cell]], *, fixed: int = 0, widths: Sequence[float] = (),
        pages: int = 1, units: Sequence[Unit | None] = (),
    ) -> None:  # fmt: skip
        """A table from the next row to the end of the sheet: heading and the `fixed` first columns stay in sight and on
        every page, rows can be filtered, columns without anything are folded away. It is printed `pages` wide.
        """
        top = self.row
        self.widths(*(widths or self._fitting(fields, rows)))
        self.table(fields, rows, units=units)
        for column in range(len(fields)) if rows else ():
            if all(row[column] is None for row in rows):
                self.worksheet.set_column(column, column, None, None, {"hidden": True})
        self.worksheet.fit_to_pages(pages, 0)
        if fixed:
            self.worksheet.repeat_columns(0, fixed - 1)
        self.worksheet.freeze_panes(top + 1, fixed)
        self.worksheet.repeat_rows(top)
        self.worksheet.autofilter(top, 0, top + max(len(rows), 1), len(fields) - 1)

    def write(self, row: int, column: int, cell: Cell, look: Any = None) -> None:
        """One cell: text stays text whatever it looks like; what is not known leaves the cell empty."""
        if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
            return
        if isinstance(cell, Enum):
            cell = str(cell.value)
        if isinstance(cell, str):
            self.worksheet.write_string(row, column, _harmless(cell), look)
        elif isinstance(cell, Formula):
            self.worksheet.write_formula(row, column, cell.words, look, cell.value)
        elif isinstance(cell, bool):
            self.worksheet.write_boolean(row, column, cell, look)
        else:
            self.worksheet.write_number(row, column, cell, look)


def number_format(unit: Unit | None) -> str:
    """How a spreadsheet shows numbers of that unit; one without a rule is shown as it is."""
    return _PLAIN if unit is None else NUMBER_FORMATS.get(unit, _PLAIN)


def at(row: int, column: int, *, fixed: bool = False) -> str:
    """The spelling of a cell, counted from 0: "B7", or "$B$7"."""
    letters = ""
    number = column + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    mark = "$" if fixed else ""
    return f"{mark}{letters}{mark}{row + 1}"


def _harmless(words: str) -> str:
    """Text that a spreadsheet can hold."""
    shown = legible(words)
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 1] + "…"


def _moment(created_at: str) -> datetime:
    """When a run was begun; a year that means nothing where its stamp cannot be read."""
    try:
        return datetime.fromisoformat(created_at).replace(tzinfo=None)
    except ValueError:
        return datetime(1980, 1, 1)


def _width(field: Field, cells: Sequence[Cell]) -> float:
    """Characters that a column needs."""
    words = max((_cells(word) for word in field.heading.split()), default=0)
    if not field.text:
        return max(_WIDTH_OF_NUMBERS, words + 3)
    longest = max((_cells(str(cell)) for cell in cells if cell is not None), default=0)
    return min(_WIDEST_TEXT, max(_NARROWEST, words + 4, longest + 3))


def _lines(words: str, width: float) -> int:
    """Lines that words take in a column of that width, rather one too many; at most ten, so that a cell stays one."""
    return min(10, max(1, int(-(-1.1 * _cells(words) // width))))


def _cells(words: str) -> int:
    """Width of words in characters; Chinese and Japanese ones are two wide."""
    from rich.cells import cell_len

    return cell_len(words)
