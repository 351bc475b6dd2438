"""`castbench runs`: list, show and remove the run files in ./castbench-runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

runs_app = typer.Typer(help="List, show and remove runs kept in ./castbench-runs.", rich_markup_mode=None)


@runs_app.callback(invoke_without_command=True)
def runs_command(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the runs, oldest first.

    \b
    Examples:
      castbench runs
      castbench runs show latest
      castbench runs remove quickstart-cpu-20260102-030405
    """
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@runs_app.command("list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the runs, oldest first; what `castbench runs` does by itself."""
    _list(as_json=as_json)


@runs_app.command("show")
def show_command(
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a run is: when, where, what, how far it got."""
    import json

    from castbench.pipeline import read_run

    facts = _facts(read_run(run))
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {'not known' if value is None else value}")


@runs_app.command("remove")
def remove_command(
    run: Annotated[str, typer.Argument(help="A path or a name; never latest, so that nothing goes by mistake.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a run file."""
    from castbench.errors import InputError
    from castbench.rehearsal.kept import path_beside
    from castbench.store import find_run, read_run

    if run == "latest":
        raise InputError("runs remove: name the run itself; `castbench runs` lists them")
    path = find_run(run)
    read_run(path)
    if not yes and not typer.confirm(f"Delete {path}?"):
        raise typer.Exit(1)
    rehearsals = path_beside(str(path))
    path.unlink()
    rehearsals.unlink(missing_ok=True)
    typer.echo(f"deleted {path}", err=True)


def _list(*, as_json: bool) -> None:
    """All runs of the directory; damaged files are listed as such."""
    import json

    from castbench.errors import RunFileError
    from castbench.store import RUNS_DIR, read_run, run_files

    rows: list[dict[str, Any]] = []
    for path in run_files():
        try:
            rows.append({"run": path.stem, **_facts(read_run(path))})
        except RunFileError as error:
            rows.append({"run": path.stem, "problem": str(error)})
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif not rows:
        typer.echo(f"There are no runs in {RUNS_DIR}/ yet; measure one with: castbench profile quickstart")
    else:
        _print_rows(rows)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """A run per two lines: names are long, terminals are narrow."""
    for row in rows:
        typer.echo(row["run"])
        if "problem" in row:
            typer.echo(f"    unreadable: {row['problem']}")
        else:
            typer.echo(
                f"    {row['started']}  {row['device']}  {row['groups']}, {row['rounds']} rounds, {row['ended']}"
            )


def _facts(record: Any) -> dict[str, Any]:
    """What is said of a run."""
    header = record.header
    planned = len(header.plan.groups)
    return {
        "file": record.path,
        "run id": header.run_id,
        "profile": header.profile_name,
        "started": header.created_at,
        "resumed": ", ".join(record.resumed_at) or "never",
        "device": f"{header.environment.device} ({header.environment.device_name})",
        "groups": f"{len(record.groups)} of {planned} groups",
        "rounds": len(record.rounds),
        "discarded rounds": sum(not r.valid for r in record.rounds),
        "ended": _ended(record),
        "mechanisms": ", ".join(arm.label for arm in header.plan.arms if arm.role != "ceiling"),
        "castbench": header.environment.castbench,
        "torch": header.environment.torch,
        "damage": "; ".join(record.damage) or "none",
    }


def _ended(record: Any) -> str:
    """How the run ended, in a word or two."""
    if record.ended is None:
        return "interrupted"
    return "complete" if record.ended.complete else "out of budget"
