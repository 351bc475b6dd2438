"""How long windows and their settling are, by device and mode: known beforehand, so that a run can be added up."""

from __future__ import annotations

from castbench.workload.spec import SamplingPolicy

SUSTAINED_WINDOW_S = 1.0
"""On CUDA a sustained window is at least this long, so that the clock is the arm's own."""
SUSTAINED_SETTLE_S = 0.3
"""Untimed steps before a sustained window, until the clock governor has reacted to this arm and not to the last one."""
SETTLE_SHARE = 0.25
"""Elsewhere: untimed steps for this share of a window, so that the caches hold this arm's data."""


def shortest_window_s(device: str, policy: SamplingPolicy) -> float:
    """How long a timed window must at least be."""
    shortest = policy.min_window_ms / 1e3
    return max(shortest, SUSTAINED_WINDOW_S) if is_sustained(device, policy) else shortest


def settle_s(device: str, policy: SamplingPolicy, step_s: float) -> float:
    """Untimed seconds before a window; on a CPU none where a step is as long as a window, since it settles itself."""
    if is_sustained(device, policy):
        return SUSTAINED_SETTLE_S
    shortest = policy.min_window_ms / 1e3
    if not device.startswith("cuda") and step_s >= shortest:
        return 0.0
    return SETTLE_SHARE * shortest


def is_sustained(device: str, policy: SamplingPolicy) -> bool:
    """Whether windows run in blocks at each arm's own clock: a matter of GPUs, whose clocks follow power and heat."""
    return device.startswith("cuda") and policy.mode == "sustained"
