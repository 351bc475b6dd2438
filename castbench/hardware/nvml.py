"""NVIDIA GPUs through NVML: the one file that imports pynvml, and where every NVMLError ends.

inventory() ─▶ GpuInventory     every GPU and MIG instance, once
open_gpu(uuid) ─▶ NvmlGpu       a meter to be read every few milliseconds (GpuMeter in gpu.py)

An error concerns one call that can never answer here (not supported, no permission, a newer driver's function: the
next way to the same reading is tried, and that call is not made again), or this moment (None), or the GPU itself
(HardwareError). Ids and units are those of nvml.h; the test library is compiled against it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Generic, TypeVar

from castbench.errors import HardwareError
from castbench.hardware.gpu import Gpu, GpuInventory, GpuProcess, GpuReading, SlowdownCause, SlowdownCounters
from castbench.records import EnergyScope, GpuFacts

T = TypeVar("T")

_POWER_INSTANT = 186
"""NVML_FI_DEV_POWER_INSTANT, in mW. nvmlDeviceGetPowerUsage is a mean over one second from GA102 on (nvml.h)."""
_ENERGY = 191
"""NVML_FI_DEV_ENERGY, in mJ, by scope."""
_GPU_SCOPE, _MODULE_SCOPE = 0, 1
"""NVML_POWER_SCOPE_GPU, NVML_POWER_SCOPE_MODULE: on a Grace superchip, GPU, CPU and memory together."""
_MODULE_NAMES = re.compile(r"\bGH200\b|Grace Hopper")

_SLOWDOWN_FIELDS = (
    (75, SlowdownCause.SW_THERMAL), (269, SlowdownCause.SW_THERMAL), (74, SlowdownCause.POWER_CAP),
    (270, SlowdownCause.HW_THERMAL), (271, SlowdownCause.POWER_BRAKE),
)  # fmt: skip
"""NVML_FI_DEV_PERF_POLICY_* and NVML_FI_DEV_CLOCKS_EVENT_REASON_*, in ns; where 75 and 269 both answer, 269 counts."""
_VIOLATIONS = ((0, SlowdownCause.POWER_CAP), (1, SlowdownCause.SW_THERMAL))
"""nvmlPerfPolicyType_t; nvmlViolationTime_t.violationTime is in ns."""

_CLOCKS_SETTING, _POWER_CAP, _HW_SLOWDOWN, _SW_THERMAL = 0x2, 0x4, 0x8, 0x20
_HW_THERMAL, _POWER_BRAKE, _BOARD_LIMIT = 0x40, 0x80, 0x200
_REASONS = (
    (_POWER_CAP, SlowdownCause.POWER_CAP), (_SW_THERMAL, SlowdownCause.SW_THERMAL),
    (_HW_THERMAL, SlowdownCause.HW_THERMAL), (_POWER_BRAKE, SlowdownCause.POWER_BRAKE),
    (_BOARD_LIMIT, SlowdownCause.OTHER_HW),
)  # fmt: skip
"""Bits of nvmlClocksEventReason*; HwSlowdown is set with each of its causes and counts only where none is named."""

_COMPUTE_MODES = {0: "default", 1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}
"""nvmlComputeMode_t."""
_SM, _MEMORY = 1, 2
"""nvmlClockType_t."""
_VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of nvmlValue_t in the order of nvmlValueType_t."""


class _Trouble(Enum):
    """What an error concerns: a call that never answers here, this moment, or the GPU itself."""

    NEVER = "never"
    NOW = "now"
    GPU = "gpu"


class _Unsupported(Exception):  # noqa: N818 - it says what a call is; it never leaves this file
    """None of the ways to a reading exists here."""


class _GpuLost(HardwareError):  # noqa: N818 - what happened to the GPU; nobody outside catches it by this name
    """The GPU itself does not answer any more: one sentence with what to do; `said` is NVML's own word."""

    def __init__(self, subject: str, error: Exception) -> None:
        super().__init__(
            f"{subject} was lost ({error}): look into the kernel's log (dmesg, lines with Xid), then reset the GPU or "
            "restart the machine"
        )
        self.said = str(error)


