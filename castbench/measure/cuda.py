"""The one seam to CUDA's clocks and memory statistics: events, synchronisation, cache flush.

settle ≥ 0.3 s ─▶ [event step event] × steps ─▶ one synchronise ─▶ [step synchronise] × a few
                  throughput, device time                          latency as one request feels it
"""

from __future__ import annotations

from time import perf_counter

import torch

from castbench.measure.cpu_clock import Step, WindowTimes
from castbench.records import STEP_TIMES_KEPT

SETTLE_S = 0.3
"""Untimed work before every window, so that the clock governor has reacted to this arm and not to the last one."""
LATENCY_STEPS = 16
"""Steps per window that are synchronised one by one."""
_MIN_L2_BYTES = 32 * 1024**2


class CudaClock:
    """Event pairs around every step, all recorded, one synchronise at the end of the window."""

    last_output: torch.Tensor

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flush: torch.Tensor | None = None

    def configure(self, *, cold_cache: bool) -> None:
        """With `cold_cache`, a buffer of twice the L2 is written between steps, outside the event pairs."""
        if cold_cache:
            l2_bytes = getattr(torch.cuda.get_device_properties(self._device), "L2_cache_size", 0)
            size = 2 * max(l2_bytes, _MIN_L2_BYTES)
            self._flush = torch.empty(size, dtype=torch.int8, device=self._device)

    def settle(self, step: Step, step_s: float, window_s: float) -> None:  # noqa: ARG002 - the clock's signature
        """Run the arm untimed for at least SETTLE_S, however short its steps are."""
        until = perf_counter() + max(SETTLE_S, window_s)
        while perf_counter() < until:
            self.last_output = step(0)
            torch.cuda.synchronize(self._device)

    def time_window(self, step: Step, steps: int) -> WindowTimes:
        """Both clocks of a window. With a cold cache the elapsed time is the device's, since the flush is not work."""
        starts = [_event() for _ in range(steps)]
        ends = [_event() for _ in range(steps)]
        torch.cuda.synchronize(self._device)
        began = perf_counter()
        for index in range(steps):
            if self._flush is not None:
                self._flush.zero_()
            starts[index].record()
            self.last_output = step(index)
            ends[index].record()
        launched = perf_counter()
        torch.cuda.synchronize(self._device)
        elapsed_s = perf_counter() - began
        device_s = sum(start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)) / 1e3
        return WindowTimes(
            device_s if self._flush is not None else elapsed_s,
            self._latencies(step, min(steps, LATENCY_STEPS, STEP_TIMES_KEPT)),
            device_s=device_s, host_launch_s=launched - began,
        )  # fmt: skip

    def _latencies(self, step: Step, steps: int) -> tuple[float, ...]:
        """Wall time of single steps, each waited for."""
        times = []
        for index in range(steps):
            began = perf_counter()
            self.last_output = step(index)
            torch.cuda.synchronize(self._device)
            times.append(perf_counter() - began)
        return tuple(times)


def _event() -> torch.cuda.Event:
    """An event that reads the device's clock."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here


def reset_peak(device: torch.device) -> int:
    """Forget the peak so far; returns the bytes allocated now."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_bytes(device: torch.device) -> int:
    """Largest number of bytes allocated since `reset_peak`."""
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
