"""`castbench verify`: is a run file whole, and does the report follow from its raw rounds?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from castbench.cli.price_options import AcceptSuspect, PriceList, book_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from castbench.report.verify import Check


def verify_command(
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    report: Annotated[
        Path | None, typer.Option("--report", help="A CSV or JSON of `castbench report`, to be held against the run.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="The --price that the report was made with.")] = None,
    rate: Annotated[float | None, typer.Option(help="The --rate that the report was made with.")] = None,
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    redact: Annotated[bool, typer.Option("--redact", help="The report was made with --redact.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Check a run file's hashes, and recompute every number of its report from the raw rounds in a second way.

    Exit code 4 where something does not agree.

    \b
    Examples:
      castbench verify latest
      castbench verify latest --report report.csv
    """
    from castbench.cli.report import check_positive
    from castbench.pipeline import verify

    check_positive("--price", price)
    check_positive("--rate", rate)
    book = book_of(prices, accept_suspect=accept_suspect)
    path, checks = verify(run, exported=report, price_usd_per_hour=price, rate=rate, redact=redact, prices=book)
    _show(str(path), checks, as_json=as_json)
    if not all(check.ok for check in checks):
        raise typer.Exit(4)


def _show(path: str, checks: Sequence[Check], *, as_json: bool) -> None:
    """The checks as lines, or as JSON with every difference."""
    import json

    from castbench.plain import to_plain

    if as_json:
        rows = [
            {"check": c.what, "ok": c.ok, "detail": c.detail, "numbers": dict(c.numbers),
             "differences": to_plain(c.differences)}
            for c in checks
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{path}")
    for check in checks:
        typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.what}{f': {check.detail}' if check.detail else ''}")
