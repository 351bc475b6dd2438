"""`castbench mechanisms`: which attention mechanisms a profile can name, and with which parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from castbench.mechanisms.spec import MechanismSpec


def mechanisms_command(
    *,
    show_all: Annotated[bool, typer.Option("--all", help="Also known answers and ceilings.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="All that is known of each, and what its parameters mean.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; always with every detail.")] = False,
) -> None:
    """List the attention mechanisms that a profile can name.

    \b
    Examples:
      castbench mechanisms
      castbench mechanisms --verbose | less
    """
    import json

    from castbench.mechanisms import presets, registry

    specs = [spec for spec in registry.all_specs().values() if show_all or not spec.hidden]
    if as_json:
        typer.echo(json.dumps([_facts(spec) for spec in specs], indent=2, ensure_ascii=False))
        return
    if verbose:
        _print(_listing(specs))
        return
    _print(_overview(specs))
    typer.echo(f"\nNamed lists of them: {', '.join(map(presets.PREFIX.__add__, presets.PRESETS))}")
    typer.echo("--verbose has papers, parameters and what to know before comparing")


def _print(listing: Table) -> None:
    """The listing on stdout, at the terminal's width, or at 80 columns where there is none."""
    from rich.console import Console

    Console(highlight=False).print(listing)


def _overview(specs: list[MechanismSpec]) -> Table:
    """A row per mechanism: what one needs to choose."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("name", style="bold", no_wrap=True)
    for heading in ("kind", "cost in N", "exact", "year"):
        table.add_column(heading)
    for spec in specs:
        year = "" if spec.year is None else str(spec.year)
        table.add_row(spec.name, spec.family, spec.complexity, "yes" if spec.exact else "no", year)
    return table


def _listing(specs: list[MechanismSpec]) -> Table:
    """A block per mechanism: its name, and beside it all there is to know."""
    from rich.table import Table

    listing = Table.grid(padding=(0, 2))
    listing.add_column(style="bold", no_wrap=True)
    listing.add_column()
    for spec in specs:
        listing.add_row(spec.name, _block(spec))
        listing.add_row()
    return listing


def _block(spec: MechanismSpec) -> Table:
    """Title and summary, then a line per fact, then what the parameters mean."""
    from rich.table import Table

    facts = {
        "kind": spec.family,
        "cost in N": spec.complexity,
        "exact": "yes: softmax attention itself" if spec.exact else "no: the model must be trained with it",
        "causal": "yes" if spec.causal else "no",
        "paper": f"{spec.paper} ({spec.year})" if spec.paper else "",
        "remark": spec.remark,
        "defaults": ", ".join(f"{name}: {shown(value)}" for name, value in spec.param_defaults().items()),
    }
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    for name, text in facts.items():
        if text and not (spec.hidden and name in ("kind", "exact", "causal")):
            lines.add_row(name, text)
    block = Table.grid()
    for part in (spec.title, spec.summary, lines, _documentation(spec) if facts["defaults"] else None):
        if part is not None:
            block.add_row(part)
    return block


def _documentation(spec: MechanismSpec) -> str:
    """The documentation of a mechanism's parameters."""
    import inspect

    return f"\n{inspect.getdoc(spec.params) or ''}"


def _facts(spec: MechanismSpec) -> dict[str, Any]:
    """What is told of a mechanism, as plain values; null where it has no paper."""
    return {
        "name": spec.name,
        "title": spec.title,
        "summary": spec.summary,
        "complexity": spec.complexity,
        "paper": spec.paper or None,
        "year": spec.year,
        "exact": spec.exact,
        "causal": spec.causal,
        "hidden": spec.hidden,
        "family": spec.family,
        "remark": spec.remark or None,
        "padding": "right" if spec.right_padding else "anywhere",
        "parameters": spec.param_defaults(),
    }


def shown(value: object) -> str:
    """A default as a profile would spell it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
