"""The one seam to CUDA: every call that measuring makes of it, as a protocol, and torch's answer to it.

CudaClock, graphed, memory ──▶ CudaRuntime ◀── TorchCuda (here, the real one) · a discrete-event fake (in the tests)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, Self

import torch


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """What does not change of a device; `l2_bytes` and `uuid` None: this torch does not say."""

    name: str
    uuid: str | None
    memory_bytes: int
    l2_bytes: int | None
    multiprocessors: int


@dataclass(frozen=True, slots=True)
class AllocatorStatistics:
    """The caching allocator now.

    allocated_bytes      in live tensors
    peak_bytes           largest `allocated_bytes` since `reset_peak`
    reserved_peak_bytes  most taken from the device since `reset_peak`, live or cached
    device_allocations   times it took memory from the device; None: this allocator does not count
    retries              times the device refused, so that it gave its cache back and asked again; None: not counted
    """

    allocated_bytes: int
    peak_bytes: int
    reserved_peak_bytes: int
    device_allocations: int | None
    retries: int | None


class Event(Protocol):
    """A mark in the device's queue that reads the device's clock when the device gets there."""

    def record(self) -> None:
        """Put the mark behind what was launched so far."""

    def seconds_until(self, end: Self) -> float:
        """Device time from this mark to another; both must have been reached."""


class Graph(Protocol):
    """Kernels captured once, to be launched together."""

    def replay(self) -> None:
        """Launch them, on the memory they were captured with."""


class CudaRuntime(Protocol):
    """The CUDA calls that measuring makes. `stream` and `buffer` are opaque; work goes to the current stream."""

    def select(self) -> None:
        """Make the device this process's current one: unbound work and events go there."""

    def now_s(self) -> float:
        """The host's clock."""

    def properties(self) -> DeviceProperties:
        """The device."""

    def synchronize(self) -> None:
        """Wait until everything launched is done."""

    def event(self) -> Event:
        """A fresh event."""

    def buffer(self, size_bytes: int) -> Any:
        """Memory on the device that nobody else uses."""

    def overwrite(self, buffer: Any) -> None:
        """Launch a write of the whole buffer."""

    def allocator(self) -> AllocatorStatistics:
        """The caching allocator's statistics now."""

    def reset_peak(self) -> None:
        """Let the peaks start again from what is allocated and reserved now."""

    def release_cached(self) -> None:
        """Give memory that no tensor uses back to the device."""

    def stream(self) -> Any:
        """A stream besides the current one."""

    def on(self, stream: Any) -> AbstractContextManager[None]:
        """Work inside goes to `stream`, after what was launched before; work after the block waits for it."""

    def capture(self, stream: Any) -> AbstractContextManager[Graph]:
        """Kernels launched inside are recorded on `stream` and not run.

        RuntimeError, inside or at its end, where something cannot be recorded; the process is then of no more use.
        """


class TorchCuda:
    """CUDA through torch.cuda. Making one touches no device: what fails, fails at a call."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def select(self) -> None:
        """torch.cuda.set_device."""
        torch.cuda.set_device(self._device)

    def now_s(self) -> float:
        """perf_counter, in seconds."""
        return perf_counter()

    def properties(self) -> DeviceProperties:
        """As torch.cuda.get_device_properties says."""
        found = torch.cuda.get_device_properties(self._device)
        uuid, l2_bytes = getattr(found, "uuid", None), getattr(found, "L2_cache_size", None)
        return DeviceProperties(
            found.name, f"GPU-{uuid}" if uuid else None, found.total_memory, l2_bytes or None,
            found.multi_processor_count,
        )  # fmt: skip

    def synchronize(self) -> None:
        """Wait for all streams of the device."""
        torch.cuda.synchronize(self._device)

    def event(self) -> TorchEvent:
        """An event that reads the clock."""
        return TorchEvent()

    def buffer(self, size_bytes: int) -> torch.Tensor:
        """A tensor of bytes."""
        return torch.empty(size_bytes, dtype=torch.uint8, device=self._device)

    def overwrite(self, buffer: torch.Tensor) -> None:
        """A memset of the tensor."""
        buffer.zero_()

    def allocator(self) -> AllocatorStatistics:
        """From torch.cuda.memory_stats; the asynchronous allocator of the driver counts no device allocations."""
        found = torch.cuda.memory_stats(self._device)
        counts = torch.cuda.get_allocator_backend() == "native"
        return AllocatorStatistics(
            found.get("allocated_bytes.all.current", 0), found.get("allocated_bytes.all.peak", 0),
            found.get("reserved_bytes.all.peak", 0),
            found.get("num_device_alloc") if counts else None, found.get("num_alloc_retries") if counts else None,
        )  # fmt: skip

    def reset_peak(self) -> None:
        """torch.cuda.reset_peak_memory_stats."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def release_cached(self) -> None:
        """torch.cuda.empty_cache."""
        torch.cuda.empty_cache()

    def stream(self) -> torch.cuda.Stream:
        """A stream of torch's pool."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    @contextmanager
    def on(self, stream: torch.cuda.Stream) -> Iterator[None]:
        """torch.cuda.stream, with the two streams waiting for each other at both ends."""
        outside = torch.cuda.current_stream(self._device)
        stream.wait_stream(outside)
        with torch.cuda.stream(stream):
            yield
        outside.wait_stream(stream)

    @contextmanager
    def capture(self, stream: torch.cuda.Stream) -> Iterator[TorchGraph]:
        """torch.cuda.graph; the current stream is put back even where capturing fails at its end."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(graph, stream=stream),
        ):
            yield TorchGraph(graph)


class TorchEvent:
    """A torch.cuda.Event that reads the clock."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here

    def record(self) -> None:
        """On the current stream."""
        self._event.record()

    def seconds_until(self, end: Self) -> float:
        """From torch's milliseconds."""
        elapsed_ms: float = self._event.elapsed_time(end._event)
        return elapsed_ms / 1e3


class TorchGraph:
    """A torch.cuda.CUDAGraph."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    def replay(self) -> None:
        """On the current stream."""
        self._graph.replay()
