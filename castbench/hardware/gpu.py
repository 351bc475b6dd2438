"""What castbench asks of a GPU, whoever answers it: nouns and the meter's protocol. None is "not available", never 0.

nvml.py answers for NVIDIA; the runner, the sampler and the energy pass know only what is in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One look at a GPU; `at_s` is time.monotonic(), `utilization` 0 to 1 as the driver averages it."""

    at_s: float
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    utilization: float | None = None
    memory_used_bytes: int | None = None
    slowdowns: frozenset[SlowdownCause] | None = None


@dataclass(frozen=True, slots=True)
class SlowdownCounters:
    """Seconds that a GPU has been slowed by each cause since the driver was loaded; a missing cause is not counted.

    `source` is field-values or violation-status.
    """

    source: str
    seconds: tuple[tuple[SlowdownCause, float], ...]


class GpuMeter(Protocol):
    """An open GPU. Every method raises HardwareError (castbench.errors) when the GPU itself is lost, and nothing else;
    a reading that this GPU, driver or user cannot have is None.
    """

    facts: GpuFacts

    def read(self) -> GpuReading:
        """Clocks, temperature, power, utilisation, memory and slowdown reasons, now."""

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
