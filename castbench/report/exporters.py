"""The formats a report comes in, found by name; exporters return bytes and open no files.

A third party adds one through the entry-point group `castbench.exporters`: a function (report, options) -> bytes,
under the format's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, cast

from castbench.errors import CastbenchError, InputError
from castbench.report import (
    comparison_page,
    csv_table,
    gates_page,
    html,
    json_report,
    markdown,
    page,
    pdf,
    prometheus_page,
    terminal,
    xlsx,
    xlsx_comparison,
)
from castbench.report.comparison import Comparison
from castbench.report.nouns import Report
from castbench.report.trim import MOST_CASE_ROWS
from castbench.workload.spelling import close_to, did_you_mean

ENTRY_POINT_GROUP = "castbench.exporters"
Which = Literal["summary", "cases"]


@dataclass(frozen=True, slots=True)
class Options:
    """What an exporter may be told; each takes what it needs. metrics: (what it stands for, a team's name of it)."""

    table: Which = "summary"
    width: int = 80
    colour: bool = False
    metrics: tuple[tuple[str, str], ...] = ()


Exporter = Callable[[Report, Options], bytes]
ComparisonExporter = Callable[[Comparison, Options], bytes]

SHIPPED: dict[str, Exporter] = {
    "terminal": lambda report, options: terminal.draw(
        page.of_report(report), width=options.width, colour=options.colour
    ),
    "csv": lambda report, options: (csv_table.cases if options.table == "cases" else csv_table.summary)(report),
    "json": lambda report, _: json_report.of_report(report),
    "md": lambda report, _: markdown.draw(page.of_report(report, most_cases=MOST_CASE_ROWS)),
    "gates": lambda report, _: gates_page.gates_file(report),
    "prometheus": lambda report, options: prometheus_page.rules_file(report, dict(options.metrics)),
    "html": lambda report, _: html.draw(page.of_report(report, most_cases=MOST_CASE_ROWS)),
    "xlsx": lambda report, _: xlsx.of_report(report),
    "pdf": lambda report, _: pdf.of_report(report),
}
COMPARISONS: dict[str, ComparisonExporter] = {
    "terminal": lambda comparison, options: terminal.draw(
        comparison_page.page(comparison), width=options.width, colour=options.colour
    ),
    "csv": lambda comparison, _: comparison_page.table(comparison),
    "json": lambda comparison, _: json_report.of_comparison(comparison),
    "md": lambda comparison, _: markdown.draw(comparison_page.page(comparison, most_cases=MOST_CASE_ROWS)),
    "html": lambda comparison, _: html.draw(comparison_page.page(comparison, most_cases=MOST_CASE_ROWS)),
    "xlsx": lambda comparison, _: xlsx_comparison.of_comparison(comparison),
    "pdf": lambda comparison, _: pdf.of_comparison(comparison),
}


def render(
    report: Report, fmt: str, *, table: str | None = None, width: int = 80, colour: bool = False,
    metrics: tuple[tuple[str, str], ...] = (),
) -> bytes:  # fmt: skip
    """A report in the format named `fmt`; InputError for a format or table that does not exist, and for what one of
    the shipped formats is told and does not take.
    """
    exporter = find(fmt)
    if table not in (None, "summary", "cases"):
        raise InputError(f"--table: expected summary or cases, got {table!r}")
    for option, of, given in (("--table", "csv", table is not None), ("--metric", "prometheus", bool(metrics))):
        if given and fmt != of and fmt in SHIPPED:
            hint = f"take that format, or leave {option} out"
            raise InputError(f"{option} is for --format {of} and this is {fmt}: {hint}")
    return exporter(report, Options(cast(Which, table or "summary"), width, colour, metrics))


def render_comparison(comparison: Comparison, fmt: str, *, width: int = 80, colour: bool = False) -> bytes:
    """A comparison in the format named `fmt`; InputError for one that does not exist."""
    if fmt not in COMPARISONS:
        raise _unknown(fmt, COMPARISONS)
    return COMPARISONS[fmt](comparison, Options(width=width, colour=colour))


def find(fmt: str) -> Exporter:
    """The exporter of that name; shipped ones cannot be replaced."""
    if fmt in SHIPPED:
        return SHIPPED[fmt]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == fmt:
            return _loaded(point)
    raise _unknown(fmt, formats())


def _unknown(fmt: str, known: Collection[str]) -> InputError:
    """The error for a format that does not exist, with the one that was probably meant."""
    hint = did_you_mean(close_to(fmt, known))
    return InputError(f"--format: expected one of {', '.join(known)}, got {fmt!r}{hint}")


def formats() -> tuple[str, ...]:
    """Names of all formats, third parties' last."""
    others = sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))
    return tuple(dict.fromkeys([*SHIPPED, *others]))


def _loaded(point: EntryPoint) -> Exporter:
    """A third party's exporter; any failure of theirs becomes a sentence naming the entry point."""
    try:
        return cast(Exporter, point.load())
    except Exception as error:
        where = f"entry point {point.value} (group {ENTRY_POINT_GROUP})"
        raise CastbenchError(f"{where} cannot be loaded: {error}") from error
