"""A discrete-event CUDA device whose true times are known: the runtime's calls move a host clock and a device clock.

host    ─launch─launch─launch─┤ queue full: waits ├─launch─synchronize ········┤
device       └latency┴─kernel─┴─kernel─┴──────────kernel───────────────────────┘   governor: busy time costs clock speed
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from castbench.measure.cuda import AllocatorStatistics, DeviceProperties

MIB = 1024**2
_FOREVER_S = 1e9


@dataclass(frozen=True)
class Machine:
    """What the fake is like. launch_s, record_s: host time per call (first_record_s: more for an
    event's first). latency_s: from a launch to its earliest start.

    Clock: a kernel of power p pulls the heat towards p with time constant governor_s (idling: towards 0), and the
    clock runs at 1 - droop * heat of its best. Memory: device_alloc_s is what asking the device for memory costs.
    """

    launch_s: float = 5e-6
    record_s: float = 1e-6
    first_record_s: float = 4e-6
    latency_s: float = 3e-6
    synchronize_s: float = 2e-6
    queue: int = 1024
    governor_s: float = 0.04
    droop: float = 0.0
    memory_bytes: int = 1024 * MIB
    device_alloc_s: float = 1e-3
    l2_bytes: int | None = 50 * MIB
    overwrite_s: float = 40e-6


@dataclass
class Block:
    """Memory handed out by the fake's allocator."""

    size_bytes: int


@dataclass
class FakeEvent:
    """A mark; `at_s` on the device's clock, None until it is recorded."""

    runtime: FakeCuda
    at_s: float | None = None

    def record(self) -> None:
        self.runtime.log("record")
        machine = self.runtime.machine
        first_s = machine.first_record_s if self.at_s is None else 0.0
        self.at_s = self.runtime.enqueue(0.0, 0.0, machine.record_s + first_s)

    def seconds_until(self, end: FakeEvent) -> float:
        assert self.at_s is not None
        assert end.at_s is not None
        for event in (self, end):
            if event.at_s > self.runtime.waited_until_s:  # type: ignore[operator]
                raise RuntimeError("device not ready")  # as torch says of an event that was not reached
        return end.at_s - self.at_s


@dataclass
class FakeGraph:
    """Recorded kernels."""

    runtime: FakeCuda
    kernels: list[tuple[float, float, Callable[[], object] | None]] = field(default_factory=list)

    def replay(self) -> None:
        self.runtime.log("replay")
        host_s = self.runtime.machine.launch_s
        for seconds, power, effect in self.kernels:
            self.runtime.enqueue(seconds, power, host_s)
            host_s = 0.0
            if effect is not None:
                effect()


class FakeCuda:
    """A CudaRuntime; `calls` is the order of calls, `busy_s` the device's true working time so far."""

    def __init__(self, machine: Machine | None = None) -> None:
        self.machine = machine or Machine()
        self.calls: list[str] = []
        self.host_s = self.free_at_s = self.busy_s = self.waited_until_s = 0.0
        self.heat = 0.0
        self._queue: deque[float] = deque()
        self._recording: FakeGraph | None = None
        self._broken = False
        self._cached: list[int] = []
        self._live = self._reserved = self._peak = self._reserved_peak = 0
        self._device_allocations = self._retries = 0

    def log(self, call: str) -> None:
        """Note a call."""
        self.calls.append(call)

    # what steps do

    def launch(self, seconds: float, power: float = 1.0, effect: Callable[[], object] | None = None) -> None:
        """A kernel that takes so long at the best clock; `effect` is what it computes."""
        self.log("launch")
        if self._recording is not None:
            self._recording.kernels.append((seconds, power, effect))
            return
        self.enqueue(seconds, power, self.machine.launch_s)
        if effect is not None:
            effect()

    def allocate(self, size_bytes: int) -> Block:
        """Memory from the cache if a block of that size is there, else from the device, else after a retry."""
        if size_bytes in self._cached:
            self._cached.remove(size_bytes)
        else:
            if self._reserved + size_bytes > self.machine.memory_bytes:
                self._retries += 1
                self.release_cached()
            if self._reserved + size_bytes > self.machine.memory_bytes:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.host_s += self.machine.device_alloc_s
            self._device_allocations += 1
            self._reserved += size_bytes
        self._live += size_bytes
        self._peak, self._reserved_peak = max(self._peak, self._live), max(self._reserved_peak, self._reserved)
        return Block(size_bytes)

    def free(self, block: Block) -> None:
        """Back into the cache."""
        self._live -= block.size_bytes
        self._cached.append(block.size_bytes)

    def break_capture(self) -> None:
        """Make the capture under way one that cannot end well."""
        self._broken = True

    # the runtime

    def select(self) -> None:
        self.log("select")

    def now_s(self) -> float:
        return self.host_s

    def properties(self) -> DeviceProperties:
        return DeviceProperties("Fake GPU", "GPU-fake", self.machine.memory_bytes, self.machine.l2_bytes, 1)

    def synchronize(self) -> None:
        self.log("synchronize")
        if self._recording is not None:
            self.break_capture()
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
        self.host_s = self.waited_until_s = max(self.host_s, self.free_at_s) + self.machine.synchronize_s

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def buffer(self, size_bytes: int) -> Block:
        self.log("buffer")
        return self.allocate(size_bytes)

    def overwrite(self, buffer: Block) -> None:
        self.log("overwrite")
        self.enqueue(self.machine.overwrite_s, 0.0, self.machine.launch_s)

    def allocator(self) -> AllocatorStatistics:
        self.log("allocator")
        return AllocatorStatistics(
            self._live, self._peak, self._reserved_peak, self._device_allocations, self._retries
        )  # fmt: skip

    def reset_peak(self) -> None:
        self.log("reset-peak")
        self._peak, self._reserved_peak = self._live, self._reserved

    def release_cached(self) -> None:
        self.log("release-cached")
        self._reserved -= sum(self._cached)
        self._cached.clear()

    def stream(self) -> str:
        return "side"

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        self.log(f"on-{stream}")
        yield
        self.log(f"off-{stream}")

    @contextmanager
    def capture(self, stream: str) -> Iterator[FakeGraph]:
        self.log(f"capture-{stream}")
        self._recording, self._broken = FakeGraph(self), False
        try:
            yield self._recording
        finally:
            self._recording = None
            self.log("captured")
            if self._broken:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    # the device

    def enqueue(self, seconds: float, power: float, host_s: float) -> float:
        """Put work behind all other work; returns when it ends."""
        self.host_s += host_s
        while self._queue and self._queue[0] <= self.host_s:
            self._queue.popleft()
        if len(self._queue) >= self.machine.queue:
            self.host_s = self._queue.popleft()
        start_s = max(self.free_at_s, self.host_s + self.machine.latency_s)
        self._drift(0.0, start_s - self.free_at_s)
        took_s = seconds / (1 - self.machine.droop * self.heat)
        self._drift(power, took_s)
        self.busy_s += took_s
        self.free_at_s = start_s + took_s
        self._queue.append(self.free_at_s)
        return self.free_at_s

    def _drift(self, towards: float, seconds: float) -> None:
        """The heat after so long at a constant power."""
        self.heat = towards + (self.heat - towards) * math.exp(-min(seconds, _FOREVER_S) / self.machine.governor_s)