class _Nvml:
    """The pynvml module with its errors sorted; every call goes through here."""

    def __init__(self) -> None:
        import pynvml  # type: ignore[import-untyped]  # nvidia-ml-py ships no types

        self.module: Any = pynvml
        self._gpu_codes = self._codes("GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND", "DRIVER_NOT_LOADED",
                                      "LIB_RM_VERSION_MISMATCH", "UNINITIALIZED")  # fmt: skip
        self._never_codes = self._codes("NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "INVALID_ARGUMENT",
                                        "ARGUMENT_VERSION_MISMATCH", "DEPRECATED", "NOT_FOUND")  # fmt: skip

    def _codes(self, *names: str) -> frozenset[int]:
        """Return codes by name; an older pynvml lacks the newest."""
        found = (getattr(self.module, f"NVML_ERROR_{name}", None) for name in names)
        return frozenset(code for code in found if code is not None)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Everything a call may raise."""
        return (self.module.NVMLError, _Unsupported)

    def call(self, name: str, *arguments: Any) -> Any:
        """What a function of pynvml returns; _Unsupported where this pynvml is too old to have it."""
        return self.function(name)(*arguments)

    def function(self, name: str) -> Callable[..., Any]:
        """A function of pynvml, or one that raises _Unsupported where this pynvml is too old to have it."""

        def missing(*_: Any) -> Any:
            raise _Unsupported(name)

        return getattr(self.module, name, missing)

    def end(self) -> None:
        """Take back one start; a driver that is gone by then needs none."""
        with suppress(*self.errors):
            self.call("nvmlShutdown")

    def trouble(self, error: Exception) -> _Trouble:
        """What an error concerns."""
        code = getattr(error, "value", None)
        if code in self._gpu_codes:
            return _Trouble.GPU
        return _Trouble.NEVER if code is None or code in self._never_codes else _Trouble.NOW

    def field(self, handle: Any, field: int, scope: int = _GPU_SCOPE) -> float:
        """One field value; its own return code is raised like that of a call."""
        [value] = self.call("nvmlDeviceGetFieldValues", handle, [(field, scope)])
        if value.nvmlReturn:
            raise self.module.NVMLError(value.nvmlReturn)
        return _number(value)


class _Reading(Generic[T]):
    """A reading by the first call that can answer; a call that never can is made once and not again."""

    def __init__(self, nvml: _Nvml, subject: str, *calls: Callable[[], T]) -> None:
        self._nvml = nvml
        self._subject = subject
        self._calls = list(calls)

    def __call__(self) -> T | None:
        """The reading, or None; HardwareError where the GPU is lost."""
        while self._calls:
            try:
                return self._calls[0]()
            except self._nvml.errors as error:
                trouble = self._nvml.trouble(error)
                if trouble is _Trouble.GPU:
                    raise _GpuLost(self._subject, error) from None
                if trouble is _Trouble.NOW:
                    return None
                self._calls.pop(0)
        return None


class NvmlGpu:
    """An open GPU or MIG instance; see GpuMeter. Not for two threads at once.

    Memory and processes of an instance are its own; clocks, temperature and slowdowns are those of the GPU it is cut
    from, since all instances share them; power, energy and utilisation of an instance are not available.
    """

    def __init__(self, nvml: _Nvml, handle: Any, subject: str) -> None:
        self._nvml = nvml
        self._handle = handle
        self._subject = subject
        parent = self._reading(lambda: nvml.call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle))
        is_instance = self._reading(lambda: bool(nvml.call("nvmlDeviceIsMigDeviceHandle", handle).value))()
        self._board = parent() if is_instance else handle
        self._is_instance = bool(is_instance)
        self._has_module = not is_instance and self._module_scope()
        self.facts = self._read_facts()
        self._subject = f"{self.facts.name or 'the GPU'} ({self.facts.uuid or subject})"
        self._make_readings()

    def read(self, *, whole: bool = True) -> GpuReading:
        """All readings now, or the SM clock alone; see GpuMeter."""
        sm_clock_hz = self._sm_clock_hz()
        if not whole:
            return GpuReading(time.monotonic(), sm_clock_hz)
        reasons = self._reasons()
        return GpuReading(
            at_s=time.monotonic(),
            sm_clock_hz=sm_clock_hz,
            power_w=self._power_w(),
            memory_clock_hz=self._memory_clock_hz(),
            temperature_c=self._temperature_c(),
            utilization=self._utilization(),
            memory_used_bytes=self._memory_used_bytes(),
            slowdowns=None if reasons is None else _slowdowns(reasons),
            clocks_held=None if reasons is None else bool(reasons & _CLOCKS_SETTING),
        )

    def power_w(self) -> float | None:
        """Power now, or over the driver's own averaging time where it offers nothing shorter."""
        return self._power_w()

    def energy_j(self) -> float | None:
        """The energy counter: joules since the driver was loaded (Volta and newer)."""
        return self._energy_j()

    def slowdown_counters(self) -> SlowdownCounters | None:
        """Seconds slowed since the driver was loaded, by cause."""
        return self._counters()

    def memory_used_bytes(self) -> int | None:
        """Memory in use without the driver's own; a driver before R510 cannot tell the two apart and counts both."""
        return self._memory_used_bytes()

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Processes that compute on it, with the pids of the driver's namespace."""
        return self._processes()

    def close(self) -> None:
        """Let go of NVML; its starts and ends are counted, so that others who use it keep it."""
        self._nvml.end()

    def _reading(self, *calls: Callable[[], T]) -> _Reading[T]:
        """A reading of this GPU."""
        return _Reading(self._nvml, self._subject, *calls)

    def _number(self, scale: float, *ways: tuple[Any, ...]) -> _Reading[float]:
        """A number by the first of (function, arguments…) that answers, in SI units."""

        def way_to(way: tuple[Any, ...]) -> Callable[[], float]:
            function, arguments = self._nvml.function(way[0]), way[1:]
            return lambda: function(*arguments) * scale

        return self._reading(*(way_to(way) for way in ways))

    def _make_readings(self) -> None:
        """The calls behind each reading, newest first."""
        nvml, board, own = self._nvml, self._board, self._handle
        self._sm_clock_hz = self._number(1e6, ("nvmlDeviceGetClockInfo", board, _SM))
        self._memory_clock_hz = self._number(1e6, ("nvmlDeviceGetClockInfo", board, _MEMORY))
        self._temperature_c = self._number(
            1.0, ("nvmlDeviceGetTemperatureV", board, 0), ("nvmlDeviceGetTemperature", board, 0)
        )
        self._reasons = self._reading(
            lambda: int(nvml.call("nvmlDeviceGetCurrentClocksEventReasons", board)),
            lambda: int(nvml.call("nvmlDeviceGetCurrentClocksThrottleReasons", board)),
        )
        self._memory_used_bytes = self._reading(
            lambda: int(nvml.call("nvmlDeviceGetMemoryInfo", own, nvml.module.nvmlMemory_v2).used),
            lambda: int(nvml.call("nvmlDeviceGetMemoryInfo", own).used),
        )
        # By their versions: without one, pynvml tells a missing function by an exception that is no NVMLError.
        self._processes = self._reading(
            lambda: _processes(nvml.call("nvmlDeviceGetComputeRunningProcesses_v3", own)),
            lambda: _processes(nvml.call("nvmlDeviceGetComputeRunningProcesses_v2", own)),
        )
        self._counters = self._reading(self._counters_by_fields, self._counters_by_violations)
        self._make_power_readings()

    def _make_power_readings(self) -> None:
        """Power, energy and utilisation, all of one scope; an instance has none of them."""
        nvml, board = self._nvml, self._board
        self._utilization: _Reading[float] = self._reading()
        self._power_w: _Reading[float] = self._reading()
        self._energy_j: _Reading[float] = self._reading()
        if self._is_instance:
            return
        self._utilization = self._reading(lambda: nvml.call("nvmlDeviceGetUtilizationRates", board).gpu / 100)
        counter = ("nvmlDeviceGetTotalEnergyConsumption", board)
        if self.facts.energy_scope == "module":
            self._power_w = self._reading(lambda: nvml.field(board, _POWER_INSTANT, _MODULE_SCOPE) / 1000)
            self._energy_j = self._reading(
                lambda: nvml.field(board, _ENERGY, _MODULE_SCOPE) / 1000, lambda: nvml.call(*counter) / 1000
            )
        else:
            self._power_w = self._reading(
                lambda: nvml.field(board, _POWER_INSTANT) / 1000,
                lambda: nvml.call("nvmlDeviceGetPowerUsage", board) / 1000,
            )
            self._energy_j = self._number(1e-3, counter)

    def _counters_by_fields(self) -> SlowdownCounters:
        """Slowdown by field values; fields that this driver does not know are left out."""
        nvml = self._nvml
        values = nvml.call("nvmlDeviceGetFieldValues", self._board, [field for field, _ in _SLOWDOWN_FIELDS])
        found: dict[SlowdownCause, float] = {}
        for (_, cause), value in zip(_SLOWDOWN_FIELDS, values, strict=True):
            if value.nvmlReturn == 0:
                found[cause] = _number(value) * 1e-9
            elif nvml.trouble(error := nvml.module.NVMLError(value.nvmlReturn)) is not _Trouble.NEVER:
                raise error
        return _counters("field-values", found)

    def _counters_by_violations(self) -> SlowdownCounters:
        """Slowdown by violation status, for drivers without those fields."""
        nvml = self._nvml
        found: dict[SlowdownCause, float] = {}
        for policy, cause in _VIOLATIONS:
            try:
                status = nvml.call("nvmlDeviceGetViolationStatus", self._board, policy)
            except nvml.errors as error:
                if nvml.trouble(error) is not _Trouble.NEVER:
                    raise
            else:
                found[cause] = status.violationTime * 1e-9
        return _counters("violation-status", found)

    def _module_scope(self) -> bool:
        """Whether the driver knows the power of a whole module."""
        return self._reading(lambda: self._nvml.field(self._board, _POWER_INSTANT, _MODULE_SCOPE))() is not None

    def _read_facts(self) -> GpuFacts:
        """What does not change."""
        name = self._fact(self._handle, "nvmlDeviceGetName")
        capability = self._fact(self._board, "nvmlDeviceGetCudaComputeCapability")
        mig = self._fact(self._board, "nvmlDeviceGetMigMode")
        ecc = self._fact(self._board, "nvmlDeviceGetEccMode")
        persistence = self._fact(self._board, "nvmlDeviceGetPersistenceMode")
        return GpuFacts(
            index=self._fact(self._board, "nvmlDeviceGetIndex") or 0,
            uuid=self._fact(self._handle, "nvmlDeviceGetUUID"),
            name=name,
            parent_uuid=self._fact(self._board, "nvmlDeviceGetUUID") if self._is_instance else None,
            memory_total_bytes=self._memory_total_bytes(),
            compute_capability=None if capability is None else (capability[0], capability[1]),
            ecc=None if ecc is None else bool(ecc[0]),
            mig=None if mig is None else bool(mig[0]),
            compute_mode=_COMPUTE_MODES.get(self._fact(self._board, "nvmlDeviceGetComputeMode")),
            persistence=None if persistence is None else bool(persistence),
            power_limit_w=self._number(1e-3, ("nvmlDeviceGetEnforcedPowerLimit", self._board))(),
            power_default_w=self._number(1e-3, ("nvmlDeviceGetPowerManagementDefaultLimit", self._board))(),
            sm_clock_max_hz=self._number(1e6, ("nvmlDeviceGetMaxClockInfo", self._board, _SM))(),
            clocks_locked=self._clocks_locked(),
            energy_scope=self._energy_scope(name),
            driver=self._reading(lambda: str(self._nvml.call("nvmlSystemGetDriverVersion")))(),
            cuda=_cuda_version(self._reading(lambda: int(self._nvml.call("nvmlSystemGetCudaDriverVersion")))()),
        )

    def _fact(self, handle: Any, function: str) -> Any:
        """One fact by one call; None where it cannot be had."""
        return self._reading(lambda: self._nvml.call(function, handle))()

    def _memory_total_bytes(self) -> int | None:
        """All of its memory, the driver's share included."""
        return self._reading(lambda: int(self._nvml.call("nvmlDeviceGetMemoryInfo", self._handle).total))()

    def _energy_scope(self, name: str | None) -> EnergyScope | None:
        """What counter and power cover; NVML gives the whole module's on Grace Hopper."""
        if self._is_instance:
            return None
        return "module" if self._has_module or _MODULE_NAMES.search(name or "") else "gpu"

    def _clocks_locked(self) -> bool | None:
        """Whether somebody holds the clock down: an application clock below the maximum that is not the one the GPU
        ships with (many ship below their maximum and boost past it), or a clock limited by such a setting now.
        """
        names = ("nvmlDeviceGetApplicationsClock", "nvmlDeviceGetDefaultApplicationsClock", "nvmlDeviceGetMaxClockInfo")
        now, shipped, maximum = (self._number(1.0, (name, self._board, _SM))() for name in names)
        reasons = self._reading(
            lambda: int(self._nvml.call("nvmlDeviceGetCurrentClocksEventReasons", self._board)),
            lambda: int(self._nvml.call("nvmlDeviceGetCurrentClocksThrottleReasons", self._board)),
        )()
        if reasons is not None and reasons & _CLOCKS_SETTING:
            return True
        if now is None or shipped is None or maximum is None:
            return None if reasons is None else False
        return now < maximum and now != shipped


