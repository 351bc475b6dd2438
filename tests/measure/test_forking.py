"""How processes of the fork server are started."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, signal
from multiprocessing import forkserver
from castbench.measure import forking

context = multiprocessing.get_context("forkserver")
process = context.Process(target=print, daemon=True)
forking.start(process)
status = open(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read()
print("blocked", next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")))
print("here", signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
process.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the blocked signals of a process from /proc")
def test_the_fork_server_is_born_deaf_to_ctrl_c_and_this_process_is_not() -> None:
    """SIGINT is blocked in the server from its first instruction, while torch is loaded; here it is let through."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith(("blocked", "here")))
    assert int(told["blocked"], 16) & 1 << (signal.SIGINT - 1)
    assert told["here"] == "False"
