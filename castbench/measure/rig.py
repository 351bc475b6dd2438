"""The seam between the runner and what it measures on: a rig opens epochs, an epoch times windows.

runner ──▶ Rig.open_epoch ──▶ Epoch.prepare(arm) … Epoch.window(arm) … Epoch.close     torch_rig: a worker process
                                                                                     fake_rig: a virtual clock
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from castbench.plan import Arm, Group, Plan
from castbench.records import Conditions, EnergyRecord, Environment, Sample, Status


class CaseFailed(Exception):  # noqa: N818 - it says what happened to a case, as its status does
    """One arm cannot be measured on one group; `status` and `reason` go into its row.

    `epoch_lost` says that the worker died with it, so that the others need a new one.
    """

    def __init__(self, status: Status, reason: str, *, epoch_lost: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.epoch_lost = epoch_lost


@dataclass(frozen=True, slots=True)
class Prepared:
    """An arm that is built and has run: seconds its first steps took, what ran, what it says of itself."""

    step_s: float
    ran_as: str | None
    facts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Peak bytes of a step above the weights, the weights' own, and the peak of what the caching allocator took from
    the device; None: not available on this device.
    """

    peak_bytes: int | None
    weights_bytes: int | None
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """What an energy pass found, or why there is nothing: exactly one of the two is None."""

    record: EnergyRecord | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class TimedWindow:
    """A window as a worker hands it over; `began_s` and `ended_s` are time.monotonic(), which all processes share."""

    sample: Sample
    began_s: float
    ended_s: float


class Epoch(Protocol):
    """One worker process (or its fake) with a group's arms built in it."""

    def prepare(self, arm: Arm) -> Prepared:
        """Build and warm up an arm; CaseFailed where that fails."""

    def step_s(self, arm: Arm) -> float:
        """Seconds of a warm step, asked when every arm is prepared; CaseFailed where that fails."""

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
        """Settle, then time `steps` steps back to back; CaseFailed where that fails."""

    def close(self) -> None:
        """End the process."""


class Rig(Protocol):
    """A device that plans can be measured on; `device` is cpu, cuda:N or fake."""

    device: str

    def environment(self) -> Environment:
        """The machine and software, read once per run."""

    def identity(self) -> tuple[str, str, str]:
        """(run id, time of start in ISO 8601 UTC, hash of the code that is measured)."""

    def now_s(self) -> float:
        """Clock that budgets are counted on."""

    def others(self) -> tuple[int, ...] | None:
        """Processes that computed on the device when the rig was opened; None: not known, as for a CPU."""

    def conditions(self) -> Conditions:
        """State of the host since the last call."""

    def parity_error(self, plan: Plan, arm: Arm) -> float:
        """Relative difference from the reference on small shapes; CaseFailed with PARITY above the tolerance."""

    def memory(self, plan: Plan, group: Group, arm: Arm) -> MemoryReading:
        """Peak memory of a step in a fresh process."""

    def energy(self, plan: Plan, group: Group, arm: Arm) -> EnergyReading:
        """Energy of an arm's steps, in a pass of its own."""

    def fits(self, plan: Plan, group: Group, arm: Arm, batch_size: int) -> bool:
        """Whether a step of the arm fits at this batch size instead of the group's, in a fresh process."""

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> Epoch:
        """A fresh worker process for a group.

        `one_at_a_time` keeps only one arm on the device at once, for groups whose arms do not fit together.
        """

    def close(self) -> None:
        """Let go of the device."""