def open_gpu(uuid: str) -> NvmlGpu:
    """The GPU (GPU-…) or MIG instance (MIG-…) of that UUID, to be closed; HardwareError with the reason otherwise."""
    nvml = _Nvml()
    try:
        nvml.call("nvmlInit")
    except nvml.errors as error:
        raise HardwareError(_absence_sentence(nvml.module, error)) from None
    try:
        return NvmlGpu(nvml, nvml.call("nvmlDeviceGetHandleByUUID", uuid), uuid)
    except HardwareError:
        nvml.end()
        raise
    except nvml.errors as error:
        nvml.end()
        sentence = f"the NVIDIA driver cannot open {uuid} ({error}); `castbench doctor` says what it lists"
        raise HardwareError(sentence) from None


def inventory() -> GpuInventory:
    """What the driver lists; never raises an NVMLError and never changes a setting."""
    nvml = _Nvml()
    try:
        nvml.call("nvmlInit")
    except nvml.errors as error:
        installed = not isinstance(error, nvml.module.NVMLError_LibraryNotFound)
        return GpuInventory(reason=_absence_sentence(nvml.module, error), installed=installed)
    try:
        return _listed(nvml)
    except nvml.errors as error:
        return GpuInventory(reason=_absence_sentence(nvml.module, error), installed=True)
    finally:
        nvml.end()


