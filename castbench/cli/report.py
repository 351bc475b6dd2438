"""`castbench report`: read a stored run again, at another price or rate if asked; no GPU and no torch needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from castbench.cli.language import Language
from castbench.cli.price_options import AcceptSuspect, PriceList, book_of


def report_command(
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    fmt: Annotated[
        str, typer.Option("--format", help="terminal, csv, xlsx, html, pdf, md, json, gates or prometheus.")
    ] = "terminal",
    table: Annotated[
        str | None, typer.Option(help="Which CSV table: summary (per mechanism; the default) or cases.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file named by --out.")] = False,
    price: Annotated[float | None, typer.Option(help="USD per hour of one server, instead of the profile's.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second, instead of the profile's.")] = None,
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    redact: Annotated[bool, typer.Option("--redact", help="Leave out host, paths and contract prices.")] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SERIES", help="Your metric in alert rules: latency=my_bucket (repeatable)."),
    ] = None,
    lang: Language = "en",
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of --format json, and nothing else.")
    ] = False,
) -> None:
    """Show a stored run, or export it; every number is computed anew from its raw rounds.

    \b
    Examples:
      castbench report
      castbench report latest --format pdf --out report.pdf
      castbench report latest --format xlsx --out report.xlsx
      castbench report latest --format csv --out report.csv
      castbench report latest --format csv --table cases --out cases.csv
      castbench report a100 --price 3.67 --rate 120
      castbench report --format md --lang ja
      castbench report --format gates --out gates.yaml
      castbench report --format prometheus --metric latency=http_seconds_bucket
    """
    from castbench.pipeline import read_run, report_bytes, write_out

    if json_schema:
        from castbench.report.json_schema import published

        write_out(published(), out, force=force)
        return
    check_positive("--price", price)
    check_positive("--rate", rate)
    width, colour = (None, None) if out is None else (80, False)
    data = report_bytes(
        read_run(run), fmt, table=table, price_usd_per_hour=price, rate=rate, redact=redact, width=width, colour=colour,
        lang=lang, metrics=_metrics(metric or ()),
        prices=book_of(prices, accept_suspect=accept_suspect),
    )  # fmt: skip
    write_out(data, out, force=force)


def check_positive(option: str, number: float | None) -> None:
    """InputError for a price or rate that is not a finite number above zero."""
    from math import isfinite

    from castbench.errors import InputError

    if number is not None and not (isfinite(number) and number > 0):
        raise InputError(f"{option}: expected a number above zero, got {number}")


def _metrics(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """--metric NAME=SERIES as pairs."""
    from castbench.errors import InputError

    pairs = []
    for text in given:
        name, equals, series = text.partition("=")
        if not equals or not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", series):
            raise InputError(f"--metric: expected NAME=SERIES with a name that Prometheus allows, got {text!r}")
        pairs.append((name, series))
    return tuple(pairs)
