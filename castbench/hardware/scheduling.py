"""How long this process's threads stood in the run queue, and how often they were pushed off a core: from Linux.

/proc/self/task/<thread>/schedstat: "time on a core  time waiting in the run queue  timeslices", nanoseconds
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from castbench.hardware.pseudo_files import text_of

SELF = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Counters since the process began: waiting by thread in nanoseconds (None: not known), and preemptions."""

    waited_ns: tuple[tuple[int, int], ...] | None
    preempted: int

    def waited_s_until(self, later: Scheduling) -> float | None:
        """Seconds all threads together waited between two readings; threads that ended in between are left out."""
        if self.waited_ns is None or later.waited_ns is None:
            return None
        before = dict(self.waited_ns)
        return sum(now - before.get(thread, 0) for thread, now in later.waited_ns) / 1e9


def read_scheduling(process: Path = SELF) -> Scheduling:
    """The counters of this process now."""
    return Scheduling(_waited_ns(process / "task"), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


def _waited_ns(tasks: Path) -> tuple[tuple[int, int], ...] | None:
    """Waiting time by thread; None where the kernel keeps no such statistics."""
    found = []
    for directory in tasks.glob("[0-9]*"):
        fields = (text_of(directory / "schedstat") or "").split()
        if len(fields) == 3:
            found.append((int(directory.name), int(fields[1])))
    return tuple(found) or None