def _listed(nvml: _Nvml) -> GpuInventory:
    """Driver, GPUs and instances of an initialised NVML."""
    gpus: list[Gpu] = []
    instances: list[Gpu] = []
    unreadable, forbidden = [], []
    count = nvml.call("nvmlDeviceGetCount")
    for index in range(count):
        try:
            handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
            gpus.append(_looked_at(nvml, handle, f"GPU {index}"))
            instances.extend(_looked_at(nvml, part, f"a MIG instance of GPU {index}") for part in _parts(nvml, handle))
        except nvml.module.NVMLError_NoPermission as error:
            forbidden.append(f"GPU {index} may not be used by this user or container: {error}")
        except _GpuLost as error:
            unreadable.append(f"GPU {index} is listed by the driver but does not answer: {error.said}")
        except nvml.errors as error:
            unreadable.append(f"GPU {index} is listed by the driver but does not answer: {error}")
    return GpuInventory(
        tuple(gpus), tuple(instances), _system(nvml, "nvmlSystemGetDriverVersion"),
        _cuda_version(_system(nvml, "nvmlSystemGetCudaDriverVersion")),
        None if count else "the NVIDIA driver is loaded but lists no GPU", True, tuple(unreadable), tuple(forbidden),
    )  # fmt: skip


def _looked_at(nvml: _Nvml, handle: Any, subject: str) -> Gpu:
    """One GPU or instance as it is now."""
    gpu = NvmlGpu(nvml, handle, subject)
    now = gpu.read()
    slowdowns = None if now.slowdowns is None else tuple(cause for cause in SlowdownCause if cause in now.slowdowns)
    return Gpu(
        gpu.facts, now.memory_used_bytes, gpu.processes(), now.temperature_c, slowdowns, gpu.energy_j() is not None
    )  # fmt: skip


