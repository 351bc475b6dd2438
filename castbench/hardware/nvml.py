"""NVIDIA GPUs as the driver lists them: the one file that imports pynvml, and where every NVMLError ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from castbench.hardware.gpu import GpuProcess


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU in the driver's order, which CUDA_VISIBLE_DEVICES does not change. None: the driver does not say.

    memory_used_bytes   what is not free, the driver's own share included
    processes           computing on it now, castbench's own among them if there are any
    """

    index: int
    uuid: str | None
    name: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    compute_capability: tuple[int, int] | None
    processes: tuple[GpuProcess, ...] | None


@dataclass(frozen=True, slots=True)
class GpuInventory:
    """Every NVIDIA GPU of the machine.

    cuda         newest CUDA version the driver supports, as "12.4"
    reason       why there are none, in a sentence; None where there are
    unreadable   a sentence for each GPU that is listed but does not answer
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    reason: str | None = None
    unreadable: tuple[str, ...] = ()


def inventory() -> GpuInventory:
    """What the driver lists; never raises an NVMLError and never changes a setting."""
    import pynvml  # type: ignore[import-untyped]  # nvidia-ml-py ships no types

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuInventory(reason=_absence_sentence(pynvml, error))
    try:
        return _listed(pynvml)
    except pynvml.NVMLError as error:
        return GpuInventory(reason=_absence_sentence(pynvml, error))
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _listed(nvml: Any) -> GpuInventory:
    """Driver and GPUs of an initialised NVML."""
    gpus, unreadable = [], []
    count = nvml.nvmlDeviceGetCount()
    for index in range(count):
        try:
            gpus.append(_gpu(nvml, index))
        except nvml.NVMLError as error:
            unreadable.append(f"GPU {index} is listed by the driver but does not answer: {error}")
    return GpuInventory(
        tuple(gpus), _reading(nvml, nvml.nvmlSystemGetDriverVersion), _cuda_version(nvml),
        None if count else "the NVIDIA driver is loaded but lists no GPU", tuple(unreadable),
    )  # fmt: skip


def _gpu(nvml: Any, index: int) -> Gpu:
    """One GPU's readings; NVMLError where the GPU itself does not answer."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _reading(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _reading(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    running = _reading(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    return Gpu(
        index,
        _reading(nvml, nvml.nvmlDeviceGetUUID, handle),
        _reading(nvml, nvml.nvmlDeviceGetName, handle),
        None if memory is None else memory.total,
        None if memory is None else memory.used,
        None if capability is None else (capability[0], capability[1]),
        None if running is None else tuple(GpuProcess(p.pid, p.usedGpuMemory) for p in running),
    )


def _cuda_version(nvml: Any) -> str | None:
    """The driver's CUDA version; NVML gives 1000 * major + 10 * minor."""
    number = _reading(nvml, nvml.nvmlSystemGetCudaDriverVersion)
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"


def _reading(nvml: Any, read: Callable[..., Any], *handle: Any) -> Any:
    """One reading; None where this GPU, driver or user cannot have it. Other errors concern the whole GPU."""
    try:
        return read(*handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission):
        return None


def _absence_sentence(nvml: Any, error: Exception) -> str:
    """Why no GPU can be listed, and what that usually comes from."""
    reasons = (
        (nvml.NVMLError_LibraryNotFound, "this machine has no NVIDIA driver (libnvidia-ml was not found)"),
        (nvml.NVMLError_DriverNotLoaded,
         "the NVIDIA driver is installed but not loaded; in a container, start it with the GPUs passed through"),
        (nvml.NVMLError_NoPermission, "this user has no permission to use the NVIDIA driver (/dev/nvidia*)"),
        (nvml.NVMLError_LibRmVersionMismatch,
         "the NVIDIA driver's library and kernel module differ in version; reboot after a driver update"),
    )  # fmt: skip
    known = (sentence for kind, sentence in reasons if isinstance(error, kind))
    return next(known, f"the NVIDIA driver does not answer: {error}")
