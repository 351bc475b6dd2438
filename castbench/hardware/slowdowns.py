"""From what a GPU did during windows to the doubts that travel with their times; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from castbench.hardware.gpu import SlowdownCause
from castbench.records import Caveat, GpuFacts, WindowState

SLOWED_LIMIT = 0.02
"""Share of the watched time from which slowing is a caveat: below it, it explains at most 2 % of a difference."""
_NAMED_SHARE = 0.1
"""A caveat names every kind of cause that makes up at least this share of the slowed time."""
_KINDS: tuple[tuple[Caveat, frozenset[str]], ...] = (
    (Caveat.POWER_CAPPED, frozenset({SlowdownCause.POWER_CAP, SlowdownCause.POWER_BRAKE})),
    (
        Caveat.THERMAL_THROTTLE,
        frozenset({SlowdownCause.SW_THERMAL, SlowdownCause.HW_THERMAL, SlowdownCause.OTHER_HW}),
    ),
)
"""The hardware's slowdown without a word on its cause is counted as thermal: heat is its usual cause, and the brake
by the power supply has a cause of its own."""


def device_caveats(states: Iterable[WindowState], facts: GpuFacts | None) -> tuple[Caveat, ...]:
    """Doubts about times, from what the GPU did during their windows.

    power-capped, thermal-throttle   slowed for more than 2 % of the watched time, by the mean over windows; named
                                     is every kind of cause that makes up at least a tenth of the slowed time
    clocks-locked                    a setting holds the clocks: by the facts, or in more than 2 % of looks
    shared-device                    another process was on the GPU at either end of any window
    """
    seen = tuple(states)
    found = list(_slowdown_caveats(seen))
    held = [state.clocks_held_share for state in seen if state.clocks_held_share is not None]
    if (facts is not None and facts.clocks_locked) or (held and fmean(held) > SLOWED_LIMIT):
        found.append(Caveat.CLOCKS_LOCKED)
    if any(state.foreign for state in seen):
        found.append(Caveat.SHARED_DEVICE)
    return tuple(found)


def _slowdown_caveats(states: Sequence[WindowState]) -> Iterable[Caveat]:
    """Which kinds of slowing were long enough to matter."""
    shares = [state.slowed_share for state in states if state.slowed_share is not None]
    if not shares or fmean(shares) <= SLOWED_LIMIT:
        return
    spent = [pair for state in states for pair in state.slowed_s or ()]
    for caveat, causes in _KINDS:
        share = sum(s for cause, s in spent if cause in causes) / sum(s for _, s in spent)
        if share >= _NAMED_SHARE:
            yield caveat
