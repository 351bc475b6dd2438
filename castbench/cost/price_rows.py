"""The layout of a price file, read strictly: every problem is told with its line and column, none is repaired; pure."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from castbench.cost.spec import Price
from castbench.errors import InputError, Problem

COLUMNS = (
    "cloud", "instance", "region", "accelerator", "gpus", "vcpus", "memory_gib", "host_included",
    "on_demand_usd_per_hour", "spot_usd_per_hour", "as_of", "source", "note", "doubt",
)  # fmt: skip
"""Every column, in the order of the shipped file; docs/prices.md says what each means."""
OPTIONAL = frozenset(("region", "vcpus", "memory_gib", "spot_usd_per_hour", "note", "doubt"))
"""Columns that a file may leave out."""
MAY_BE_EMPTY = OPTIONAL | {"accelerator"}

MOST_ROWS = 10_000
MOST_PROBLEMS = 50
HIGHEST_USD_PER_HOUR = 1e5
_LONGEST_CELL = 500
_LONGEST_SHOWN = 40
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,6}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAMES = ("cloud", "instance", "region", "accelerator", "source")
"""Columns of names, in which a bare number has slipped from another column."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of the file: the number of its line, and its cells by column, stripped."""

    number: int
    cells: Mapping[str, str]

    def problem(self, column: str, what: str) -> Problem:
        """What is wrong in one of its cells."""
        return Problem(f"line {self.number}: {column}", what)


def read_rows(text: str, source: str) -> tuple[Price, ...]:
    """The rows of a price file at their on-demand prices, in its order; `flags` holds the doubt that a row states.

    `source` is what errors call the file. InputError lists every problem found, the first 50 of them.
    """
    problems: list[Problem] = []
    lines = _lines(text, source, problems)
    prices = [price for line in lines if (price := _price(line, problems)) is not None]
    problems += _repeated(lines)
    if problems:
        raise InputError.of(source, _at_most(problems))
    return tuple(prices)


def _lines(text: str, source: str, problems: list[Problem]) -> list[_Line]:
    """The rows under the header; adds those of another length to the problems. InputError for a file without rows."""
    rows = _cells(text, source)
    _, header = next(rows, (1, []))
    columns = [name.strip() for name in header]
    wrong = list(_header_problems(columns))
    if wrong:
        raise InputError.of(source, wrong)
    lines = []
    for number, row in rows:
        if len(row) != len(columns):
            problems.append(Problem(f"line {number}", f"expected {len(columns)} cells, got {len(row)}"))
        else:
            lines.append(_Line(number, dict(zip(columns, map(str.strip, row), strict=True))))
    if not lines and not problems:
        raise InputError(f"{source}: there is no price in it, only the header")
    if len(lines) > MOST_ROWS:
        raise InputError(
            f"{source}: expected at most {MOST_ROWS} prices, got {len(lines)}; leave out what you do not rent"
        )
    return lines


