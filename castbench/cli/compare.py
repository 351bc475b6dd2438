"""`castbench compare`: runs of the same work on several machines or versions, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from castbench.cli.language import Language
from castbench.cli.price_options import AcceptSuspect, PriceList, book_of


def compare_command(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more: paths, names, or latest.")],
    fmt: Annotated[str, typer.Option("--format", help="terminal, csv, xlsx, html, pdf, md or json.")] = "terminal",
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout; never overwritten.")] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="USD per hour of one run's server, as LABEL=3.67 or A=3.67 (repeatable)."),
    ] = None,
    price_list: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    force: Annotated[bool, typer.Option("--force", help="Compare unlike runs too; the result is marked.")] = False,
    lang: Language = "en",
) -> None:
    """Compare runs: latency, throughput, memory, servers and cost; the first run's demand counts for all.

    Runs that did not do the same work are refused with the difference named (exit code 2), unless --force.

    \b
    Examples:
      castbench compare a100.jsonl l4.jsonl
      castbench compare a100 l4 --price A=3.67 --price B=0.71 --format md
      castbench compare a100 l4 --format md --lang ja
      castbench compare a100 l4 --format xlsx --out compared.xlsx
    """
    import sys

    from castbench.pipeline import project, read_run, write_out
    from castbench.report import comparison, exporters, terminal
    from castbench.report.catalogue import speaking

    records = [read_run(ref) for ref in runs]
    labels = comparison.labels_for(records)
    prices = prices_of(price or (), labels)
    comparison.require_several(records, labels)
    comparison.check_comparable(records, labels, forced=force)
    book = book_of(price_list, accept_suspect=accept_suspect)
    projections = [
        project(record, price_usd_per_hour=prices.get(label), demand_of=records[0], prices=book)
        for record, label in zip(records, labels, strict=True)
    ]
    compared = comparison.build(list(zip(records, projections, strict=True)), labels, forced=force)
    width, colour = terminal.shown_on(sys.stdout) if out is None else (80, False)
    with speaking(lang):
        write_out(exporters.render_comparison(compared, fmt, width=width, colour=colour), out)


def prices_of(given: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """--price LABEL=3.67 by label; a run's letter (A for the first) stands for its label."""
    from math import isfinite

    from castbench.errors import InputError
    from castbench.report.comparison import letter

    by_name = {**{letter(i): label for i, label in enumerate(labels)}, **{label: label for label in labels}}
    prices = {}
    for text in given:
        name, _, amount = text.rpartition("=")
        if name not in by_name:
            known = ", ".join(f"{letter(i)} ({label})" for i, label in enumerate(labels))
            raise InputError(f"--price: expected LABEL=3.67 with one of the runs {known}, got {text!r}")
        try:
            prices[by_name[name]] = float(amount)
        except ValueError:
            raise InputError(f"--price: expected a number of USD per hour after '=', got {text!r}") from None
        if not (isfinite(prices[by_name[name]]) and prices[by_name[name]] > 0):
            raise InputError(f"--price: expected a number above zero, got {text!r}")
    return prices
