"""The clock of CPU windows: every step is over when it returns, so wall time is all there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter_ns
from typing import Protocol

import torch

from castbench.records import STEP_TIMES_KEPT

Step = Callable[[int], torch.Tensor]

SETTLE_SHARE = 0.25
"""Untimed part before a window, as a share of it."""


@dataclass(frozen=True, slots=True)
class WindowTimes:
    """What a clock read over one window, in seconds; see records.Sample."""

    elapsed_s: float
    step_times_s: tuple[float, ...]
    device_s: float | None = None
    host_launch_s: float | None = None


class Clock(Protocol):
    """How windows are timed on one kind of device; `last_output` is the last step's."""

    last_output: torch.Tensor

    def configure(self, *, cold_cache: bool) -> None:
        """Whether caches are emptied between steps."""

    def settle(self, step: Step, step_s: float, window_s: float) -> None:
        """Run untimed steps of about `step_s` each, so that a window of `window_s` begins in the arm's own state."""

    def time_window(self, step: Step, steps: int) -> WindowTimes:
        """Time steps 0 … steps-1 back to back."""


class CpuClock:
    """perf_counter_ns around every step."""

    last_output: torch.Tensor

    def configure(self, *, cold_cache: bool) -> None:
        """CPU windows are always warm: there is no portable way to empty the caches."""

    def settle(self, step: Step, step_s: float, window_s: float) -> None:
        """Untimed steps for a quarter of a window, at least one, so that the caches hold this arm's data.

        None where a step is as long as a window, because such a step settles itself.
        """
        if step_s >= window_s:
            return
        until = perf_counter_ns() + window_s * 1e9 * SETTLE_SHARE
        self.last_output = step(0)
        while perf_counter_ns() < until:
            self.last_output = step(0)

    def time_window(self, step: Step, steps: int) -> WindowTimes:
        """Wall time of every step and of the whole window."""
        stamps = [perf_counter_ns()]
        for index in range(steps):
            self.last_output = step(index)
            stamps.append(perf_counter_ns())
        times = [(after - before) / 1e9 for before, after in pairwise(stamps)]
        return WindowTimes((stamps[-1] - stamps[0]) / 1e9, tuple(times[:STEP_TIMES_KEPT]))
