"""How many cases a document shows: the first ones, and how many more stand in the CSV.

Every exporter of documents asks for a page with at most `MOST_CASE_ROWS`: page.of_report(report, most_cases=…).
The terminal shows all, and so do csv, json and the tables of xlsx.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from castbench.report import text
from castbench.report.blocks import Block, Paragraph
from castbench.report.nouns import GroupTable, RunFacts
from castbench.said import Quantity, Unit, statement

MOST_CASE_ROWS = 300
"""Rows of single cases in a document, over all its tables: more is read by nobody, and takes megabytes."""


def first_cases(groups: Sequence[GroupTable], most: int | None) -> tuple[tuple[GroupTable, ...], int]:
    """The first shapes whose cases take at most `most` rows over all tables of a page (None: any number), and how many
    cases that leaves out. Shapes stay whole; only a first one that is too long by itself is cut.
    """
    if most is None:
        return tuple(groups), 0
    shown: list[GroupTable] = []
    left = most
    for table in groups:
        left -= _rows_taken(table)
        if left < 0:
            break
        shown.append(table)
    if groups and not shown:
        shown = [_cut(groups[0], most)]
    return tuple(shown), sum(len(table.rows) for table in groups) - sum(len(table.rows) for table in shown)


def rest(left_out: int, run: RunFacts) -> Iterator[Block]:
    """How many cases are left out, and the command that shows them; nothing where none is."""
    if left_out:
        named = "RUN" if run.path is None else shlex.quote(run.path)
        command = f"castbench report {named} --format csv --table cases"
        yield Paragraph(more(left_out, command), "note")


def more(left_out: int, command: str) -> str:
    """That so many rows are left out, and how to see them."""
    return text.say(statement("trim.more", count=Quantity(left_out, Unit.COUNT), command=command))


def _cut(table: GroupTable, most: int) -> GroupTable:
    """As many of a shape's rows as fit."""
    kept = table.rows
    while kept and _rows_taken(replace(table, rows=kept)) > most:
        kept = kept[:-1]
    return replace(table, rows=kept)


def _rows_taken(table: GroupTable) -> int:
    """Rows of a shape over all tables of a page: of times, energy, memory and largest batches; a line if unmeasured."""
    if not table.is_measured:
        return 1
    further = (
        (row.energy is not None) + (row.reserved_memory_mib is not None) + (row.largest_batch is not None)
        for row in table.rows
    )
    return len(table.rows) + sum(further)
