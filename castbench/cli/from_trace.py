"""`castbench workload from-trace`: read observed requests, say what they are, and write a profile of them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from castbench.cli.settings import Settings, note, settings_of

if TYPE_CHECKING:
    from castbench.workload.spec import TimeUnit
    from castbench.workload.trace_reader import Reading, ReadTrace
    from castbench.workload.trace_stats import Lengths, Traffic


def from_trace_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSON lines or Parquet; gzipped or not.")],
    *,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Profile to write; without it, only a report.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the workload; the file's, without this.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of the arrival times.")] = None,
    time_unit: Annotated[str | None, typer.Option(help="Unit of the times: s, ms, us, ns, or iso for dates.")] = None,
    tokens_column: Annotated[str | None, typer.Option(help="Column of the lengths in tokens.")] = None,
    output_column: Annotated[
        str | None, typer.Option(help="Column of generated tokens; counted, not modelled.")
    ] = None,
    sort_within: Annotated[str, typer.Option(help="Sort times that go back by no more than this.")] = "60s",
    skip_unusable: Annotated[
        bool, typer.Option("--skip-unusable", help="Leave out and count rows without a usable time or length.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file named by --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Describe a trace of requests (rate, bursts, lengths), and write a profile with its lengths and demand.

    The layouts of the Azure LLM, Mooncake, BurstGPT and vidur traces are recognised, and columns with telling names.

    \b
    Examples:
      castbench workload from-trace requests.csv
      castbench workload from-trace requests.csv.gz -o mine.yaml
      castbench workload from-trace log.jsonl --time-column at --time-unit ms --tokens-column n -o mine.yaml
    """
    _require_free(out, force=force)
    _require_name(name)
    reading = _reading(_Asked(time_column, time_unit, tokens_column, output_column, sort_within, skip_unusable))
    with reading_bar(settings_of(context), file.name) as on_progress:
        described = _described(file, reading, on_progress)
    _show(described, as_json=as_json)
    note(context, _written(described, reading, out, name, force=force))


@dataclass(frozen=True, slots=True)
class _Asked:
    """How the command line says that the file is to be read."""

    time_column: str | None
    time_unit: str | None
    tokens_column: str | None
    output_column: str | None
    sort_within: str
    skip_unusable: bool


@dataclass(frozen=True, slots=True)
class _Described:
    """A trace and what it says."""

    read: ReadTrace
    lengths: Lengths
    traffic: Traffic | None


@contextmanager
def reading_bar(settings: Settings, what: str) -> Iterator[Callable[[float], None] | None]:
    """A bar with the time left on a terminal, nothing elsewhere; it takes the share of the file that was read."""
    if settings.quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("reading {task.description}", markup=False), BarColumn(bar_width=20), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("left", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _reading(asked: _Asked) -> Reading:
    """The options as what the reader takes; InputError for a unit or a duration that is none."""
    from castbench.errors import InputError
    from castbench.units import parse_duration_s
    from castbench.workload.trace_layouts import AskedColumns
    from castbench.workload.trace_reader import Reading

    try:
        within_s = parse_duration_s(asked.sort_within)
    except ValueError as error:
        raise InputError(f"--sort-within: {error}") from None
    columns = AskedColumns(asked.time_column, _unit(asked.time_unit), asked.tokens_column, asked.output_column)
    return Reading(columns, within_s, asked.skip_unusable)


def _unit(text: str | None) -> TimeUnit | None:
    """--time-unit, checked."""
    from castbench.errors import InputError
    from castbench.workload.spelling import did_you_mean
    from castbench.workload.trace_layouts import TIME_UNITS

    if text is None or text in TIME_UNITS:
        return text  # type: ignore[return-value]  # checked in this very line
    words = {"second": "s", "sec": "s", "milli": "ms", "micro": "us", "µs": "us", "nano": "ns", "date": "iso"}
    meant = next((unit for word, unit in words.items() if text.lower().startswith(word)), None)
    raise InputError(f"--time-unit: expected {', '.join(TIME_UNITS)}, got {text!r}{did_you_mean(meant)}")


def _require_free(out: Path | None, *, force: bool) -> None:
    """InputError for a file that would be overwritten: found before a long trace is read, not after."""
    from castbench.errors import InputError

    if out is not None and out.exists() and not force:
        raise InputError(f"{out} exists already; name another file, or overwrite it with --force")


def _require_name(name: str | None) -> None:
    """InputError for a name that no profile may have."""
    from castbench.errors import InputError
    from castbench.workload.scalars import Name

    problem = None if name is None else Name().problem(name)
    if problem is not None:
        raise InputError(f"--name: {problem}")


def _name_of(file: Path) -> str:
    """A profile's name made of a file's: requests of requests.csv.gz."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.partition(".")[0])[:80].strip("-_") or "trace"


def _described(file: Path, reading: Reading, on_progress: Callable[[float], None] | None) -> _Described:
    """The trace in a file, and what it says."""
    from castbench.workload.trace_reader import read_trace
    from castbench.workload.trace_stats import lengths, traffic

    read = read_trace(file, reading, on_progress)
    return _Described(read, lengths(read.tokens), None if read.arrival_s is None else traffic(read.arrival_s))


def _show(described: _Described, *, as_json: bool) -> None:
    """The report on stdout."""
    from castbench.cli.trace_text import trace_text, trace_values
    from castbench.report.terminal import shown_on

    read, lengths, traffic = described.read, described.lengths, described.traffic
    if as_json:
        typer.echo(json.dumps(trace_values(read, lengths, traffic), indent=2, ensure_ascii=False))
    else:
        typer.echo(trace_text(read, lengths, traffic, shown_on(sys.stdout)[0]))


def _written(described: _Described, reading: Reading, out: Path | None, name: str | None, *, force: bool) -> str:
    """Write the profile, if one is asked for and once it was found to be one; says what comes next."""
    from castbench.errors import InputError
    from castbench.pipeline import write_out
    from castbench.workload.profile import parse_profile
    from castbench.workload.trace_profile import reference_to, render_profile

    file = described.read.path
    if out is None:
        return f"Nothing was written; to have a profile: castbench workload from-trace {file} -o profile.yaml"
    path = os.path.relpath(file.absolute(), out.parent.absolute())
    reference = reference_to(described.read, PurePath(path).as_posix(), reading.sort_within_s)
    text = render_profile(name or _name_of(file), described.read, described.lengths, described.traffic, reference)
    problems = parse_profile(text, str(out), out.parent).problems
    if problems:
        raise InputError.of("nothing was written", problems)
    write_out(text.encode(), out, force=force)
    return f"Wrote {out}. Next: castbench workload check {out}"
