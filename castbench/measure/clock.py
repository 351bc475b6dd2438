"""What a worker asks of a clock, whatever the device: settle an arm, then time a window of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Step = Callable[[int], Tensor]
"""`step(i)` runs the i-th step of an arm and returns its output."""


@dataclass(frozen=True, slots=True)
class WindowTimes:
    """What a clock read over one window, in seconds; see records.Sample.

    host_launch_s   host time to launch the window's steps onto an empty queue, without what is hidden behind the
                    device's work outside the steps; None where launches are the work
    invalid_reason  why the window must not be used; None for one that may
    """

    elapsed_s: float
    step_times_s: tuple[float, ...]
    device_s: float | None = None
    host_launch_s: float | None = None
    invalid_reason: str | None = None


class Clock(Protocol):
    """How windows are timed on one kind of device; `last_output` is the last step's."""

    last_output: Tensor

    def configure(self, *, cold_cache: bool) -> None:
        """Whether caches are emptied between steps."""

    def settle(self, step: Step, seconds: float) -> int:
        """Run steps for so long, at least one (none for 0), so that a window begins in the arm's own state.

        Returns how many ran; all of them are done.
        """

    def time_window(self, step: Step, steps: int) -> WindowTimes:
        """Time steps 0 … steps-1 back to back."""
