"""A report as a workbook: headline and money first, what to do and what could go wrong, every case, what it rests on.

Numbers are those of the CSV and JSON; only money figures are formulas, so that another price can be tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from castbench.report import csv_table, page, text, xlsx_charts, xlsx_prose, xlsx_summary
from castbench.report.blocks import Chart, Heading
from castbench.report.csv_table import CasesRow
from castbench.report.nouns import Report
from castbench.report.trim import MOST_CASE_ROWS
from castbench.report.xlsx_book import Book, Cell, Sheet
from castbench.report.xlsx_facts import PRICE_FIELDS, RUN_FACTS
from castbench.report.xlsx_words import COLUMNS, FACTS, SHEETS, WORDS, fields, words
from castbench.said import Unit

CASES: dict[str, Unit | None] = {
    "label": None, "mechanism": None, "batch_size": Unit.COUNT, "seq_len": Unit.TOKENS, "batching": None,
    "regime": None, "status": None, "verdict": None, "latency_p50_ms": Unit.MS, "latency_low_ms": Unit.MS,
    "latency_high_ms": Unit.MS, "latency_mean_ms": Unit.MS, "step_p95_ms": Unit.MS, "step_p99_ms": Unit.MS,
    "speedup_vs_baseline": Unit.TIMES, "speedup_low": Unit.TIMES, "speedup_high": Unit.TIMES,
    "throughput_seq_per_s": Unit.RATE, "throughput_tokens_per_s": Unit.TOKENS_PER_SECOND,
    "peak_memory_mib": Unit.MIB, "reserved_memory_mib": Unit.MIB, "weights_mib": Unit.MIB,
    "largest_batch": Unit.COUNT, "largest_batch_fails": Unit.COUNT, "energy_j_per_seq": Unit.JOULES,
    "energy_low_j_per_seq": Unit.JOULES, "energy_high_j_per_seq": Unit.JOULES,
    "energy_net_j_per_seq": Unit.JOULES, "energy_j_per_1k_tokens": Unit.JOULES, "mean_power_w": Unit.WATTS,
    "idle_power_w": Unit.WATTS, "rounds": Unit.COUNT, "discarded_rounds": Unit.COUNT, "stopped_by": None,
    "held_out": None, "ran_as": None, "parity_error": Unit.GIVEN, "reason": None, "energy_reason": None,
    "caveats": None, "parameters": None,
}  # fmt: skip
"""Columns of the cases: those of the CSV that differ from row to row."""
_STORED = ("reason", "energy_reason")
"""Columns of sentences that the run file holds in English."""


def of_report(report: Report) -> bytes:
    """The workbook of a report; InputError where xlsxwriter is missing."""
    run, blocks = report.run, page.of_report(report, most_cases=MOST_CASE_ROWS)
    title = next(block.words for block in blocks if isinstance(block, Heading))
    book = Book(title, run.created_at, f"{run.run_id} · {run.created_at}")
    summary = book.sheet(SHEETS["summary"])
    xlsx_prose.write(book, xlsx_prose.blocks(report))
    names = ("cases", "assumptions", "prices", "environment", "charts")
    cases, notes, prices, environment, charts = (book.sheet(SHEETS[name]) for name in names)
    xlsx_charts.prepared(charts)
    drawn = [block for block in blocks if isinstance(block, Chart)]
    alt = next((chart.alt for chart in drawn if chart.name == xlsx_charts.COSTS), "")
    xlsx_summary.write(summary, charts, report, title, alt)
    _cases(cases, report)
    _notes(notes, report)
    _prices(prices, report)
    _environment(environment, report)
    xlsx_charts.page(charts, [chart for chart in drawn if chart.name != xlsx_charts.COSTS])
    return book.closed()


def _cases(sheet: Sheet, report: Report) -> None:
    """Every mechanism at every shape."""
    rows = [
        _case(CasesRow(report, table.group, case, table.discards)) for table in report.groups for case in table.rows
    ]
    sheet.only_table(fields(CASES), rows, fixed=1, pages=3)


def _case(row: CasesRow) -> list[Cell]:
    """The cells of one case."""
    return [_retold(csv_table.CASES[name](row)) if name in _STORED else csv_table.CASES[name](row) for name in CASES]


def _retold(stored: Cell) -> Cell:
    """A stored sentence in the language that is spoken."""
    return text.retell(stored) if isinstance(stored, str) else stored


def _notes(sheet: Sheet, report: Report) -> None:
    """Assumptions, doubts with whom they touch, ceilings and crossovers, in words."""
    rows: list[list[Cell]] = [[WORDS["assumption"], None, text.say(said)] for said in report.assumptions]
    rows += [[WORDS["caveat"], _whom(note.labels), text.CAVEATS[note.caveat]] for note in report.caveats]
    rows += [[WORDS["ceiling"], None, text.say(said)] for said in report.ceilings]
    sheet.only_table(words("kind_of_note", "concerns", "words"), rows, widths=(24, 34, 110))


def _whom(labels: Sequence[str]) -> str:
    """The labels that a doubt touches."""
    return text.named(labels) if labels else WORDS["of_run"]


def _prices(sheet: Sheet, report: Report) -> None:
    """The price with everything known of it, or why there is no money."""
    price = report.money.price
    rows: list[list[Cell]] = [] if price is None else [[FACTS[n], read(price)] for n, read in PRICE_FIELDS.items()]
    if report.money.missing is not None:
        rows.append([COLUMNS["reason"], text.say(report.money.missing)])
    sheet.only_table(words("price_field", "value"), rows, widths=(34, 90))


def _environment(sheet: Sheet, report: Report) -> None:
    """The run and its machine, fact by fact, and the commands that show it again."""
    rows: list[list[Cell]] = [[FACTS[name], read(report.run)] for name, read in RUN_FACTS.items()]
    rows += [[WORDS["command"], line] for line in report.reproduce]
    sheet.only_table(words("fact", "value"), rows, widths=(34, 110))
