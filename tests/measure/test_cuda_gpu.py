from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from castbench.encoder.inputs import Batch
from castbench.hardware.launches import is_launch_bound
from castbench.measure import memory
from castbench.measure.clock import WindowTimes
from castbench.measure.cuda import TorchCuda
from castbench.measure.cuda_clock import CudaClock
from castbench.measure.cuda_graph import graphed
from castbench.measure.torch_facts import cannot_run_sentence
from castbench.records import Sample, Status

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or torch was built without CUDA"),
]
DEVICE = torch.device("cuda:0")


@pytest.fixture
def runtime() -> TorchCuda:
    """The real one, on a GPU this torch build can run on."""
    if (problem := cannot_run_sentence(DEVICE, "fp32")) is not None:
        pytest.skip(problem)
    return TorchCuda(DEVICE)


def product(size: int, times: int = 1) -> nn.Module:
    """A chain of square matrix products."""
    layers = [nn.Linear(size, size, bias=False) for _ in range(times)]
    return nn.Sequential(*layers).to(DEVICE)


def window(runtime: TorchCuda, module: nn.Module, x: Tensor, steps: int) -> WindowTimes:
    """A settled window of forward passes."""

    @torch.inference_mode()
    def step(index: int) -> Tensor:
        out: Tensor = module(x)
        return out

    clock = CudaClock(runtime)
    clock.configure(cold_cache=False)
    clock.settle(step, 0.3)
    return clock.time_window(step, steps)


def is_bound(times: WindowTimes, steps: int) -> bool:
    """Whether that window is launch-bound."""
    return is_launch_bound([Sample("a", 0, steps, times.elapsed_s, host_launch_s=times.host_launch_s)])


def test_the_device_is_described(runtime: TorchCuda) -> None:
    """Name, L2, memory and number of multiprocessors are what torch says, and plausible."""
    found = runtime.properties()
    assert found.name == torch.cuda.get_device_name(DEVICE)
    assert found.memory_bytes > 2**30
    assert found.l2_bytes is None or 2**18 < found.l2_bytes < 2**30
    assert found.multiprocessors > 0
    assert found.uuid is None or found.uuid.startswith("GPU-")


def test_large_products_fill_the_queue_and_small_ones_starve_it(runtime: TorchCuda) -> None:
    """At 8192² both clocks agree within 2 % and nothing is launch-bound; chains of 16² products are."""
    large = window(runtime, product(8192), torch.randn(8192, 8192, device=DEVICE), 20)
    assert large.device_s == pytest.approx(large.elapsed_s, rel=0.02)
    assert not is_bound(large, 20)
    assert large.invalid_reason is None
    small = window(runtime, product(16, 32), torch.randn(16, 16, device=DEVICE), 200)
    assert is_bound(small, 200)
    assert small.elapsed_s < large.elapsed_s


def test_an_allocation_inside_a_window_is_seen(runtime: TorchCuda) -> None:
    """A step that suddenly needs more than the cache holds makes the window invalid."""
    runtime.release_cached()

    def step(index: int) -> Tensor:
        return torch.zeros(2**28 if index == 3 else 256, dtype=torch.uint8, device=DEVICE)

    clock = CudaClock(runtime)
    clock.configure(cold_cache=False)
    clock.settle(step, 1e-6)
    reason = clock.time_window(step, 5).invalid_reason
    assert reason is not None
    assert "took memory from the device" in reason


def test_a_replay_equals_the_eager_step_on_every_batch(runtime: TorchCuda) -> None:
    """One graph, four batches: each step's output is that of its own batch, and takes the host less time to launch."""
    module = product(64, 16)
    pool = tuple(Batch(torch.randn(8, 64, device=DEVICE), None) for _ in range(4))
    step = graphed(module, pool, runtime)
    with torch.inference_mode():
        for index in (0, 1, 2, 3, 5):
            torch.testing.assert_close(step(index), module(pool[index % 4].inputs), rtol=1e-4, atol=1e-5)
    assert step.copy_s > 0
    clock = CudaClock(runtime)
    clock.configure(cold_cache=False)
    replayed = clock.time_window(step, 100)
    eager = window(runtime, module, pool[0].inputs, 100)
    assert (replayed.host_launch_s or 0.0) < (eager.host_launch_s or 0.0)


def test_the_peak_of_a_step_is_what_it_held(runtime: TorchCuda) -> None:
    """64 MiB held during the step are the peak; what was cached before is not counted as reserved."""
    junk = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    del junk

    def step(index: int) -> Tensor:
        return torch.empty(64 * 2**20, dtype=torch.uint8, device=DEVICE)[:1].clone()

    reading = memory.measure(nn.Identity(), step, DEVICE)
    assert reading.peak_bytes is not None
    assert reading.reserved_bytes is not None
    assert 64 * 2**20 <= reading.peak_bytes < 66 * 2**20
    assert reading.peak_bytes <= reading.reserved_bytes < 2**30


REFUSED = """
import torch
from castbench.encoder.inputs import Batch
from castbench.measure.cuda import TorchCuda
from castbench.measure.cuda_graph import graphed

class Asks(torch.nn.Module):
    def forward(self, x, mask=None):
        return x * 2 if float(x.sum()) > 0 else x

device = torch.device("cuda:0")
try:
    graphed(Asks(), (Batch(torch.ones(4, device=device), None),), TorchCuda(device))
except CaseFailed as failure:
    print(failure.status, "|", failure.reason)
"""


def test_data_dependent_control_flow_is_refused(runtime: TorchCuda) -> None:
    """A module that asks the device for a value cannot be captured; in a process of its own, since it spoils it."""
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{Status.UNSUPPORTED} | cannot be captured as a CUDA graph: "), done.stderr
    assert "previous error" not in done.stdout
