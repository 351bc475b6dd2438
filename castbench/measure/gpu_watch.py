"""What a GPU did during a window, and whether something from outside spoilt it.

mark() ── settling, window in the worker ── between(mark, began_s, ended_s)
  └ slowdown counters, processes ──────────────────┘ their difference, and the sampler's looks in between
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from castbench.hardware.gpu import OUTSIDE_CAUSES, GpuMeter, GpuReading, SlowdownCause, SlowdownCounters
from castbench.measure.sampler import Sampler
from castbench.records import WindowState

WHOLE_EVERY = 10
"""One look in so many reads everything: every 200 ms at the usual period."""


class Looks:
    """Looks at a GPU for a sampler: the SM clock every time, everything now and then.

    A look costs processor time beside the measured work. Power (which drivers renew every 20 to 100 ms), temperature,
    memory and the driver's averaged utilisation do not change within tens of milliseconds, and slowdowns are counted
    by the driver between two marks.
    """

    def __init__(self, meter: GpuMeter) -> None:
        self._meter, self._taken = meter, 0

    def __call__(self) -> GpuReading:
        """One look."""
        reading = self._meter.read(whole=self._taken % WHOLE_EVERY == 0)
        self._taken += 1
        return reading


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a window began: the counters and the processes as they were."""

    at_s: float
    counters: SlowdownCounters | None
    pids: frozenset[int] | None


class GpuWatch:
    """Watches one GPU over many windows.

    Which process is ours is learnt by what appears when our worker makes its CUDA context: the driver may give
    process ids of another namespace than ours, so that os.getpid() says nothing. Where several appear at once, none
    is known to be ours and all count as others; where none appears, the driver hides processes from us, and who
    else is there is not known.
    """

    def __init__(self, meter: GpuMeter, sampler: Sampler[GpuReading]) -> None:
        self._meter, self._sampler = meter, sampler
        self._before_worker = self._pids()
        self._ours: frozenset[int] = frozenset()
        self._sees_us = False

    def worker_starting(self) -> None:
        """To be called before a worker makes its CUDA context, and after the last one has ended."""
        self._before_worker = self._pids()
        self._ours &= self._before_worker or frozenset()

    def worker_started(self) -> None:
        """To be called once the worker has its CUDA context: who is new since worker_starting is ours."""
        now = self._pids()
        new = (now or frozenset()) - (self._before_worker or frozenset())
        self._sees_us = bool(new)
        if len(new) == 1:
            self._ours |= new

    def mark(self) -> Mark:
        """To be called just before a window; HardwareError where the GPU is lost."""
        return Mark(self._sampler.now_s(), self._meter.slowdown_counters(), self._pids())

    def between(self, before: Mark, began_s: float, ended_s: float) -> tuple[WindowState, str | None]:
        """What happened in [began_s, ended_s] of time.monotonic(), and why the window must be discarded, if it must.

        Slowdown counters and processes are compared over the whole time since the mark. A process that came and
        went within the window is not seen. Raises HardwareError where the GPU is lost.
        """
        after = self.mark()
        looks = self._sampler.readings_between(began_s, ended_s)
        slowed, slowed_share = _slowed(before, after, self._sampler.readings_between(before.at_s, after.at_s))
        state = WindowState(
            readings=len(looks),
            sm_clock_mean_hz=_mean([x.sm_clock_hz for x in looks]),
            sm_clock_min_hz=min(_known([x.sm_clock_hz for x in looks]), default=None),
            temperature_max_c=max(_known([x.temperature_c for x in looks]), default=None),
            power_mean_w=_mean([x.power_w for x in looks]),
            utilization_mean=_mean([x.utilization for x in looks]),
            memory_used_max_bytes=max((x.memory_used_bytes for x in looks if x.memory_used_bytes is not None),
                                      default=None),
            slowed_s=None if slowed is None else tuple((c.value, s) for c, s in slowed.items() if s > 0),
            slowed_share=slowed_share,
            clocks_held_share=_mean([None if x.clocks_held is None else float(x.clocks_held) for x in looks]),
            foreign=self._foreign(before, after),
        )  # fmt: skip
        return state, self._outside_reason(before, after, slowed or {})

    def _foreign(self, before: Mark, after: Mark) -> tuple[int, ...] | None:
        """Others on the GPU at either end; None where that is not known."""
        if before.pids is None or after.pids is None:
            return None
        others = (before.pids | after.pids) - self._ours
        return tuple(sorted(others)) if others or self._sees_us else None

    def _outside_reason(self, before: Mark, after: Mark, slowed: dict[SlowdownCause, float]) -> str | None:
        """Why the window's times are not the arm's own; None where they are."""
        came = (after.pids or frozenset()) - before.pids - self._ours if before.pids is not None else frozenset()
        if came:
            named = ", ".join(str(pid) for pid in sorted(came))
            return f"another process (pid {named}) appeared on the GPU"
        for cause in sorted(OUTSIDE_CAUSES):
            if slowed.get(cause, 0.0) > 0:
                return f"the GPU was slowed from outside ({cause.value}) for {slowed[cause]:.3f} s"
        return None

    def _pids(self) -> frozenset[int] | None:
        processes = self._meter.processes()
        return None if processes is None else frozenset(process.pid for process in processes)


def _slowed(
    before: Mark, after: Mark, looks: Sequence[GpuReading]
) -> tuple[dict[SlowdownCause, float] | None, float | None]:
    """Seconds by cause, and the share of the watched time that the GPU was slowed at all; None where not known.

    A cause without a counter is given the share of the looks that name it. With counters the share is the sum over
    causes, at most 1, since two at once cannot be told apart; without, the share of looks that name any.
    """
    by_counter, watched_s = _counted(before.counters, after.counters), after.at_s - before.at_s
    told = [look.slowdowns for look in looks if look.slowdowns is not None]
    if watched_s <= 0 or not (by_counter or told):
        return None, None
    by_looks = {c: watched_s * sum(c in slow for slow in told) / len(told) for c in SlowdownCause} if told else {}
    slowed = by_looks | by_counter
    share = sum(slowed.values()) / watched_s if by_counter else sum(bool(slow) for slow in told) / len(told)
    return slowed, min(1.0, share)


def _counted(before: SlowdownCounters | None, after: SlowdownCounters | None) -> dict[SlowdownCause, float]:
    """Differences of the counters that both marks have; a counter that went back (driver loaded anew) says nothing."""
    if before is None or after is None or before.source != after.source:
        return {}
    began = dict(before.seconds)
    spent = {cause: now - began[cause] for cause, now in after.seconds if cause in began}
    return {cause: seconds for cause, seconds in spent.items() if seconds >= 0}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return fmean(known) if known else None
