"""The one definition of a percentile of requests that capacity figures use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castbench.cost.traffic import Floats

ROUNDING = 1e-9
"""0.99 of 100 requests is the 99th smallest, also where the product comes out a rounding error above 99."""


def rank_of(share: float, count: int) -> int:
    """Which smallest value, from 1, `share` of `count` values do not exceed: ceil(share·count), at least 1."""
    return max(1, math.ceil(share * count * (1 - ROUNDING)))


def quantile(values: Floats, share: float) -> float | None:
    """The value that `share` of the values do not exceed: no interpolation; None of no values."""
    import numpy as np

    if not values.size:
        return None
    place = rank_of(share, values.size) - 1
    return float(np.partition(values, place)[place])
