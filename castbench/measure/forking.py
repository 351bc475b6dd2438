"""Processes of the fork server, each with a pipe to it: started deaf to the Ctrl-C that this process handles, ended
for good, and asked how they ended.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from castbench.measure.threads import bound_threads

_END_TIMEOUT_S = 5.0


class Forked:
    """A process that runs `serve(its end of the pipe, *arguments)`; `connection` is this end.

    preload   module that the fork server imports before it forks, so that every process has it at once
    """

    def __init__(self, preload: str, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self._process: ForkServerProcess = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        start(self._process)
        theirs.close()

    @property
    def pid(self) -> int | None:
        """Its number in the system."""
        return self._process.pid

    def close(self) -> None:
        """Hang up and wait for the process to end; kill it if it does not."""
        self.connection.close()
        self._process.join(_END_TIMEOUT_S)
        if self._process.is_alive():
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join(_END_TIMEOUT_S)

    def how_it_ended(self) -> str | None:
        """Signal or exit code of a process that is gone; None for a SIGKILL, which nobody here sent: that is how the
        kernel ends what takes too much memory.
        """
        self._process.join(_END_TIMEOUT_S)
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return None
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def start(process: ForkServerProcess) -> None:
    """Start a process with bound threads; the fork server itself is born here if it is the first.

    It would start the resource tracker, which lets signals through again; so that is started before they are blocked.
    """
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with bound_threads():
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
