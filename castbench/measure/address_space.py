"""A bound on what a worker may map, so that a step that is too large fails by itself and nobody is killed for it."""

from __future__ import annotations

import resource
import sys

from castbench.hardware.pseudo_files import text_of
from castbench.hardware.scheduling import SELF


def limit_address_space(more_bytes: int) -> bool:
    """Let this process map `more_bytes` beyond what it maps now; False where the system does not say or enforce it."""
    statm = text_of(SELF / "statm") if sys.platform == "linux" else None
    if statm is None:
        return False
    limit = int(statm.split()[0]) * resource.getpagesize() + more_bytes
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return True
