"""A comparison as a workbook: the runs, a row per mechanism and figure, a row per case and figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from castbench.report import text, xlsx_charts
from castbench.report.blocks import Chart
from castbench.report.comparison import ComparedRow, Comparison, Machine
from castbench.report.comparison_page import alarming, page
from castbench.report.trim import MOST_CASE_ROWS
from castbench.report.xlsx_book import Book, Cell, Field
from castbench.report.xlsx_words import COLUMNS, SHEETS, fields
from castbench.said import Unit

_RUNS: dict[str, Unit | None] = {
    "letter": None, "run": None, "run_id": None, "created_at": None, "device_name": None,
    "price_usd_per_hour": Unit.USD_PER_HOUR, "price_plan": None, "price_source": None, "price_as_of": None,
    "threads": Unit.COUNT, "cores": Unit.COUNT, "rounds_low": Unit.COUNT, "rounds_high": Unit.COUNT, "reason": None,
    "caveats": None,
}  # fmt: skip
_OF_CASES: dict[str, Unit | None] = {
    "batch_size": Unit.COUNT, "seq_len": Unit.TOKENS, "batching": None, "regime": None,
}  # fmt: skip
_NOTES_WIDTH = 8
"""Columns that a note reaches over."""


def of_comparison(comparison: Comparison) -> bytes:
    """The workbook of a comparison; InputError where xlsxwriter is missing."""
    latest = max(machine.created_at for machine in comparison.machines)
    title = text.HEADINGS["comparison"]
    book = Book(title, latest, f"{title} · {latest}")
    _runs(book, comparison, title)
    _figures(book, "mechanisms", comparison, [row for row in comparison.rows if row.group is None])
    _figures(book, "cases", comparison, [row for row in comparison.rows if row.group is not None])
    drawn = [block for block in page(comparison, most_cases=MOST_CASE_ROWS) if isinstance(block, Chart)]
    if drawn:
        charts = book.sheet(SHEETS["charts"])
        xlsx_charts.prepared(charts)
        xlsx_charts.page(charts, drawn)
    return book.closed()


def _runs(book: Book, comparison: Comparison, title: str) -> None:
    """What must be known of the comparison, and a row for every run."""
    sheet = book.sheet(SHEETS["runs"])
    sheet.widths(8, 30, 26, 26, 30, 12, 12, 34, 12, 10, 10, 10, 10, 40, 44)
    sheet.line(title, "title", columns=_NOTES_WIDTH)
    for note in comparison.notes:
        sheet.line(text.say(note), "warning" if alarming(note) else "lead", columns=_NOTES_WIDTH)
    sheet.row += 1
    sheet.table(fields(_RUNS), [_run(machine) for machine in comparison.machines])


def _run(machine: Machine) -> list[Cell]:
    """One run with its price."""
    price = machine.price
    return [
        machine.letter, machine.label, machine.run_id, machine.created_at, machine.device_name,
        *((None,) * 4 if price is None else (price.usd_per_hour, price.plan, price.source, price.as_of)),
        machine.threads, machine.cores, machine.rounds.low, machine.rounds.high,
        None if machine.money_missing is None else text.say(machine.money_missing),
        "; ".join(caveat.value for caveat in machine.caveats) or None,
    ]  # fmt: skip


def _figures(book: Book, name: str, comparison: Comparison, rows: Sequence[ComparedRow]) -> None:
    """A row per figure: value, low and high of every run, and the letter of the best."""
    shape = _OF_CASES if name == "cases" else {}
    letters = [machine.letter for machine in comparison.machines]
    headings = [
        Field(COLUMNS[end].format(run=letter))
        for letter in letters
        for end in ("figure", "figure_low", "figure_high")
    ]  # fmt: skip
    made = [*fields({"label": None, **shape, "metric": None}), *headings, *fields({"best": None})]
    cells = [list(_cells(row, letters, bool(shape))) for row in rows]
    book.sheet(SHEETS[name]).only_table(made, cells, fixed=len(shape) + 2, units=[_unit(row) for row in rows])


def _cells(row: ComparedRow, letters: Sequence[str], has_shape: bool) -> Iterator[Cell]:
    """The cells of one figure."""
    yield row.label
    if has_shape and row.group is not None:
        yield from (row.group.shape.batch_size, row.group.shape.seq_len, row.group.batching, row.group.regime)
    yield text.METRICS[row.metric]
    for value in row.values:
        yield from (None, None, None) if value is None else (value.value, value.low, value.high)
    yield ", ".join(letters[place] for place in row.best) or None


def _unit(row: ComparedRow) -> Unit | None:
    """The unit of a row's figures."""
    return next((value.unit for value in row.values if value is not None), None)