def _parts(nvml: _Nvml, handle: Any) -> Iterator[Any]:
    """Handles of the MIG instances of a GPU."""
    count = _Reading(nvml, "", lambda: int(nvml.call("nvmlDeviceGetMaxMigDeviceCount", handle)))() or 0
    for place in range(count):
        part = _Reading(nvml, "", partial(nvml.call, "nvmlDeviceGetMigDeviceHandleByIndex", handle, place))()
        if part is not None:
            yield part


def _system(nvml: _Nvml, function: str) -> Any:
    """A fact of the driver; None where it cannot be had."""
    return _Reading(nvml, "the NVIDIA driver", lambda: nvml.call(function))()


def _processes(found: list[Any]) -> tuple[GpuProcess, ...]:
    """Processes as pynvml gives them; it says None for a memory that the driver does not tell."""
    return tuple(GpuProcess(process.pid, process.usedGpuMemory) for process in found)


def _number(value: Any) -> float:
    """Content of an nvmlFieldValue_t by its type."""
    return float(getattr(value.value, _VALUE_FIELDS[value.valueType]))


def _counters(source: str, found: Mapping[SlowdownCause, float]) -> SlowdownCounters:
    """The counters that answered; _Unsupported where none did."""
    if not found:
        raise _Unsupported(source)
    return SlowdownCounters(source, tuple((cause, found[cause]) for cause in SlowdownCause if cause in found))


def _slowdowns(reasons: int) -> frozenset[SlowdownCause]:
    """Causes named by the bits of the event reasons."""
    found = {cause for bit, cause in _REASONS if reasons & bit}
    if reasons & _HW_SLOWDOWN and not reasons & (_HW_THERMAL | _POWER_BRAKE):
        found.add(SlowdownCause.OTHER_HW)
    return frozenset(found)


def _cuda_version(number: int | None) -> str | None:
    """The driver's CUDA version; NVML gives 1000 * major + 10 * minor."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"


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
