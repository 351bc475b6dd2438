"""Whether a GPU waits for its host: time to launch a window's work against the time the window took; pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from castbench.records import Sample

LAUNCH_BOUND_SHARE = 0.8
"""From this share on, the host alone holds a window to within a quarter of its time: no faster kernel could gain more
than a fifth, and the times say more of Python and the driver than of the mechanism.
"""


def launch_share(sample: Sample) -> float | None:
    """Host time to launch a window's work over its elapsed time; None where the device has no launches.

    The host and the device work side by side, so a window takes about the longer of both. Launches are timed onto an
    empty queue: in a window whose queue is full the host waits for room, and its own time there says nothing. The gaps
    between events say nothing either, since on an empty queue a pair of events also spans the launches in between.
    """
    if sample.host_launch_s is None:
        return None
    return sample.host_launch_s / sample.elapsed_s


def is_launch_bound(samples: Iterable[Sample]) -> bool:
    """Whether a case's windows are typically (by the median share) as long as the host needs to launch them."""
    shares = [share for sample in samples if (share := launch_share(sample)) is not None]
    return bool(shares) and median(shares) >= LAUNCH_BOUND_SHARE
