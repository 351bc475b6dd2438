"""`castbench rehearse`: serve one replica's traffic on this machine, and hold it against what the replay says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from castbench.cli.capacity import check_not_negative, require_free, show
from castbench.cli.language import Language
from castbench.cli.report import check_positive
from castbench.cli.settings import settings_of
from castbench.cli.work_bar import work_bar


def rehearse_command(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    label: Annotated[str | None, typer.Option(help="Mechanism by label; the baseline without this.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second.")] = None,
    load: Annotated[
        float | None, typer.Option(help="How busy the replica is to be, 0 to 1 and beyond, instead of a rate.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long requests come.")] = 60.0,
    max_batch: Annotated[int | None, typer.Option(help="Most requests of a batch; the largest measured.")] = None,
    window_ms: Annotated[float, typer.Option(help="How long a request may wait for company.")] = 0.0,
    by_length: Annotated[bool, typer.Option("--by-length", help="Batches within the measured lengths.")] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Requests to serve a stretch of: a trace, or a profile that names one.")
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Independent arrivals, although the profile names a trace.")
    ] = False,
    overhead_ms: Annotated[
        float | None, typer.Option(help="Time of a batch outside the model; measured without this.")
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut requests longer than measured.")] = False,
    seed: Annotated[int, typer.Option(help="Of arrivals, of the stretch of a trace, and of the replays.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines, unrounded.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout; never overwritten.")] = None,
    lang: Language = "en",
) -> None:
    """Rehearse a fleet in miniature: one real server with its queue, fed in time, against the replay of the same.

    The replay speaks first. What it is off by is kept beside the run and said by castbench capacity. The machine must
    be the one the run was measured on, and must have nothing else to do.

    \b
    Examples:
      castbench rehearse
      castbench rehearse latest --label cast --load 0.5 --max-batch 8 --window-ms 5
      castbench rehearse latest --trace requests.csv --seconds 120
      castbench rehearse --lang ja
    """
    from castbench.pipeline import RehearsalQuestion, read_run, rehearse
    from castbench.rehearsal.choice import RehearsalChoice
    from castbench.report import rehearsal_page
    from castbench.report.catalogue import speaking

    for name, number in (("--rate", rate), ("--load", load), ("--seconds", seconds)):
        check_positive(name, number)
    for name, number in (("--window-ms", window_ms), ("--overhead-ms", overhead_ms or 0.0), ("--seed", seed)):
        check_not_negative(name, number)
    require_free(out)
    choice = RehearsalChoice(
        label, rate, load, seconds, max_batch, window_ms / 1e3, by_length,
        None if overhead_ms is None else overhead_ms / 1e3, truncate, seed,
    )  # fmt: skip
    with speaking(lang):
        with work_bar(settings_of(context)) as told:
            report = rehearse(read_run(run), RehearsalQuestion(trace, smooth, choice), told)
        show(rehearsal_page.page(report), rehearsal_page.as_json(report), as_json=as_json, out=out)
