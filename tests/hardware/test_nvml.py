from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from castbench.hardware.nvml import Gpu, GpuInventory, GpuProcess, inventory
from castbench.units import GIB


def raising(error: type[Exception]) -> Callable[..., Any]:
    """A call that fails with one of NVML's errors."""

    def fail(*_: object) -> None:
        raise error

    return fail


def driver(**changes: Any) -> SimpleNamespace:
    """A module like pynvml on a machine with one A100, with the real error classes; `changes` replace calls."""
    errors = {name: getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVMLError")}
    running = [SimpleNamespace(pid=42, usedGpuMemory=3 * GIB), SimpleNamespace(pid=43, usedGpuMemory=None)]
    calls = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlSystemGetDriverVersion": lambda: "550.54.15",
        "nvmlSystemGetCudaDriverVersion": lambda: 12040,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=80 * GIB, used=4 * GIB, free=76 * GIB),
        "nvmlDeviceGetCudaComputeCapability": lambda _: (8, 0),
        "nvmlDeviceGetComputeRunningProcesses": lambda _: running,
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
        "nvmlDeviceGetName": lambda _: "NVIDIA A100 80GB PCIe",
    }
    return SimpleNamespace(**errors, **{**calls, **changes})


def read_with(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> GpuInventory:
    """The inventory of such a machine."""
    monkeypatch.setitem(sys.modules, "pynvml", driver(**changes))
    return inventory()


def test_a_healthy_gpu_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, memory, capability, processes, driver and CUDA version arrive as the driver says them."""
    processes = (GpuProcess(42, 3 * GIB), GpuProcess(43, None))
    gpu = Gpu(0, "GPU-0", "NVIDIA A100 80GB PCIe", 80 * GIB, 4 * GIB, (8, 0), processes)
    assert read_with(monkeypatch) == GpuInventory((gpu,), "550.54.15", "12.4")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (pynvml.NVMLError_LibraryNotFound, "no NVIDIA driver"),
        (pynvml.NVMLError_DriverNotLoaded, "not loaded"),
        (pynvml.NVMLError_NoPermission, "no permission"),
        (pynvml.NVMLError_LibRmVersionMismatch, "differ in version"),
        (pynvml.NVMLError_Unknown, "does not answer"),
    ],
)
def test_a_driver_that_cannot_start_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], words: str
) -> None:
    """Whatever keeps NVML from starting becomes a sentence, and no GPU is listed."""
    found = read_with(monkeypatch, nvmlInit=raising(error))
    assert found.gpus == ()
    assert found.reason is not None
    assert words in found.reason


@pytest.mark.parametrize(
    "error", [pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission]
)
@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("nvmlDeviceGetMemoryInfo", "memory_total_bytes"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability"),
        ("nvmlDeviceGetComputeRunningProcesses", "processes"),
        ("nvmlDeviceGetUUID", "uuid"),
        ("nvmlDeviceGetName", "name"),
    ],
)
def test_one_reading_that_is_refused_is_not_known(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], call: str, field: str
) -> None:
    """A reading this GPU, driver or user cannot have is None, and the rest stays."""
    found = read_with(monkeypatch, **{call: raising(error)})
    assert found.reason is None
    assert getattr(found.gpus[0], field) is None
    assert sum(value is None for value in (found.gpus[0].name, found.gpus[0].processes)) <= 1


def test_an_old_driver_without_version_calls_still_lists_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions that cannot be read are not known."""
    refuse = raising(pynvml.NVMLError_FunctionNotFound)
    found = read_with(monkeypatch, nvmlSystemGetDriverVersion=refuse, nvmlSystemGetCudaDriverVersion=refuse)
    assert (found.driver, found.cuda, len(found.gpus)) == (None, None, 1)


def test_a_lost_gpu_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that fell off the bus is named, and the others are read."""

    def handle(index: int) -> int:
        if index == 1:
            raise pynvml.NVMLError_GpuIsLost
        return index

    found = read_with(monkeypatch, nvmlDeviceGetCount=lambda: 3, nvmlDeviceGetHandleByIndex=handle)
    assert [gpu.index for gpu in found.gpus] == [0, 2]
    assert len(found.unreadable) == 1
    assert found.unreadable[0].startswith("GPU 1 ")


def test_a_driver_that_fails_while_listing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error after the start ends in a sentence too, and NVML is shut down even if that fails as well."""
    closed = []

    def shutdown() -> None:
        closed.append(True)
        raise pynvml.NVMLError_Uninitialized

    found = read_with(monkeypatch, nvmlDeviceGetCount=raising(pynvml.NVMLError_Timeout), nvmlShutdown=shutdown)
    assert found.gpus == ()
    assert found.reason is not None
    assert closed == [True]


def test_a_driver_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU and no error still gives a reason."""
    found = read_with(monkeypatch, nvmlDeviceGetCount=lambda: 0)
    assert found == GpuInventory((), "550.54.15", "12.4", "the NVIDIA driver is loaded but lists no GPU")


def test_the_real_library_answers_with_gpus_or_a_reason() -> None:
    """On the machine of the tests, whatever it is, the call returns: with GPUs, or with why there are none."""
    found = inventory()
    assert bool(found.gpus) != bool(found.reason) or found.unreadable
