"""Starts processes of the fork server, so that the Ctrl-C which this process handles ends none of them, and tells how
they ended.
"""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerProcess

from castbench.measure.threads import bound_threads


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


def how_it_ended(process: ForkServerProcess) -> str | None:
    """Signal or exit code of a process that is gone; None for a SIGKILL, which nobody here sent: that is how the kernel
    ends what takes too much memory.
    """
    process.join(5.0)
    code = process.exitcode
    if code == -signal.SIGKILL:
        return None
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
