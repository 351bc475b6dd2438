"""Where the threads of workers run: one core each, unless the user's environment says otherwise.

Unbound, two OpenMP threads that wait for each other by spinning may be put on one core while another stands idle, and
each step then takes tens of times as long: an accident of the moment, not a property of what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

STEERING = (
    "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_DYNAMIC",
)  # fmt: skip
"""Variables that steer threads and pinning, of OpenMP and of the runtimes torch is built with."""
_BINDING = frozenset({"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"})
_BOUND = ("OMP_PROC_BIND", "true")


def thread_settings(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What steers the threads of a worker started from this environment, by name; castbench's own binding included."""
    chosen = {name: environ[name] for name in STEERING if name in environ}
    if _BINDING.isdisjoint(chosen):
        chosen[_BOUND[0]] = _BOUND[1]
    return tuple(sorted(chosen.items()))


@contextmanager
def bound_threads() -> Iterator[None]:
    """Processes started inside bind their threads; what the user has set stays."""
    name, value = _BOUND
    if _BINDING.isdisjoint(os.environ):
        os.environ[name] = value
        try:
            yield
        finally:
            del os.environ[name]
    else:
        yield


def usable_cores() -> tuple[int, ...] | None:
    """Cores this process may run on; None where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def unbind(cores: tuple[int, ...] | None) -> None:
    """Let this process run on all these cores again: a driver's own threads are not OpenMP's to bind."""
    if cores is not None:
        os.sched_setaffinity(0, cores)
