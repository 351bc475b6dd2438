"""Peak memory of one step in a fresh process, weights apart from activations.

CUDA: the caching allocator's own peak. CPU: growth of the peak resident set, which Linux lets a process reset.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from castbench.measure.cuda import CudaRuntime, TorchCuda
from castbench.measure.rig import MemoryReading

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK_RSS = "5"


def measure(
    module: nn.Module, step: Callable[[int], torch.Tensor], device: torch.device, runtime: CudaRuntime | None = None
) -> MemoryReading:
    """Peak of the first step above what the process held before it; `runtime` is torch's on a CUDA device."""
    weights = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if device.type == "cuda":
        return _measure_on_device(step, weights, runtime or TorchCuda(device))
    load_libraries()
    before = _reset_peak_rss()
    step(0)
    return MemoryReading(max(0, _peak_rss() - before), weights)


def release(device: torch.device) -> None:
    """Free what nothing refers to any more: on CUDA the allocator's cache goes back to the device."""
    gc.collect()
    if device.type == "cuda":
        TorchCuda(device).release_cached()


def _measure_on_device(step: Callable[[int], torch.Tensor], weights: int, runtime: CudaRuntime) -> MemoryReading:
    """The caching allocator's peaks. What building left in its cache is given back first: it is not the step's."""
    runtime.select()
    runtime.synchronize()
    runtime.release_cached()
    runtime.reset_peak()
    before = runtime.allocator()
    step(0)
    runtime.synchronize()
    after = runtime.allocator()
    return MemoryReading(after.peak_bytes - before.allocated_bytes, weights, after.reserved_peak_bytes)


def load_libraries() -> None:
    """Touch what torch loads lazily (thread pool, oneDNN, BLAS), so that it does not count as the step's."""
    small = torch.randn(2, 2, 64, 16)
    torch.nn.functional.scaled_dot_product_attention(small, small, small)
    torch.nn.functional.gelu(small.reshape(256, 16) @ small.reshape(16, 256))


def _reset_peak_rss() -> int:
    """Set the peak back to the resident set of now, and return that; without that file, the peak so far."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK_RSS)
        return _status_bytes("VmRSS")
    except OSError:
        return _peak_rss()


def _peak_rss() -> int:
    """Peak resident set in bytes."""
    if _STATUS.exists():
        return _status_bytes("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status_bytes(field: str) -> int:
    """A kB field of /proc/self/status in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {field}")
