"""An exported report held against its run: every cell of a CSV table, every value of a JSON report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from castbench.errors import InputError
from castbench.report import csv_table
from castbench.report.verify.checks import Check, compared
from castbench.report.verify.numbers import Pair, leaves

Render = Callable[[str, str | None], bytes]
"""The run's report anew, in a format and as a table, at the price and the rate that the export was made with."""

_OF_THE_FILE = ("run.path", "reproduce")
"""Parts that name the run file as it was called then."""


def export_check(path: Path, render: Render) -> Check:
    """Whether a file is what the run's report says; InputError where it is no CSV or JSON of `castbench report`."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"--report: cannot read {path}: {why}") from None
    what = f"{path.name} says what the run says"
    if text.lstrip().startswith("{"):
        anew = json.loads(render("json", None))
        return compared(what, _side_by_side(_json_cells(text, path), dict(_json_leaves(anew))))
    table = _table_of(text, path)
    return compared(what, _side_by_side(_csv_cells(text), _csv_cells(render("csv", table).decode())))


def _table_of(text: str, path: Path) -> str:
    """Which table a CSV is, by its heading."""
    heading = next(csv.reader(io.StringIO(text)), [])
    for table, columns in (("summary", csv_table.SUMMARY), ("cases", csv_table.CASES)):
        if heading == list(columns):
            return table
    raise InputError(
        f"--report: {path} is no CSV table or JSON of castbench report as this version writes it; "
        "export it with: castbench report RUN --format csv"
    )


def _side_by_side(exported: Mapping[str, Any], anew: Mapping[str, Any]) -> Iterator[Pair]:
    """Every value of either; what one of them lacks is said to be missing."""
    for name in dict.fromkeys([*anew, *exported]):
        yield Pair(name, "cell", exported.get(name, "(missing)"), anew.get(name, "(missing)"))


def _csv_cells(text: str) -> dict[str, Any]:
    """Cells by row and column, numbers as numbers."""
    heading, *rows = csv.reader(io.StringIO(text))
    return {
        f"row {number} {column}": _number_or_text(cell)
        for number, row in enumerate(rows, 1)
        for column, cell in zip_longest(heading, row, fillvalue="(missing)")
    }


def _json_cells(text: str, path: Path) -> dict[str, Any]:
    """Values of an exported JSON by path."""
    try:
        return dict(_json_leaves(json.loads(text)))
    except (ValueError, RecursionError):
        raise InputError(f"--report: {path} is no whole JSON") from None


def _json_leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Values by path, without those that name the run file."""
    for name, leaf in leaves(value):
        if not any(name == part or name.startswith(f"{part}.") for part in _OF_THE_FILE):
            yield name, leaf


def _number_or_text(cell: str) -> float | str:
    """A cell's number, if it is one."""
    try:
        return float(cell)
    except ValueError:
        return cell
