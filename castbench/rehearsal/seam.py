"""The seam between what is rehearsed and what it is rehearsed on: a stage opens a server, a server answers batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from castbench.cost.replay import BatchingPolicy
from castbench.plan import Arm, ServedModel
from castbench.records import Environment


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """What a server is to serve: one arm, batched so, with requests of these lengths.

    masked    whether a batch of equal lengths gets a padding mask all the same, as measured padded ones do
    lengths   to warm up with, ascending; the last is the longest request that may come
    """

    served: ServedModel
    arm: Arm
    policy: BatchingPolicy
    masked: bool
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServedBatch:
    """One batch as the server served it: its requests by number, and when on the stage's clock."""

    numbers: tuple[int, ...]
    began_s: float
    done_s: float


class Clock(Protocol):
    """The time that arrivals and batches share."""

    def now_s(self) -> float:
        """Seconds since any moment."""


class Server(Protocol):
    """One replica, warm."""

    overhead_s: float

    def send(self, number: int, tokens: int, arrival_s: float) -> None:
        """Hand over a request that arrives at `arrival_s`; returns at once."""

    def receive(self, timeout_s: float) -> ServedBatch | None:
        """The next batch that was served; None where there is none within so long. HardwareError where it died."""

    def finish(self) -> float | None:
        """End serving; seconds its threads stood behind others in the run queue since it was opened, if known."""

    def close(self) -> None:
        """End the server, whatever it does."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A machine to rehearse on.

    differs     what is not as it was when the run was measured, in sentences
    """

    environment: Environment
    created_at: str
    differs: tuple[str, ...]
    clock: Clock
    open_server: Callable[[ServerOrder], Server]
