"""The draws of docs/cost.md once more, from their formula: the same generator and seed, so every digit must agree.

A drawn number is a pair: the number, and its 4000 draws (None where there are none).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COUNT = 4000
FLOOR = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A number with what it might as well have been."""

    value: float
    draws: NDArray[np.float64] | None

    def interval(self) -> tuple[float | None, float | None]:
        """2.5 and 97.5 percentiles of the draws, stretched to the number itself."""
        import numpy as np

        if self.draws is None:
            return None, None
        ranked = np.sort(self.draws)
        ends = [_between(ranked, share * (COUNT - 1)) for share in (0.025, 0.975)]
        return min(ends[0], self.value), max(ends[1], self.value)

    def share_above(self, limit: float) -> float | None:
        """Share of the draws above a limit."""
        return None if self.draws is None else int((self.draws > limit).sum()) / COUNT


def combined(parts: Sequence[tuple[float, Number]]) -> Number:
    """Weighted sum; draw i goes with draw i."""
    value = math.fsum(weight * part.value for weight, part in parts)
    if any(part.draws is None for _, part in parts):
        return Number(value, None)
    total = sum((weight * part.draws for weight, part in parts if part.draws is not None), start=0.0)
    return Number(value, total)  # type: ignore[arg-type]  # a sum of at least one array


def quotient(above: Number, below: Number) -> Number:
    """One drawn number over another."""
    both = above.draws is not None and below.draws is not None
    return Number(above.value / below.value, above.draws / below.draws if both else None)  # type: ignore[operator]


def group_draws(windows: Mapping[str, Sequence[float | None]], seed: int, key: str) -> dict[str, Number]:
    """Mean step of every arm of a group with its draws, from the arms' window means by round.

    mean + sqrt(degrees / chi2) * sum of g_r * (window_r - mean) / sqrt(n (n - 1)), never below a hundredth of the mean
    """
    import numpy as np

    generator = _generator(seed, key)
    held = {label: [t for t in row if t is not None] for label, row in windows.items()}
    enough = [len(row) for row in held.values() if len(row) > 1]
    degrees = min(enough, default=2) - 1
    normal = generator.standard_normal((COUNT, len(next(iter(windows.values())))))
    stretch = np.sqrt(degrees / generator.chisquare(degrees, COUNT))
    found = {}
    for label, row in windows.items():
        n, mean = len(held[label]), math.fsum(held[label]) / len(held[label])
        if n < 2:
            found[label] = Number(mean, None)
            continue
        pull = np.array([0.0 if t is None else t - mean for t in row])
        moved = mean + stretch * np.einsum("dr,r->d", normal, pull) / math.sqrt(n * (n - 1))
        found[label] = Number(mean, np.where(moved < FLOOR * mean, FLOOR * mean, moved))
    return found


def widened(number: Number, doubt: float, seed: int, name: str) -> Number:
    """Every draw multiplied or divided by 1 plus a relative doubt, which of the two by a coin per draw."""
    if number.draws is None:
        return number
    up = _generator(seed, name).integers(0, 2, COUNT) == 1
    draws = number.draws.copy()
    draws[up] *= 1 + doubt
    draws[~up] /= 1 + doubt
    return Number(number.value, draws)


def still(number: Number) -> Number:
    """A number whose draws do not move."""
    return Number(number.value, None if number.draws is None else number.draws * 0 + number.value)


def _generator(seed: int, name: str) -> np.random.Generator:
    """The generator that belongs to a name."""
    import numpy as np

    return np.random.default_rng([seed % 2**63, zlib.crc32(name.encode())])


def _between(ranked: NDArray[np.float64], place: float) -> float:
    """The value at a fractional place of an ascending array."""
    low = math.floor(place)
    high = min(low + 1, ranked.size - 1)
    return float(ranked[low] + (place - low) * (ranked[high] - ranked[low]))
