"""A Comparison as a page for people, and as a long CSV table for machines."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.report import csv_table, pareto, text, trim
from castbench.report import format as fmt
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.catalogue import speaking
from castbench.report.comparison import ComparedRow, Comparison, Machine
from castbench.report.shapes_page import shape_of
from castbench.said import Quantity, Statement, Unit, Value, statement

_RUNS_PER_TABLE = 3
"""Columns of figures that fit beside a mechanism and a figure's name in 80 cells."""

CSV_COLUMNS = (
    "comparable", "run", "run_id", "device_name", "label", "batch_size", "seq_len", "batching", "metric",
    "value", "low", "high", "best", "regime",
)  # fmt: skip


def page(comparison: Comparison, *, most_cases: int | None = None) -> tuple[Block, ...]:
    """Who is compared, what must be known, the cheapest, and the rows; of cases at most so many, where it is given."""
    cases = [row for row in comparison.rows if row.group is not None]
    shown = cases if most_cases is None else cases[: most_cases // len(_tablefuls(comparison))]
    return (
        Heading(text.HEADINGS["comparison"], 1),
        *(_note(said) for said in comparison.notes),
        Heading(text.HEADINGS["compare.runs"]),
        Bullets(tuple(_machine(machine) for machine in comparison.machines)),
        *_tables(comparison, "compare.mechanisms", [row for row in comparison.rows if row.group is None]),
        *pareto.picture(comparison.offers, [f"{one.letter}: {one.label}" for one in comparison.machines]),
        *_tables(comparison, "compare.cases", shown),
        *_rest(len(cases) - len(shown)),
    )


@speaking("en")
def table(comparison: Comparison) -> bytes:
    """One CSV row per figure and run; `comparable` is yes or UNLIKE RUNS in every row."""
    mark = "UNLIKE RUNS" if comparison.unlike else "yes"
    return csv_table.write(CSV_COLUMNS, (cells for row in comparison.rows for cells in _cells(comparison, row, mark)))


def _cells(comparison: Comparison, row: ComparedRow, mark: str) -> Iterator[tuple[csv_table.Cell, ...]]:
    """The CSV rows of one figure."""
    group = row.group
    case = (None, None, None) if group is None else (group.shape.batch_size, group.shape.seq_len, group.batching)
    for index, (machine, value) in enumerate(zip(comparison.machines, row.values, strict=True)):
        numbers = (None, None, None) if value is None else (value.value, value.low, value.high)
        yield (
            mark, machine.label, machine.run_id, machine.device_name, row.label, *case, row.metric, *numbers,
            index in row.best, None if group is None else group.regime,
        )  # fmt: skip


def _note(said: Statement) -> Paragraph:
    """A note; unlike runs are announced as a warning, and what is cheapest is what a reader takes away."""
    if said.key.startswith("compare.cheapest"):
        return Paragraph(text.say(said), "lead")
    return Paragraph(text.say(said), "warning" if alarming(said) else "plain")


def alarming(said: Statement) -> bool:
    """Whether a note must be seen before any number."""
    return said.key == "compare.unlike"


def _machine(machine: Machine) -> str:
    """A run with its price, its size and its doubts."""
    return text.say(
        statement(
            "compare.run", letter=machine.letter, label=machine.label, run_id=machine.run_id,
            created_at=machine.created_at, price=text.say(_price(machine)), threads=_given(machine.threads),
            cores=_given(machine.cores), rounds=machine.rounds,
            caveats=text.named(caveat.value for caveat in machine.caveats) or text.WORDS["no_caveats"],
        )
    )  # fmt: skip


def _given(count: int | None) -> Quantity | None:
    """A count as it was read; None stays None."""
    return None if count is None else Quantity(count, Unit.GIVEN)


def _price(machine: Machine) -> Statement:
    """A run's price with its source and date, or why it has no cost."""
    if machine.price is None:
        return statement("compare.unpriced", why=machine.money_missing)
    price = machine.price
    said: dict[str, Value] = {"price": Quantity(price.usd_per_hour, Unit.GIVEN), "source": price.source}
    return statement("compare.dated", date=price.as_of, **said) if price.as_of else statement("compare.priced", **said)


def _tables(comparison: Comparison, heading: str, rows: list[ComparedRow]) -> Iterator[Block]:
    """The rows in as many tables as the number of runs asks for."""
    if not rows:
        return
    yield Heading(text.HEADINGS[heading])
    for places in _tablefuls(comparison):
        yield _table(comparison, rows, places)


def _tablefuls(comparison: Comparison) -> list[range]:
    """Places of the runs that share a table."""
    count = len(comparison.machines)
    return [range(start, min(start + _RUNS_PER_TABLE, count)) for start in range(0, count, _RUNS_PER_TABLE)]


def _rest(left_out: int) -> Iterator[Block]:
    """How many rows are left out, and how to see them; nothing where none is."""
    if left_out:
        yield Paragraph(trim.more(left_out, "castbench compare RUN RUN… --format csv"), "note")


def _table(comparison: Comparison, rows: list[ComparedRow], places: range) -> Table:
    """Rows with a column per run; a mechanism and a shape are named once."""
    by_case = rows[0].group is not None
    columns = [Column(text.COLUMNS["label"], numeric=False, flexible=True)]
    columns += [Column(text.COLUMNS["case"], numeric=False)] if by_case else []
    columns += [Column(text.COLUMNS["metric"], numeric=False)]
    columns += [Column(comparison.machines[place].letter) for place in places]
    cells, before = [], None
    for row in rows:
        now = (row.label, row.group)
        names = [row.label, *([] if row.group is None else [shape_of(row.group)])]
        cells.append((*(names if now != before else [""] * len(names)), *_figures(row, places)))
        before = now
    return Table(tuple(columns), tuple(cells))


def _figures(row: ComparedRow, places: range) -> tuple[str, ...]:
    """The name of a figure and its range (its value where it has none) for each run, the best with a star."""
    marks = ("*" if place in row.best else " " for place in places)
    values = (fmt.spread(row.values[place], unit=False) for place in places)
    return (text.METRICS[row.metric], *(value + mark for value, mark in zip(values, marks, strict=True)))
