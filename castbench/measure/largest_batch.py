"""The largest batch that fits: doubled until it does not, then bisected.

fits:  2 ─▶ 4 ─▶ 8 ─▶ 16 ✗        8 ─▶ 12 ✓ ─▶ 14 ✗ ─▶ 13 ✓      largest: 13
"""

from __future__ import annotations

from collections.abc import Callable

from castbench.records import BatchSearch

MOST_ROWS = 65536
"""Larger batches are not tried: no server gathers so many requests."""


def largest_batch(fits: Callable[[int], bool], known: int) -> BatchSearch:
    """Search from `known`, a batch size that fits; `fits` must not rise again once it has fallen."""
    low, high = known, None
    while high is None and low < MOST_ROWS:
        tried = min(2 * low, MOST_ROWS)
        low, high = (tried, None) if fits(tried) else (low, tried)
    while high is not None and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return BatchSearch(low, high)
