"""A made-up GPU whose true power, clocks and company are known, read through meters as flawed as real ones.

truth    set_power(w) · episodes of slowdown · others that come and go        on a virtual clock
meters   a counter that steps, jumps back or stands still · power as averaged or as seen a quarter of the time
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from castbench.errors import HardwareError
from castbench.hardware.gpu import GpuProcess, GpuReading, SlowdownCause, SlowdownCounters
from castbench.records import GpuFacts


class VirtualClock:
    """A clock that stands still until it is told to go on; steady calls come exactly when they are due."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._tickings: list[_VirtualTicking] = []

    def now_s(self) -> float:
        """Seconds since the clock was made."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Go on by that long, making the steady calls on the way."""
        end_s = self._now_s + max(0.0, seconds)
        while (first := min(self._tickings, key=lambda t: t.due_s, default=None)) and first.due_s <= end_s:
            self._now_s = max(self._now_s, first.due_s)
            first.tick()
        self._now_s = end_s

    def every(self, period_s: float, call: Callable[[], None]) -> _VirtualTicking:
        """Call at a steady period, beginning one period from now."""
        ticking = _VirtualTicking(self._tickings, self._now_s, period_s, call)
        self._tickings.append(ticking)
        return ticking


class _VirtualTicking:
    """One steady call of a virtual clock."""

    def __init__(
        self, register: list[_VirtualTicking], now_s: float, period_s: float, call: Callable[[], None]
    ) -> None:
        self._register, self._call = register, call
        self._origin_s, self._period_s, self._calls = now_s, period_s, 1
        self.due_s = now_s + period_s

    def tick(self) -> None:
        """Make the call that is due; due times are multiples, not sums, so that they do not drift."""
        self._calls += 1
        self.due_s = self._origin_s + self._calls * self._period_s
        self._call()

    def stop(self) -> None:
        """No more calls."""
        if self in self._register:
            self._register.remove(self)

    def cpu_s(self) -> float | None:
        """A virtual clock has no processor."""
        return None


@dataclass(frozen=True, slots=True)
class Episode:
    """A slowdown for a stretch of time."""

    cause: SlowdownCause
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Visitor:
    """A process on the GPU for a stretch of time."""

    process: GpuProcess
    came_s: float
    left_s: float = float("inf")


@dataclass(slots=True)
class FakeGpu:
    """A GpuMeter over a scripted truth; the script may be changed while time goes on.

    counter_period_s    the energy counter shows what was used up to the last multiple of this; 0: up to now
    counter_resets_s    when every counter starts again from zero (the driver is loaded anew)
    counted             False: there is no energy counter
    power_window_s      power is averaged over the last so many seconds; 0: as it is now
    power_sampled       power is refreshed every so many seconds with the mean of the first so many of them, such
                        as (0.1, 0.025) for sampling a quarter of the time; in place of power_window_s
    powered             False: there is no power reading
    missed              numbers of the energy readings (from 0) that fail, alone
    lost_s              from when on the GPU does not answer
    slowdowns_counted   causes that have a counter; None: this driver has no counters
    """

    clock: VirtualClock
    facts: GpuFacts = field(default_factory=lambda: GpuFacts(0, "GPU-fake", "Fake GPU", energy_scope="gpu"))
    counter_period_s: float = 0.0
    counter_resets_s: Sequence[float] = ()
    counted: bool = True
    power_window_s: float = 0.0
    power_sampled: tuple[float, float] | None = None
    powered: bool = True
    missed: frozenset[int] = frozenset()
    lost_s: float = float("inf")
    episodes: Sequence[Episode] = ()
    slowdowns_counted: frozenset[SlowdownCause] | None = frozenset(SlowdownCause)
    visitors: Sequence[Visitor] | None = ()
    sm_clock_hz: float | None = 1.4e9
    temperature_c: float | None = 60.0
    used_bytes: int | None = 0
    _since_s: list[float] = field(default_factory=lambda: [0.0], init=False)
    _watts: list[float] = field(default_factory=lambda: [0.0], init=False)
    _joules: list[float] = field(default_factory=lambda: [0.0], init=False)
    _energy_readings: int = field(default=0, init=False)

    def set_power(self, watts: float) -> None:
        """The true power from now on."""
        now_s = self.clock.now_s()
        self._joules.append(self.true_energy_j(now_s))
        self._since_s.append(now_s)
        self._watts.append(watts)

    def true_energy_j(self, at_s: float) -> float:
        """What was really used up to then."""
        last = bisect_right(self._since_s, at_s) - 1
        return self._joules[last] + self._watts[last] * (at_s - self._since_s[last])

    def read(self, *, whole: bool = True) -> GpuReading:
        """Everything, now, or the SM clock alone."""
        now_s = self._answer()
        if not whole:
            return GpuReading(now_s, sm_clock_hz=self.sm_clock_hz)
        slowed = frozenset(e.cause for e in self.episodes if e.began_s <= now_s < e.ended_s)
        return GpuReading(
            now_s, sm_clock_hz=self.sm_clock_hz, slowdowns=slowed, temperature_c=self.temperature_c,
            power_w=self.power_w(), utilization=1.0, memory_used_bytes=self.used_bytes,
        )  # fmt: skip

    def power_w(self) -> float | None:
        """Power as the flawed meter gives it."""
        now_s = self._answer()
        if not self.powered:
            return None
        if self.power_sampled is not None:
            every_s, seen_s = self.power_sampled
            began_s = max(0.0, ((now_s - seen_s) // every_s) * every_s)
            return self._mean_w(began_s, began_s + seen_s)
        if self.power_window_s and now_s > 0:
            return self._mean_w(max(0.0, now_s - self.power_window_s), now_s)
        return self._watts[-1]

    def energy_j(self) -> float | None:
        """The counter as it steps."""
        now_s = self._answer()
        self._energy_readings += 1
        if not self.counted or self._energy_readings - 1 in self.missed:
            return None
        period_s = self.counter_period_s
        shown_s = (now_s + 1e-9) // period_s * period_s if period_s else now_s
        reset_s = max((r for r in self.counter_resets_s if r <= shown_s), default=None)
        return self.true_energy_j(shown_s) - (0.0 if reset_s is None else self.true_energy_j(reset_s))

    def slowdown_counters(self) -> SlowdownCounters | None:
        """Seconds of each counted cause so far."""
        now_s = self._answer()
        if self.slowdowns_counted is None:
            return None
        spent = dict.fromkeys(sorted(self.slowdowns_counted), 0.0)
        reset_s = max((r for r in self.counter_resets_s if r <= now_s), default=0.0)
        for episode in self.episodes:
            if episode.cause in spent:
                spent[episode.cause] += max(0.0, min(now_s, episode.ended_s) - max(reset_s, episode.began_s))
        return SlowdownCounters("field-values", tuple(spent.items()))

    def memory_used_bytes(self) -> int | None:
        """Memory in use."""
        self._answer()
        return self.used_bytes

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Who is here now."""
        now_s = self._answer()
        if self.visitors is None:
            return None
        return tuple(v.process for v in self.visitors if v.came_s <= now_s < v.left_s)

    def close(self) -> None:
        """Nothing to let go of."""

    def _answer(self) -> float:
        """Now; HardwareError once the GPU is lost."""
        if self.clock.now_s() >= self.lost_s:
            raise HardwareError("the GPU is lost: it does not answer any more")
        return self.clock.now_s()

    def _mean_w(self, began_s: float, ended_s: float) -> float:
        return (self.true_energy_j(ended_s) - self.true_energy_j(began_s)) / (ended_s - began_s)
