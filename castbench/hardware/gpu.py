"""What castbench asks of a GPU, whoever answers it: nouns and the meter's protocol. None is "not available", never 0.

nvml.py answers for NVIDIA; the runner, the sampler and the energy pass know only what is in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from castbench.records import GpuFacts


class SlowdownCause(StrEnum):
    """Why a GPU runs below the clocks it was asked for. OUTSIDE causes do not come from the work itself."""

    POWER_CAP = "power-cap"
    SW_THERMAL = "sw-thermal"
    HW_THERMAL = "hw-thermal"
    POWER_BRAKE = "power-brake"
    OTHER_HW = "other-hw"


OUTSIDE_CAUSES = frozenset({SlowdownCause.POWER_BRAKE})
"""Causes for which a round is discarded; what a mechanism causes itself is kept, with a caveat."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU; `used_bytes` None: the driver does not say how much memory it holds."""

    pid: int
    used_bytes: int | None


class GpuReading(NamedTuple):
    """One look at a GPU; `at_s` is time.monotonic(), `utilization` 0 to 1 as the driver averages it.

    A named tuple, since fifty are made per second beside what is timed: a frozen dataclass takes five times as long.
    `clocks_held`: application or locked clocks are what limits the clock at this moment; an idle GPU does not show it.
    """

    at_s: float
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    utilization: float | None = None
    memory_used_bytes: int | None = None
    slowdowns: frozenset[SlowdownCause] | None = None
    clocks_held: bool | None = None


@dataclass(frozen=True, slots=True)
class SlowdownCounters:
    """Seconds that a GPU has been slowed by each cause since the driver was loaded; a missing cause is not counted.

    `source` is field-values or violation-status.
    """

    source: str
    seconds: tuple[tuple[SlowdownCause, float], ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU or a MIG instance as one look finds it.

    processes           computing on it, castbench's own among them if there are any
    slowdowns           what slows it at this moment, in the order of SlowdownCause
    energy_counter      whether it counts its energy; a MIG instance does not
    """

    facts: GpuFacts
    memory_used_bytes: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    temperature_c: float | None = None
    slowdowns: tuple[SlowdownCause, ...] | None = None
    energy_counter: bool = False


@dataclass(frozen=True, slots=True)
class GpuInventory:
    """Every NVIDIA GPU of the machine.

    gpus         whole GPUs in the driver's order, which is that of their PCI addresses
    instances    MIG instances of all of them, in the driver's order
    cuda         newest CUDA version the driver supports, as "12.4"
    reason       why there are none, in a sentence; None where there are
    installed    whether there is an NVIDIA driver at all, be it one that does not work
    unreadable   a sentence for each GPU that is listed but does not answer
    forbidden    a sentence for each GPU that this user or container may not use
    """

    gpus: tuple[Gpu, ...] = ()
    instances: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    reason: str | None = None
    installed: bool = False
    unreadable: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()

    def find(self, uuid: str) -> Gpu | None:
        """The GPU or instance of that UUID."""
        return next((gpu for gpu in (*self.gpus, *self.instances) if gpu.facts.uuid == uuid), None)


class GpuMeter(Protocol):
    """An open GPU. Every method raises HardwareError (castbench.errors) when the GPU itself is lost, and nothing else;
    a reading that this GPU, driver or user cannot have is None.
    """

    facts: GpuFacts

    def read(self, *, whole: bool = True) -> GpuReading:
        """Clocks, temperature, power, utilisation, memory and slowdown reasons, now; unless `whole`, only what changes
        within milliseconds and is counted by nothing else: the SM clock.
        """

    def power_w(self) -> float | None:
        """Power now (or over the driver's own averaging time)."""

    def energy_j(self) -> float | None:
        """The energy counter: joules since the driver was loaded."""

    def slowdown_counters(self) -> SlowdownCounters | None:
        """Accumulated slowdown by cause."""

    def memory_used_bytes(self) -> int | None:
        """Memory in use, without what the driver reserves for itself."""

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Processes that compute on it; () is nobody, None is not known."""

    def close(self) -> None:
        """Let go of it."""
