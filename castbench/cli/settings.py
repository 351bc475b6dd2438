"""Options of the root command, and how a command reads them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import typer


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is said on stderr."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


def settings_of(context: typer.Context) -> Settings:
    """The root command's options."""
    return context.obj if isinstance(context.obj, Settings) else Settings()


def note(context: typer.Context, message: str) -> None:
    """A line on stderr, unless --quiet."""
    if not settings_of(context).quiet:
        with suppress(OSError, ValueError, AttributeError):  # a lost stderr must not end a command
            typer.echo(message, err=True)
