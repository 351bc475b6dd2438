"""Who else uses the CPU: two readings of /proc/<pid>/stat, told apart from castbench's own processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from castbench.hardware.pseudo_files import text_of

NOTEWORTHY_SHARE = 0.05
"""Processes below this share of one core are not named: at two ticks in half a second they are noise."""
NAMED = 5
"""At most so many are named."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process and the cores it kept busy: 1.0 is one core."""

    name: str
    pid: int
    cpu_share: float


@dataclass(frozen=True, slots=True)
class ProcessTicks:
    """One reading: CPU time used so far and time of start, in clock ticks."""

    pid: int
    parent: int
    name: str
    used_ticks: int
    started_ticks: int


def parse_stat(text: str) -> ProcessTicks | None:
    """The text of /proc/<pid>/stat, man page proc_pid_stat(5); None where it is cut short.

    The name is in brackets and may itself hold spaces and brackets, so that the last closing one ends it.
    """
    head, closing, tail = text.rpartition(")")
    pid, opening, name = head.partition(" (")
    fields = tail.split()
    if not (closing and opening and pid.isdigit() and len(fields) >= 20):
        return None
    # `fields` starts with field 3 (state): 4 is ppid, 14 utime, 15 stime, 22 starttime.
    return ProcessTicks(int(pid), int(fields[1]), name, int(fields[11]) + int(fields[12]), int(fields[19]))


def snapshot(proc: Path) -> dict[int, ProcessTicks]:
    """Every process visible now, by pid; in a container only its own are visible."""
    texts = (text_of(directory / "stat") for directory in proc.glob("[0-9]*"))
    readings = (parse_stat(text) for text in texts if text is not None)
    return {reading.pid: reading for reading in readings if reading is not None}


def busiest_others(
    before: Mapping[int, ProcessTicks], after: Mapping[int, ProcessTicks], interval_ticks: float, own_pid: int
) -> tuple[Process, ...]:
    """The busiest processes between two snapshots, most first, without `own_pid` and its descendants."""
    own = _family(after, own_pid)
    shares = [
        Process(now.name, now.pid, _used_since(before.get(now.pid), now) / interval_ticks)
        for now in after.values()
        if now.pid not in own
    ]
    noteworthy = [process for process in shares if process.cpu_share >= NOTEWORTHY_SHARE]
    return tuple(sorted(noteworthy, key=lambda process: (-process.cpu_share, process.pid))[:NAMED])


def _used_since(before: ProcessTicks | None, now: ProcessTicks) -> int:
    """Ticks used since the first snapshot: all of them for a process that started later, its pid reused or not."""
    if before is None or before.started_ticks != now.started_ticks:
        return now.used_ticks
    return now.used_ticks - before.used_ticks


def _family(processes: Mapping[int, ProcessTicks], pid: int) -> set[int]:
    """A process and all its descendants."""
    family: set[int] = set()
    joining = {pid}
    while joining:
        family |= joining
        joining = {p.pid for p in processes.values() if p.parent in family} - family
    return family