def _cells(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{source}: line {reader.line_num}: not readable as CSV: {error}") from None


def _header_problems(columns: Sequence[str]) -> Iterator[Problem]:
    """What is wrong with the first line."""
    where, required = "line 1", [name for name in COLUMNS if name not in OPTIONAL]
    if not set(columns) & set(COLUMNS):
        hint = "; separate the columns by commas" if len(columns) == 1 and re.search("[;\t|]", columns[0]) else ""
        yield Problem(where, f"expected a header with the columns {', '.join(required)}, got "
                             f"{_shown(','.join(columns))}{hint}")  # fmt: skip
        return
    if missing := [name for name in required if name not in columns]:
        yield Problem(where, f"the header lacks {', '.join(missing)}")
    for name in sorted(set(columns) - set(COLUMNS)):
        near = difflib.get_close_matches(name[:_LONGEST_SHOWN].lower(), COLUMNS, n=1)
        hint = f". Did you mean {near[0]}?" if near else f"; there are {', '.join(COLUMNS)}"
        yield Problem(where, f"unknown column {_shown(name)}{hint}")
    for name in sorted({name for name in columns if columns.count(name) > 1} & set(COLUMNS)):
        yield Problem(where, f"the column {name} is there {columns.count(name)} times")


def _price(line: _Line, problems: list[Problem]) -> Price | None:
    """A row as a price at its on-demand rate; adds to the problems, and is None, where a cell does not fit."""
    found = [line.problem(column, what) for column in COLUMNS if (what := _wrong(column, line.cells.get(column, "")))]
    found = found or list(_contradictions(line))
    problems += found
    if found:
        return None
    cells = {column: line.cells.get(column, "") for column in COLUMNS}
    where = f" ({cells['region']})" if cells["region"] else ""
    return Price(
        float(cells["on_demand_usd_per_hour"]), f"{cells['cloud']} {cells['instance']}{where}", "on_demand",
        int(cells["gpus"]), cells["as_of"], cells["source"], cells["cloud"], cells["region"] or None,
        cells["accelerator"] or None, cells["host_included"] == "yes", instance=cells["instance"],
        vcpus=int(cells["vcpus"]) if cells["vcpus"] else None,
        memory_gib=float(cells["memory_gib"]) if cells["memory_gib"] else None,
        spot_usd_per_hour=float(cells["spot_usd_per_hour"]) if cells["spot_usd_per_hour"] else None,
        note=cells["note"] or None, flags=(cells["doubt"],) if cells["doubt"] else (),
    )  # fmt: skip


def _wrong(column: str, cell: str) -> str | None:
    """What is wrong with a cell, in a sentence; None where it fits its column."""
    if not cell:
        return None if column in MAY_BE_EMPTY else f"expected {_EXPECTED[column]}, got nothing"
    fits = cell.isprintable() and len(cell) <= _LONGEST_CELL and _fits(column, cell)
    hint = "; leave out signs of currency, units and thousands" if column.endswith("_usd_per_hour") else ""
    return None if fits else f"expected {_EXPECTED[column]}, got {_shown(cell)}{hint}"


_EXPECTED = {
    "cloud": "the provider's name", "instance": "the name of the billing unit", "region": "a region's name, or nothing",
    "accelerator": "a GPU's name, or nothing for a CPU server", "gpus": "a whole number of GPUs, 0 for a CPU server",
    "vcpus": "a whole number of vCPUs above 0", "memory_gib": "a number of GiB above 0", "host_included": "yes or no",
    "on_demand_usd_per_hour": "USD per hour as a plain number such as 3.673",
    "spot_usd_per_hour": "USD per hour as a plain number such as 1.25", "as_of": "a day such as 2026-05-20",
    "source": "where the price is from", "note": "a text of one line", "doubt": "a text of one line",
}  # fmt: skip
"""What belongs into each column."""


def _fits(column: str, cell: str) -> bool:
    """Whether a cell that is not empty holds what its column asks for."""
    if column in ("gpus", "vcpus"):
        most, least = (1024, 0) if column == "gpus" else (4096, 1)
        return _WHOLE.fullmatch(cell) is not None and least <= int(cell) <= most
    if column == "memory_gib":
        return _NUMBER.fullmatch(cell) is not None and 0 < float(cell) <= 1e6
    if column.endswith("_usd_per_hour"):
        return _NUMBER.fullmatch(cell) is not None and float(cell) <= HIGHEST_USD_PER_HOUR
    if column == "host_included":
        return cell in ("yes", "no")
    if column == "as_of":
        return _DAY.fullmatch(cell) is not None and _is_day(cell)
    return column not in _NAMES or _NUMBER.fullmatch(cell) is None


def _is_day(cell: str) -> bool:
    """Whether the calendar has such a day."""
    try:
        date.fromisoformat(cell)
    except ValueError:
        return False
    return True


def _contradictions(line: _Line) -> Iterator[Problem]:
    """Cells that cannot both be right."""
    gpus, accelerator = int(line.cells["gpus"]), line.cells["accelerator"]
    if gpus and not accelerator:
        yield line.problem("accelerator", f"expected the name of the {gpus} GPUs, got nothing")
    if accelerator and not gpus:
        yield line.problem("gpus", f"expected how many {_shown(accelerator)} there are, got 0")


def _repeated(lines: Sequence[_Line]) -> Iterator[Problem]:
    """Rows that say again what an earlier one says: the price of one unit in one region."""
    first: dict[tuple[str, str, str], int] = {}
    for line in lines:
        key = (line.cells["cloud"], line.cells["instance"], line.cells.get("region", ""))
        if key in first:
            named = " ".join(filter(None, key))
            yield Problem(f"line {line.number}", f"{_shown(named)} is on line {first[key]} already")
        first.setdefault(key, line.number)


def _at_most(problems: Sequence[Problem]) -> list[Problem]:
    """The first problems, and how many more there are."""
    more = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], *([Problem("", f"and {more} more problems")] if more > 0 else [])]


def _shown(text: str) -> str:
    """A text as an error quotes it: short, and no control character left."""
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")
