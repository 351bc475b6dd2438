"""The clock of CUDA windows: device time by events, wall time with one synchronise, latency step by step.

settle ─▶ sync ─▶ [flush │event step event│] × steps ─▶ sync ─▶ (flush sync │step sync│) × up to 16
                  device time, throughput                        latency as one request feels it, time to launch
flush: only with a cold cache, outside the events and the latencies
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

from torch import Tensor

from castbench.measure.clock import Step, WindowTimes
from castbench.measure.cuda import AllocatorStatistics, CudaRuntime, Event
from castbench.records import STEP_TIMES_KEPT

LATENCY_STEPS = 16
"""Steps per window that are synchronised one by one."""
SETTLE_CHUNK_S = 0.05
"""While an arm settles the host waits for the device about so often: steps may be launched faster than they run."""
LARGEST_L2_BYTES = 128 * 1024**2
"""At least the L2 of any GPU so far; taken where torch does not say."""
_SHORTEST_STEP_S = 1e-6
_FRAMES = 32
"""Empty steps that calibrate what the clock's own calls cost; the median leaves out what happens only once."""


class CudaClock:
    """Event pairs around every step, all recorded, one synchronise at the end of the window."""

    last_output: Tensor

    def __init__(self, runtime: CudaRuntime) -> None:
        self._runtime = runtime
        self._flush_buffer: Any = None
        self._pairs: list[tuple[Event, Event]] = []
        self._frame_s: float | None = None

    def configure(self, *, cold_cache: bool) -> None:
        """With `cold_cache`, a buffer of twice the L2 is written between steps, outside the event pairs."""
        self._runtime.select()
        l2_bytes = self._runtime.properties().l2_bytes or LARGEST_L2_BYTES
        self._flush_buffer = self._runtime.buffer(2 * l2_bytes) if cold_cache else None
        self._frame_s = None

    def settle(self, step: Step, seconds: float) -> int:
        """Steps back to back in the window's own rhythm, the flush included; at least one, none for 0 seconds."""
        began, done, together = self._runtime.now_s(), 0, 1
        while seconds > 0:
            chunk_began = self._runtime.now_s()
            for index in range(done, done + together):
                self._flush()
                self.last_output = step(index)
            self._runtime.synchronize()
            now = self._runtime.now_s()
            done += together
            left_s = seconds - (now - began)
            if left_s <= 0:
                break
            one_step_s = max((now - chunk_began) / together, _SHORTEST_STEP_S)
            together = max(1, round(min(SETTLE_CHUNK_S, left_s) / one_step_s))
        return done

    def time_window(self, step: Step, steps: int) -> WindowTimes:
        """Both clocks of a window. With a cold cache the elapsed time is the device's, since the flush is not work."""
        runtime, pairs, frame_s = self._runtime, self._pairs_for(steps), self._calibrated_frame_s()
        before = runtime.allocator()
        runtime.synchronize()
        began = runtime.now_s()
        for index, (start, end) in enumerate(pairs):
            self._flush()
            start.record()
            self.last_output = step(index)
            end.record()
        runtime.synchronize()
        wall_s = runtime.now_s() - began
        device_s = sum(start.seconds_until(end) for start, end in pairs)
        latencies, launch_s = self._single_steps(step, min(steps, LATENCY_STEPS, STEP_TIMES_KEPT))
        elapsed_s = wall_s if self._flush_buffer is None else device_s
        return WindowTimes(
            elapsed_s, latencies, device_s=device_s,
            host_launch_s=max(0.0, steps * (launch_s + frame_s) - (wall_s - elapsed_s)),
            invalid_reason=allocation_fault(before, runtime.allocator()),
        )  # fmt: skip

    def _single_steps(self, step: Step, steps: int) -> tuple[tuple[float, ...], float]:
        """Wall time of single steps, each waited for, and the median host time to launch one onto an empty queue."""
        latencies, launches = [], []
        for index in range(steps):
            self._flush()
            if self._flush_buffer is not None:
                self._runtime.synchronize()
            began = self._runtime.now_s()
            self.last_output = step(index)
            launched = self._runtime.now_s()
            self._runtime.synchronize()
            latencies.append(self._runtime.now_s() - began)
            launches.append(launched - began)
        return tuple(latencies), median(launches)

    def _calibrated_frame_s(self) -> float:
        """Host time of the clock's own calls around one step, onto an empty queue."""
        if self._frame_s is None:
            start, end = self._pairs_for(1)[0]
            self._runtime.synchronize()
            stamps = [self._runtime.now_s()]
            for _ in range(_FRAMES):
                self._flush()
                start.record()
                end.record()
                stamps.append(self._runtime.now_s())
            self._frame_s = median(after - before for before, after in pairwise(stamps))
        return self._frame_s

    def _pairs_for(self, steps: int) -> list[tuple[Event, Event]]:
        """That many event pairs, recorded anew in every window; the driver makes an event when it is first recorded,
        which no window should pay for.
        """
        for _ in range(steps - len(self._pairs)):
            start, end = self._runtime.event(), self._runtime.event()
            start.record()
            end.record()
            self._pairs.append((start, end))
        return self._pairs[:steps]

    def _flush(self) -> None:
        """Write the flush buffer, if caches are to be cold."""
        if self._flush_buffer is not None:
            self._runtime.overwrite(self._flush_buffer)


def allocation_fault(before: AllocatorStatistics, after: AllocatorStatistics) -> str | None:
    """What the allocator did between two looks that no window may hold; None where that is nothing, or not counted."""
    if retries := _growth(before.retries, after.retries):
        return f"the device ran out of memory within the window: the allocator gave its cache back ({retries}×)"
    if taken := _growth(before.device_allocations, after.device_allocations):
        return f"the allocator took memory from the device within the window ({taken}×)"
    return None


def _growth(before: int | None, after: int | None) -> int:
    """How far a counter went on; 0 where there is none."""
    return 0 if before is None or after is None else after - before
