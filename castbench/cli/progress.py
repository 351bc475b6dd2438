"""Progress of a run on stderr: a bar with time left on a terminal, a line per group elsewhere."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from castbench.cli.settings import Settings
    from castbench.measure.runner import Progress, Watcher
    from castbench.plan import Arm, Group
    from castbench.records import Status


def watcher_for(settings: Settings) -> AbstractContextManager[Watcher]:
    """A bar on a terminal, a line per group in a log, one per piece of work under --verbose, none under --quiet."""
    if settings.quiet:
        return _Quiet()
    if settings.verbose:
        return _Steps()
    return _Bar() if sys.stderr is not None and sys.stderr.isatty() else _Lines()


def duration_text(seconds: float) -> str:
    """Whole seconds below two minutes, else minutes, else hours: a guess needs no more digits."""
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7170 else f"{seconds / 3600:.1f} h"


class _Watching(AbstractContextManager["Watcher"]):
    """What the kinds of watcher share: failures are always told."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def progress(self, progress: Progress) -> None:
        """Follow the run."""

    def failed(self, group: Group, arm: Arm, status: Status, reason: str) -> None:
        """Say which case failed and why; the run goes on."""
        self.line(f"{group.key}: {arm.label}: {status}: {reason}")

    def line(self, text: str) -> None:
        """One line on stderr."""
        with suppress(OSError, ValueError, AttributeError):  # a lost stderr must not end a measurement
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


class _Quiet(_Watching):
    """Not even failures: they are in the report."""

    def line(self, text: str) -> None:
        """Say nothing."""


class _Lines(_Watching):
    """A line when a group begins."""

    def __init__(self) -> None:
        self._group = ""

    def progress(self, progress: Progress) -> None:
        """Say each group once."""
        if progress.group != self._group:
            self._group = progress.group
            where = f"[{progress.group_number}/{progress.group_count}] {progress.group}"
            self.line(f"{where}: about {duration_text(progress.left_s)} left")


class _Steps(_Watching):
    """A line for everything that is done."""

    def progress(self, progress: Progress) -> None:
        """Say what is done now."""
        where = f"[{progress.group_number}/{progress.group_count}] {progress.group} round {progress.rounds}"
        self.line(f"{progress.elapsed_s:8.1f} s  {where}: {progress.doing}")


class _Bar(_Watching):
    """A bar that says groups and rounds done, what runs now, and the time left."""

    def __enter__(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.fields[where]}", markup=False), BarColumn(bar_width=20),
            TextColumn("{task.fields[what]}", markup=False), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task("", total=1.0, where="starting", what="loading torch")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, progress: Progress) -> None:
        """Redraw the bar; its length is time, because rounds of different groups differ a hundredfold."""
        total = progress.elapsed_s + progress.left_s
        self._bar.update(
            self._task,
            completed=progress.elapsed_s / total if total else 0.0,
            where=f"group {progress.group_number}/{progress.group_count} {progress.group} "
            f"round {progress.rounds}/{progress.next_look}",
            what=f"{duration_text(progress.left_s)} left · {progress.doing}",
        )

    def line(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)
