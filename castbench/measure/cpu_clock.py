"""The clock of CPU windows: every step is over when it returns, so wall time is all there is."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter_ns

from torch import Tensor

from castbench.measure.clock import Step, WindowTimes
from castbench.records import STEP_TIMES_KEPT


class CpuClock:
    """perf_counter_ns around every step."""

    last_output: Tensor

    def configure(self, *, cold_cache: bool) -> None:
        """CPU windows are always warm: there is no portable way to empty the caches."""

    def settle(self, step: Step, seconds: float) -> int:
        """Untimed steps for so long, at least one, so that the caches hold this arm's data; none for 0 seconds."""
        if seconds <= 0:
            return 0
        until = perf_counter_ns() + seconds * 1e9
        done = 0
        while done == 0 or perf_counter_ns() < until:
            self.last_output = step(done)
            done += 1
        return done

    def time_window(self, step: Step, steps: int) -> WindowTimes:
        """Wall time of every step and of the whole window."""
        stamps = [perf_counter_ns()]
        for index in range(steps):
            self.last_output = step(index)
            stamps.append(perf_counter_ns())
        times = [(after - before) / 1e9 for before, after in pairwise(stamps)]
        return WindowTimes((stamps[-1] - stamps[0]) / 1e9, tuple(times[:STEP_TIMES_KEPT]))
