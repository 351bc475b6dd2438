"""`castbench capacity`: servers at an objective, by replaying a trace or a rate through what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from castbench.cli.language import Language
from castbench.cli.price_options import AcceptSuspect, PriceList, book_of
from castbench.cli.report import check_positive
from castbench.cli.settings import settings_of
from castbench.cli.work_bar import work_bar

if TYPE_CHECKING:
    from castbench.report.blocks import Block


def capacity_command(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    trace: Annotated[
        Path | None,
        typer.Option(help="Requests to replay, instead of the profile's: a trace, or a profile that names one."),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second; a trace is sped up or slowed to it.")] = None,
    hours: Annotated[
        float | None, typer.Option(help="Length of the traffic made up from a rate without a trace; 1 by default.")
    ] = None,
    p50_ms: Annotated[float | None, typer.Option("--p50-ms", help="Latency half of the requests may take.")] = None,
    p95_ms: Annotated[float | None, typer.Option("--p95-ms", help="Latency 95 % of them may take.")] = None,
    p99_ms: Annotated[float | None, typer.Option("--p99-ms", help="Latency 99 % of them may take.")] = None,
    max_utilization: Annotated[float | None, typer.Option(help="How busy a server may be, 0 to 1.")] = None,
    min_replicas: Annotated[int | None, typer.Option(help="Fewest replicas in a zone; the profile's, else 1.")] = None,
    zones: Annotated[int | None, typer.Option(help="Zones that each have them; the profile's, else 1.")] = None,
    spare: Annotated[
        int | None, typer.Option(help="Replicas beyond what is needed (1: N+1); the profile's, else 0.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Also: which rate so many replicas sustain.")] = None,
    day: Annotated[bool, typer.Option("--day", help="Also: fixed, autoscaled and ideal fleets.")] = False,
    overhead_ms: Annotated[float, typer.Option(help="Time of a batch outside the model.")] = 0.0,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut requests longer than measured.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Mechanisms by label (repeatable).")] = None,
    resamples: Annotated[int, typer.Option(help="Of the traffic, for the range; 0: none.")] = 100,
    seed: Annotated[int, typer.Option(help="Of drawn rounds, resamples and made-up traffic.")] = 0,
    price: Annotated[float | None, typer.Option(help="USD per hour of one server, instead of the profile's.")] = None,
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines, unrounded.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout; never overwritten.")] = None,
    lang: Language = "en",
) -> None:
    """Replay traffic through the measured times: the fewest servers that keep an objective, with the proof.

    Batches form as a server would form them; batch size and window are chosen per mechanism among those measured. A
    rate without a trace is replayed as independent arrivals: real traffic comes in bursts and needs more servers. A
    latency given here replaces all of the profile's.

    \b
    Examples:
      castbench capacity latest --p99-ms 250
      castbench capacity latest --trace requests.csv --p99-ms 250 --day
      castbench capacity latest --rate 40 --p95-ms 100 --replicas 4
      castbench capacity latest --p99-ms 250 --lang ja
    """
    from castbench.pipeline import CapacityQuestion, capacity, read_run
    from castbench.report import capacity_page
    from castbench.report.catalogue import speaking
    from castbench.traffic_source import TrafficChoice

    for name, number in (("--price", price), ("--rate", rate), ("--hours", hours), ("--p50-ms", p50_ms),
                         ("--p95-ms", p95_ms), ("--p99-ms", p99_ms)):  # fmt: skip
        check_positive(name, number)
    check_not_negative("--overhead-ms", overhead_ms)
    check_not_negative("--resamples", resamples)
    check_not_negative("--seed", seed)
    check_not_negative("--spare", spare or 0)
    check_positive("--min-replicas", min_replicas)
    check_positive("--zones", zones)
    require_free(out)
    question = CapacityQuestion(
        traffic=TrafficChoice(trace, rate, hours, seed), latencies_ms=(p50_ms, p95_ms, p99_ms),
        max_utilization=max_utilization, min_replicas=min_replicas, zones=zones, spare=spare, replicas=replicas,
        day=day, overhead_s=overhead_ms / 1e3, truncate=truncate, labels=tuple(only or ()), resamples=resamples,
        seed=seed,
    )  # fmt: skip
    book = book_of(prices, accept_suspect=accept_suspect)
    with speaking(lang):
        with work_bar(settings_of(context)) as told:
            report = capacity(read_run(run), question, price_usd_per_hour=price, prices=book, on_progress=told)
        show(capacity_page.page(report), capacity_page.as_json(report), as_json=as_json, out=out)


def check_not_negative(option: str, number: float) -> None:
    """InputError for what is not a finite number of 0 or more."""
    from math import isfinite

    from castbench.errors import InputError

    if not (isfinite(number) and number >= 0):
        raise InputError(f"{option}: expected 0 or more, got {number:g}")


def require_free(out: Path | None) -> None:
    """InputError for a file that is there already: found before the work, not after it."""
    from castbench.errors import InputError

    if out is not None and out.exists():
        raise InputError(f"{out} exists already and is not overwritten; name another file with --out")


def show(blocks: tuple[Block, ...], plain: bytes, *, as_json: bool, out: Path | None) -> None:
    """A page or its JSON to standard output, or to a file."""
    import sys

    from castbench.pipeline import write_out
    from castbench.report import terminal

    if as_json:
        write_out(plain, out)
        return
    width, colour = terminal.shown_on(sys.stdout) if out is None else (80, False)
    write_out(terminal.draw(blocks, width=width, colour=colour), out)
