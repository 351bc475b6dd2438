"""`castbench diff`: what changed between two runs of the same work, and gates that a change must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from castbench.cli.language import Language
from castbench.cli.price_options import AcceptSuspect, PriceList, book_of


def diff_command(
    base: Annotated[str, typer.Argument(help="The run before: a path, a name, or latest.")],
    new: Annotated[str, typer.Argument(help="The run after.")],
    gate: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="'LABEL: METRIC >= NUMBER [@ TOKENS]' (repeatable).")
    ] = None,
    gates: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file with a list of gates.")] = None,
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="A gate that is neither shown nor refuted passes.")
    ] = False,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Judge times too, not only ratios; needs --noise or --noise-percent.")
    ] = False,
    noise: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="A repeat of BASE, for the noise of times (repeatable).")
    ] = None,
    noise_percent: Annotated[
        float | None, typer.Option(help="By how much times of equal work differ between sessions.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="USD per hour of NEW's server, instead of its profile's.")] = None,
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
    force: Annotated[bool, typer.Option("--force", help="Unlike runs too; the result is marked.")] = False,
    fmt: Annotated[str, typer.Option("--format", help="terminal, csv, json or md.")] = "terminal",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout; never overwritten.")] = None,
    lang: Language = "en",
) -> None:
    """What changed from BASE to NEW, each mechanism against the baseline of its own run, and whether gates are met.

    A gate passes only if the unfavourable end of the interval passes. Exit code 5 where one is missed or undecided.
    LABEL is a mechanism's label or *, for all. METRIC is one of speedup_vs_baseline, slowdown_percent,
    peak_memory_mib, peak_memory_change_percent, cost_usd_per_hour, saving_usd_per_hour, and with --absolute
    time_change_percent. Demand is that of BASE.

    \b
    Examples:
      castbench diff before.jsonl after.jsonl
      castbench diff before after --gate 'cast-32: slowdown_percent <= 3' --gate '*: peak_memory_change_percent <= 5'
      castbench diff kept.jsonl latest --gates gates.yaml --format md --lang ja
      castbench diff before after --absolute --noise before-again
    """
    import sys

    from castbench.cli.capacity import require_free
    from castbench.cli.report import check_positive
    from castbench.pipeline import DiffQuestion, diff, require_gates, write_out
    from castbench.report import diff_page, terminal
    from castbench.report.catalogue import speaking

    check_positive("--price", price)
    require_free(out)
    question = DiffQuestion(
        tuple(gate or ()), gates, absolute, tuple(noise or ()), noise_percent, forced=force, price_usd_per_hour=price
    )
    found = diff(base, new, question, book_of(prices, accept_suspect=accept_suspect))
    width, colour = terminal.shown_on(sys.stdout) if out is None else (80, False)
    with speaking(lang):
        write_out(diff_page.render(found, "json" if as_json else fmt, width=width, colour=colour), out)
    require_gates(found, allow_undecided=allow_undecided)
