"""`castbench profile`: measure a workload profile and show what it found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from castbench.cli.price_options import AcceptSuspect, PriceList, book_of
from castbench.cli.settings import note, settings_of

if TYPE_CHECKING:
    from castbench.cost.prices import PriceBook
    from castbench.measure.rig import Rig
    from castbench.pipeline import Measured
    from castbench.plan import Plan
    from castbench.workload.spec import WorkloadProfile


def profile_command(
    context: typer.Context,
    workload: Annotated[
        str | None, typer.Argument(help="A profile's path, or a shipped one's name (quickstart).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N, or fake (instant, no machine).")] = "auto",
    budget: Annotated[str | None, typer.Option(help="About the most the run may take, such as 90s or 5m.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run (a path, a name, or latest).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured and how long it takes.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run file to write; never overwritten.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Replaces the profile's seed.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads a worker may use.")] = None,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="Refuse a GPU that others use; without this, it is pointed out.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only this label (repeatable) and the baseline.")
    ] = None,
    prices: PriceList = None,
    accept_suspect: AcceptSuspect = False,
) -> None:
    """Measure a workload profile on this machine, show what it costs, and keep every raw measurement.

    \b
    Examples:
      castbench profile quickstart
      castbench profile mine.yaml --budget 5m
      castbench profile mine.yaml --dry-run
      castbench profile --resume latest
    """
    book = book_of(prices, accept_suspect=accept_suspect)
    asked = _Asked(workload, device, dry_run, out, seed, threads, exclusive, tuple(only or ()), _budget_s(budget), book)
    measured = _new_run(context, asked) if resume is None else _resumed(context, resume, asked)
    if measured is not None:
        _show(context, measured, book, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks of a new run."""

    workload: str | None
    device: str
    dry_run: bool
    out: Path | None
    seed: int | None
    threads: int | None
    exclusive: bool
    only: tuple[str, ...]
    budget_s: float | None
    prices: PriceBook


def _budget_s(budget: str | None) -> float | None:
    """--budget in seconds."""
    from castbench.errors import InputError
    from castbench.units import parse_duration_s

    try:
        return None if budget is None else parse_duration_s(budget)
    except ValueError as error:
        raise InputError(f"--budget: {error}") from None


def _show_plan(profile: WorkloadProfile, plan: Plan, device: str) -> None:
    """What --dry-run prints."""
    from castbench.cli.plan_text import plan_text

    typer.echo(plan_text(profile, plan, device))


def _new_run(context: typer.Context, asked: _Asked) -> Measured | None:
    """Measure a profile; under --dry-run only say what would be measured."""
    from castbench.cli.progress import watcher_for
    from castbench.errors import InputError
    from castbench.pipeline import check_device, load_plan, measure, open_rig

    if asked.workload is None:
        raise InputError("name a workload profile (try: castbench profile quickstart) or a run with --resume")
    device = check_device(asked.device)
    profile, plan = load_plan(asked.workload, only=asked.only, seed=asked.seed, prices=asked.prices)
    if asked.dry_run:
        _show_plan(profile, plan, device)
        return None
    rig = open_rig(device, profile.dtype, profile.seed, asked.threads)
    _look_for_others(context, rig, asked)
    if device == "auto" and rig.device == "cpu":
        note(context, "No CUDA device here: measuring on the CPU. The result says nothing about a GPU.")
    with closing(rig), watcher_for(settings_of(context)) as watcher:
        return measure(profile, plan, rig, watcher, out=asked.out, budget_s=asked.budget_s, prices=asked.prices)


def _look_for_others(context: typer.Context, rig: Rig, asked: _Asked) -> None:
    """Refuse a shared GPU under --exclusive, else point it out."""
    from castbench.errors import InputError
    from castbench.pipeline import require_alone

    if asked.exclusive and rig.device == "cpu":
        raise InputError("--exclusive is about GPUs, and this run is on the CPU; leave it out")
    if asked.exclusive:
        require_alone(rig)
    elif others := rig.others():
        named = ", ".join(str(pid) for pid in others)
        note(context, f"Others use {rig.device} (pid {named}): they take time from every window and memory.")


def _refuse_with_resume(asked: _Asked) -> None:
    """InputError for options that would make the rest of a run another run."""
    from castbench.errors import InputError

    given = {
        "--device": asked.device != "auto", "--dry-run": asked.dry_run, "--out": asked.out is not None,
        "--exclusive": asked.exclusive, "--seed": asked.seed is not None, "--threads": asked.threads is not None,
        "--only": bool(asked.only),
    }  # fmt: skip
    named = [option for option, is_given in given.items() if is_given]
    if named:
        raise InputError(f"--resume goes on as the run began; leave out {', '.join(named)}")


def _resumed(context: typer.Context, ref: str, asked: _Asked) -> Measured:
    """The rest of an earlier run."""
    from castbench.cli.progress import watcher_for
    from castbench.pipeline import resume, rig_of_run

    _refuse_with_resume(asked)
    rig = rig_of_run(ref, asked.workload)
    with closing(rig), watcher_for(settings_of(context)) as watcher:
        return resume(ref, rig, watcher, budget_s=asked.budget_s, prices=asked.prices)


def _show(context: typer.Context, measured: Measured, prices: PriceBook, *, as_json: bool) -> None:
    """The report on stdout; where the run is kept and what failed on stderr."""
    from castbench.pipeline import baseline_was_measured, report_bytes, write_out

    for damage in measured.record.damage:
        note(context, f"{measured.path}: {damage}")
    write_out(report_bytes(measured.record, "json" if as_json else "terminal", prices=prices), None)
    note(context, f"Run kept in {measured.path}. Next: castbench report --format csv --out report.csv")
    if not measured.complete:
        note(context, f"The budget ended before the last group; go on with: castbench profile --resume {measured.path}")
    if not baseline_was_measured(measured.record):
        note(context, "The baseline could not be measured in any group, so nothing can be compared.")
        raise typer.Exit(1)
