"""A bar on a terminal's stderr for work that takes a while: what is being done, the share of it, the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castbench.cli.settings import Settings

Told = Callable[[str, float], None]
"""Told what is being done, and the share of it that is done."""


@contextmanager
def work_bar(settings: Settings) -> Iterator[Told | None]:
    """A bar that begins anew where the share falls back; None, and nothing shown, under --quiet and elsewhere."""
    if settings.quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("left", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def told(what: str, share: float) -> None:
            if share < bar.tasks[0].completed:
                bar.reset(task)
            bar.update(task, description=what, completed=share)

        yield told
