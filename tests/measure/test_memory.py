from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from castbench.measure import memory
from tests.measure.fake_cuda import MIB, FakeCuda

CUDA = torch.device("cuda:0")


def test_the_peak_of_a_step_is_above_what_was_held_before_it() -> None:
    """Two activations at once are counted, an earlier higher peak, the weights and a cache left over are not."""
    fake = FakeCuda()
    fake.free(fake.allocate(500 * MIB))
    fake.allocate(30 * MIB)

    def step(index: int) -> torch.Tensor:
        first, second = fake.allocate(7 * MIB), fake.allocate(5 * MIB)
        fake.free(first)
        fake.free(second)
        fake.free(fake.allocate(11 * MIB))
        return torch.zeros(1)

    module = nn.Linear(16, 4)
    module.register_buffer("table", torch.zeros(8, dtype=torch.float64))
    reading = memory.measure(module, step, CUDA, fake)
    assert reading.peak_bytes == 12 * MIB
    assert reading.reserved_bytes == (30 + 7 + 5 + 11) * MIB
    assert reading.weights_bytes == (16 * 4 + 4) * 4 + 8 * 8


def test_peaks_are_reset_before_the_step_and_read_when_it_is_done() -> None:
    """Order of calls: wait, cache given back, peaks reset, look, step, wait, look."""
    fake = FakeCuda()

    def step(index: int) -> torch.Tensor:
        fake.launch(1e-3)
        return torch.zeros(1)

    memory.measure(nn.Identity(), step, CUDA, fake)
    assert fake.calls == [
        "select", "synchronize", "release-cached", "reset-peak", "allocator", "launch", "synchronize", "allocator",
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak that can be reset")
def test_a_cpu_has_a_peak_and_nothing_reserved() -> None:
    """On the CPU the peak grows by what the step held; there is no caching allocator to ask."""

    def step(index: int) -> torch.Tensor:
        held = torch.ones(48 * MIB, dtype=torch.uint8)
        return held[:1].clone()

    reading = memory.measure(nn.Identity(), step, torch.device("cpu"))
    assert reading.reserved_bytes is None
    assert reading.peak_bytes is not None
    assert 40 * MIB < reading.peak_bytes < 64 * MIB
