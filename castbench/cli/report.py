"""`castbench report`: read a stored run again, at another price or rate if asked; no GPU and no torch needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from castbench.cli.price_options import AcceptSuspect, PriceList, book_of


def report_command(
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    fmt: Annotated[str, typer.Option("--format", help="terminal, csv, json or md.")] = "terminal",
    table: Annotated[str, typer.Option(help="Which CSV table: summary (per mechanism) or cases.")] = "summary",
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file named by --out.")] = False,
    price: Annotated[float | None, typer.Option(help="USD per hour of one server, instead of the profile's.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second, instead of the profile's.")] = None,
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    redact: Annotated[bool, typer.Option("--redact", help="Leave out host, paths and contract prices.")] = False,
) -> None:
    """Show a stored run, or export it; every number is computed anew from its raw rounds.

    \b
    Examples:
      castbench report
      castbench report latest --format csv --out report.csv
      castbench report latest --format csv --table cases --out cases.csv
      castbench report a100 --price 3.67 --rate 120
    """
    from castbench.pipeline import read_run, report_bytes, write_out

    check_positive("--price", price)
    check_positive("--rate", rate)
    width, colour = (None, None) if out is None else (80, False)
    data = report_bytes(
        read_run(run), fmt, table=table, price_usd_per_hour=price, rate=rate, redact=redact, width=width, colour=colour,
        prices=book_of(prices, accept_suspect=accept_suspect),
    )  # fmt: skip
    write_out(data, out, force=force)


def check_positive(option: str, number: float | None) -> None:
    """InputError for a price or rate that is not a finite number above zero."""
    from math import isfinite

    from castbench.errors import InputError

    if number is not None and not (isfinite(number) and number > 0):
        raise InputError(f"{option}: expected a number above zero, got {number}")
