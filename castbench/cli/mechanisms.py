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
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what every parameter means.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; always with every detail.")] = False,
) -> None:
    """List the attention mechanisms that a profile can name.

    \b
    Examples:
      castbench mechanisms
      castbench mechanisms --all --verbose
    """
    import json

    from castbench.mechanisms import registry

    specs = [spec for spec in registry.all_specs().values() if show_all or not spec.hidden]
    if as_json:
        typer.echo(json.dumps([_facts(spec) for spec in specs], indent=2, ensure_ascii=False))
        return
    _print(_listing(specs, verbose=verbose))


def _print(listing: Table) -> None:
    """The listing on stdout, at the terminal's width, or at 80 columns where there is none."""
    from rich.console import Console

    Console(highlight=False).print(listing)


def _listing(specs: list[MechanismSpec], *, verbose: bool) -> Table:
    """A block per mechanism: its name, and beside it what there is to know."""
    from rich.table import Table

    listing = Table.grid(padding=(0, 2))
    listing.add_column(style="bold", no_wrap=True)
    listing.add_column()
    for spec in specs:
        listing.add_row(spec.name, _block(spec, verbose=verbose))
        listing.add_row()
    return listing


def _block(spec: MechanismSpec, *, verbose: bool) -> Table:
    """Title and summary, then a line per fact."""
    from rich.table import Table

    facts = {
        "cost in N": spec.complexity,
        "exact": "yes: softmax attention itself" if spec.exact else "no: the model must be trained with it",
        "paper": f"{spec.paper} ({spec.year})" if spec.paper else "",
        "defaults": ", ".join(f"{name}: {_shown(value)}" for name, value in spec.param_defaults().items()),
    }
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    for name, text in facts.items():
        if text and not (spec.hidden and name == "exact"):
            lines.add_row(name, text)
    block = Table.grid()
    for part in (spec.title, spec.summary, lines, _documentation(spec) if verbose and facts["defaults"] else None):
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
        "parameters": spec.param_defaults(),
    }


def _shown(value: object) -> str:
    """A default as a profile would spell it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
