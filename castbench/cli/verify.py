"""`castbench verify`: is a run file whole, and does the report follow from its raw rounds?"""

from __future__ import annotations

from typing import Annotated

import typer


def verify_command(
    run: Annotated[str, typer.Argument(help="A path, a name, or latest.")] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Check a run file's hashes and recompute its report's numbers from the raw rounds in a second way.

    Exit code 4 where something does not agree.

    \b
    Example:
      castbench verify latest
    """
    import json

    from castbench.pipeline import verify

    path, checks = verify(run)
    if as_json:
        rows = [{"check": c.what, "ok": c.ok, "detail": c.detail} for c in checks]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{path}")
        for check in checks:
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.what}{f': {check.detail}' if check.detail else ''}")
    if not all(check.ok for check in checks):
        raise typer.Exit(4)
