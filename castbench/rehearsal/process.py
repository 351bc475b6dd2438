"""The parent's side of a real server: starts its process, sends requests, hears of batches, and outlives it.

The parent never imports torch: a crash, a hang or an exhausted memory ends the server, not the program.
"""

from __future__ import annotations

import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from castbench.errors import HardwareError
from castbench.measure import forking
from castbench.measure.threads import unbind, usable_cores
from castbench.rehearsal.seam import ServedBatch, ServerOrder

START_TIMEOUT_S = 300.0
"""Importing torch for the first time on a cold disk, building the model and warming it up."""
_FINISH_TIMEOUT_S = 30.0
_PIPE_STEP_S = 0.002
"""A pipe is waited for in whole milliseconds, rounded up: the last two are slept, so that nobody is sent late."""


class RealClock:
    """The clock all processes of this machine share."""

    def now_s(self) -> float:
        """time.monotonic()."""
        return time.monotonic()


class ServerProcess:
    """A server in a process of its own, warm when this returns.

    Raises HardwareError where it cannot be started, or cannot serve what is ordered.
    """

    def __init__(
        self, order: ServerOrder, device: str, threads: int | None, memory_limit_bytes: int | None = None
    ) -> None:
        self._forked = forking.Forked(
            "castbench.rehearsal.server", _serve, device, threads, memory_limit_bytes, usable_cores()
        )  # fmt: skip
        try:
            self.overhead_s = self._opened(order)
        except BaseException:
            self.close()
            raise

    def send(self, number: int, tokens: int, arrival_s: float) -> None:
        """A few bytes into the pipe, which the server empties at once."""
        self._say((number, tokens, arrival_s))

    def receive(self, timeout_s: float) -> ServedBatch | None:
        """The next batch; None where there is none within so long."""
        if not self._is_there(timeout_s):
            return None
        word, *rest = self._heard()
        if word != "batch":
            raise HardwareError(f"the server failed: {rest[0]}")
        numbers, began_s, done_s = rest
        return ServedBatch(numbers, began_s, done_s)

    def finish(self) -> float | None:
        """Ask for the threads' waiting time."""
        self._say("finish")
        if not self._forked.connection.poll(_FINISH_TIMEOUT_S):
            return None
        word, waited_s = self._heard()
        return waited_s if word == "finished" else None

    def close(self) -> None:
        """Hang up and wait for the process to end; kill it if it does not."""
        self._forked.close()

    def _opened(self, order: ServerOrder) -> float:
        """Send the order and wait until the server is warm; its overhead."""
        self._say(order)
        until_s = time.monotonic() + START_TIMEOUT_S
        while self._forked.connection.poll(max(0.0, until_s - time.monotonic())):
            word, *rest = self._heard()
            if word == "ready":
                return float(rest[0])
            if word == "failed":
                raise HardwareError(f"{order.arm.label} cannot be served here: {rest[0]}")
        raise HardwareError(f"the server was not ready within {START_TIMEOUT_S:.0f} s")

    def _say(self, message: Any) -> None:
        """Send a message."""
        try:
            self._forked.connection.send(message)
        except OSError:
            raise self._obituary() from None

    def _is_there(self, timeout_s: float) -> bool:
        """Whether a message comes within so long, to much less than a millisecond."""
        if timeout_s > _PIPE_STEP_S:
            return self._forked.connection.poll(timeout_s - _PIPE_STEP_S)
        if self._forked.connection.poll(0):
            return True
        time.sleep(max(0.0, timeout_s))
        return self._forked.connection.poll(0)

    def _heard(self) -> tuple[Any, ...]:
        """The next message."""
        try:
            message: tuple[Any, ...] = self._forked.connection.recv()
        except (EOFError, OSError):
            raise self._obituary() from None
        return message

    def _obituary(self) -> HardwareError:
        """Why the process is gone."""
        ended = self._forked.how_it_ended()
        if ended is None:
            return HardwareError("the system killed the server (SIGKILL): out of memory")
        return HardwareError(f"the server process died ({ended})")


def _serve(
    connection: Connection, device: str, threads: int | None, memory_limit_bytes: int | None,
    cores: tuple[int, ...] | None,
) -> None:  # fmt: skip
    """Entry of the process; the module that imports torch is preloaded in the fork server."""
    server = import_module("castbench.rehearsal.server")
    if device != "cpu":
        unbind(cores)
    # A parent that is gone or interrupted has told its user already; a traceback here would only frighten.
    with suppress(KeyboardInterrupt, BrokenPipeError, ConnectionError):
        server.serve(connection, server.ServerSetup(device, threads, memory_limit_bytes))
