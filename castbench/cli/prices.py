"""`castbench prices`: search the price list that profiles look prices up in, or check one of your own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from castbench.cli.price_options import PriceList, book_of
from castbench.cli.settings import settings_of

if TYPE_CHECKING:
    from rich.table import Table

    from castbench.cost.prices import PriceBook
    from castbench.cost.spec import Price

MARK = "!"
"""What stands behind a price that looks wrong."""


_Words = Annotated[
    list[str] | None, typer.Argument(metavar="[TEXT]...", help="Words that cloud, instance, region or GPU must have.")
]
_Checked = Annotated[
    str | None, typer.Option(metavar="FILE", help="Check a price list (a file or https address) and say what is wrong.")
]


def prices_command(
    context: typer.Context,
    words: _Words = None,
    cloud: Annotated[str | None, typer.Option(help="Only this cloud, such as aws.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Only GPUs with this in the name (H100, A100-PCIe), or cpu.")] = None,
    region: Annotated[str | None, typer.Option(help="Only regions with this in the name, such as us-east.")] = None,
    most: Annotated[float | None, typer.Option("--max", help="At most this many USD per GPU and hour.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Spot prices; units without one are left out.")] = False,
    prices: PriceList = None,
    check: _Checked = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="All that is known of each, doubts included.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; always with every detail.")] = False,
) -> None:
    """Search the price list, cheapest per GPU first; prices that look wrong are marked with an exclamation mark.

    \b
    Examples:
      castbench prices --gpu H100
      castbench prices --gpu L4 --cloud gcp -v
      castbench prices --spot --max 1.5
      castbench prices --check ours.csv
    """
    from castbench.cli.report import check_positive

    check_positive("--max", most)
    wanted = _Wanted(tuple(words or ()), cloud, gpu, region, most, spot)
    if check is not None:
        _check(check, wanted, as_json=as_json)
    else:
        book = book_of(prices, accept_suspect=True)
        _answer(book, wanted, as_json=as_json, verbose=verbose or settings_of(context).verbose)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which rows are asked for."""

    words: tuple[str, ...] = ()
    cloud: str | None = None
    gpu: str | None = None
    region: str | None = None
    most: float | None = None
    spot: bool = False

    def found(self, rows: Iterable[Price]) -> list[Price]:
        """The rows that fit, cheapest per GPU first, CPU servers behind GPUs."""
        fitting = [row for row in rows if self._fits(row)]
        return sorted(fitting, key=self._place)

    def _place(self, row: Price) -> tuple[bool, float, int, str]:
        """Where a row stands: prices that look alike in the table count as equal, so that counts stand in order."""
        return row.gpus == 0, round(_usd(row, spot=self.spot) or 0.0, 3), row.gpus, row.name

    def _fits(self, row: Price) -> bool:
        usd = _usd(row, spot=self.spot)
        within = usd is not None and (self.most is None or usd <= self.most)
        everything = " ".join(filter(None, (row.cloud, row.instance, row.region, row.accelerator or "cpu")))
        return (
            within
            and (self.cloud is None or self.cloud.lower() == str(row.cloud).lower())
            and _has(row.accelerator or "cpu", self.gpu)
            and _has(row.region or "", self.region)
            and all(_has(everything, word) for word in self.words)
        )


def _has(text: str, part: str | None) -> bool:
    """Whether a text has a part in it, in whatever case."""
    return part is None or part.lower() in text.lower()


def _usd(row: Price, *, spot: bool) -> float | None:
    """USD per hour and GPU, or per CPU server; None where there is no spot price."""
    usd = row.spot_usd_per_hour if spot else row.usd_per_hour
    return None if usd is None else usd / row.devices


def _facts(row: Price, *, spot: bool) -> dict[str, Any]:
    """A row for machines: the columns of the file, what a GPU costs by the plan asked for, and the doubts."""
    return {
        "cloud": row.cloud, "instance": row.instance, "region": row.region, "accelerator": row.accelerator,
        "gpus": row.gpus, "vcpus": row.vcpus, "memory_gib": row.memory_gib, "host_included": row.host_included,
        "on_demand_usd_per_hour": row.usd_per_hour, "spot_usd_per_hour": row.spot_usd_per_hour,
        "plan": "spot" if spot else "on_demand",
        "usd_per_gpu_hour": _usd(row, spot=spot) if row.gpus else None,
        "as_of": row.as_of, "source": row.source, "note": row.note, "doubts": list(row.flags),
    }  # fmt: skip


def _answer(book: PriceBook, wanted: _Wanted, *, as_json: bool, verbose: bool) -> None:
    """The rows that are asked for, or a sentence that there are none."""
    found = wanted.found(book.rows)
    if as_json:
        typer.echo(json.dumps([_facts(row, spot=wanted.spot) for row in found], indent=2, ensure_ascii=False))
    elif found:
        _show(found, book, spot=wanted.spot, verbose=verbose)
    else:
        typer.echo(f"None of the {len(book.rows)} prices in {book.name} is like that; leave out a word or an option.")


