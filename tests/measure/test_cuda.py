from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from castbench.measure import cuda
from castbench.measure.cuda import AllocatorStatistics, DeviceProperties, TorchCuda

GPU = torch.device("cuda:0")
STATISTICS = {
    "allocated_bytes.all.current": 1, "allocated_bytes.all.peak": 2, "reserved_bytes.all.current": 3,
    "reserved_bytes.all.peak": 4, "num_device_alloc": 5, "num_alloc_retries": 6,
}  # fmt: skip


def test_measuring_reaches_cuda_through_one_file() -> None:
    """Besides what only describes the machine, cuda.py alone says torch.cuda."""
    room = Path(cuda.__file__).parent
    users = {path.name for path in room.glob("*.py") if "torch.cuda." in path.read_text()}
    assert users - {"torch_facts.py", "doctor.py"} == {"cuda.py"}


def test_making_a_runtime_touches_no_device() -> None:
    """A worker can be born without CUDA: what fails, fails at a call and becomes a case's reason."""
    TorchCuda(torch.device("cuda:99"))


@pytest.mark.parametrize(("backend", "counts"), [("native", (5, 6)), ("cudaMallocAsync", (None, None))])
def test_the_allocators_counters_are_known_only_where_it_counts(
    monkeypatch: pytest.MonkeyPatch, backend: str, counts: tuple[int | None, int | None]
) -> None:
    """Peaks come from the documented keys; the driver's asynchronous allocator reports zeros, which are not known."""
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: STATISTICS)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: backend)
    assert TorchCuda(GPU).allocator() == AllocatorStatistics(1, 2, 4, *counts)


def test_what_an_older_torch_does_not_say_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uuid and L2 size the properties hold None, with them the driver's spelling and bytes."""
    old = SimpleNamespace(name="GPU", total_memory=8, multi_processor_count=2)
    new = SimpleNamespace(**vars(old), uuid="1234", L2_cache_size=50)
    for found, uuid, l2_bytes in ((old, None, None), (new, "GPU-1234", 50)):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=found: found)
        assert TorchCuda(GPU).properties() == DeviceProperties("GPU", uuid, 8, l2_bytes, 2)