def _show(rows: Sequence[Price], book: PriceBook, *, spot: bool, verbose: bool) -> None:
    """The rows for people, and what to know of them."""
    from castbench.cli.plan_text import wrapped
    from castbench.report.terminal import shown_on

    width = shown_on(sys.stdout)[0]
    if verbose:
        lines = [line for row in rows for line in _block(row, spot=spot)]
        typer.echo("\n".join(wrapped(lines, width, indent=6)) + "\n")
    else:
        _print(_table(rows, spot=spot))
    typer.echo("\n".join(wrapped(_notes(rows, book, spot=spot, today=date.today(), verbose=verbose), width)))


def _print(table: Table) -> None:
    """The table on stdout, at the terminal's width, or at 80 columns where there is none; names are no markup."""
    from rich.console import Console

    Console(highlight=False, markup=False, emoji=False).print(table)


def _table(rows: Sequence[Price], *, spot: bool) -> Table:
    """A line per row."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("$/GPU-h", justify="right", no_wrap=True)
    table.add_column("$/h", justify="right", no_wrap=True)
    for heading in ("server", "cloud", "instance", "region"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        usd = (row.spot_usd_per_hour if spot else row.usd_per_hour) or 0.0
        each = f"{usd / row.gpus:.3f}" if row.gpus else ""
        doubt = MARK if row.flags else " "
        table.add_row(each, f"{usd:.3f}{doubt}", _server(row), row.cloud, row.instance, row.region or "any")
    return table


def _server(row: Price) -> str:
    """What is in a unit: "8 x H100-SXM" or "CPU, 4 vCPUs"."""
    if row.gpus:
        return f"{row.gpus} x {row.accelerator}"
    return "CPU" if row.vcpus is None else f"CPU, {row.vcpus} vCPUs"


def _block(row: Price, *, spot: bool) -> Iterable[str]:
    """All that is known of a row, as lines to be wrapped."""
    usd = _usd(row, spot=spot) or 0.0
    yield f"{usd:.3f} USD per {'GPU and hour' if row.gpus else 'hour'}: {row.name}, {_server(row)}"
    spot_usd = "not known" if row.spot_usd_per_hour is None else f"{row.spot_usd_per_hour:g}"
    sizes = [
        "vCPUs not known" if row.vcpus is None else f"{row.vcpus} vCPUs",
        "memory not known" if row.memory_gib is None else f"{row.memory_gib:g} GiB",
        "host included" if row.host_included else "host not included",
    ]
    yield f"    {row.usd_per_hour:g} on demand, spot {spot_usd}; {', '.join(sizes)}"
    yield f"    {row.as_of}, {row.source}{f'; {row.note}' if row.note else ''}"
    yield from (f"    {MARK} {flag}" for flag in row.flags)


def _notes(rows: Sequence[Price], book: PriceBook, *, spot: bool, today: date, verbose: bool) -> Iterable[str]:
    """How many there are, how old they are, and what the mark means."""
    from castbench.cost.price_doubts import OLD_DAYS, age_days

    count = f"{len(rows)} of the {len(book.rows)} prices in {book.name}"
    days = sorted(str(row.as_of) for row in rows)
    when = f"of {days[0]}" if days[0] == days[-1] else f"of {days[0]} to {days[-1]}"
    old = sum((age_days(row, today) or 0) > OLD_DAYS for row in rows)
    aged = f"; {'all' if old == len(rows) else old} older than {OLD_DAYS} days" if old else ""
    yield f"{count}, USD per hour {'spot' if spot else 'on demand'}, {when}{aged}."
    if doubtful := sum(bool(row.flags) for row in rows):
        more = "" if verbose else "; -v says why"
        yield f"{MARK} {_looking_wrong(doubtful)}: used only with --accept-suspect{more}."


def _looking_wrong(number: int) -> str:
    """So many of the prices, in words."""
    return f"{number} of them {'looks' if number == 1 else 'look'} wrong beside the others"


def _check(source: str, wanted: _Wanted, *, as_json: bool) -> None:
    """Whether a price list is one, and which of its prices look wrong; InputError for one that cannot be used."""
    from castbench.cli.plan_text import wrapped
    from castbench.errors import InputError
    from castbench.report.terminal import shown_on

    if wanted != _Wanted():
        raise InputError("--check looks at the whole list; leave out the words and the other options")
    book = book_of(source, accept_suspect=True)
    doubtful = [row for row in book.rows if row.flags]
    if as_json:
        facts = {
            "source": book.name,
            "prices": len(book.rows),
            "doubtful": [_facts(row, spot=False) for row in doubtful],
        }
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    many = "" if len(book.rows) == 1 else "s"
    lines = [f"{book.name}: {len(book.rows)} price{many}, every cell as it should be."]
    lines += [f"{_looking_wrong(len(doubtful))}:" if doubtful else "None of them looks wrong."]
    lines += [f"{row.name}: {'; '.join(row.flags)}" for row in doubtful]
    typer.echo("\n".join(wrapped(lines, shown_on(sys.stdout)[0])))
