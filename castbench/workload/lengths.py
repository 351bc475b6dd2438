"""Length distributions: from shares, quantiles or lists of lengths to a grid of lengths that is measured.

shares ────────────────────────────▶ exact mix ─────────────▶ measured at exactly these lengths
quantiles ─┐                            5 %                longest
           ├─▶ mix of ≤ 64 lengths ─▶  |-----|-----|-----|-----|   geometric grid, the rest interpolated
a file ────┘                                    ^ held out: measured only to state the interpolation's error
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from castbench.workload.spec import Batching, LengthDistribution, Shape

SLICES = 63
"""Slices of equal share a continuous distribution is cut into; the last one is kept as its two ends."""
GRID_POINTS = 5
SHORTEST_SHARE = 0.05
"""Share of the requests that may be shorter than the grid's first length; they cost what that length costs."""
LARGEST_SPAN = 64
"""The grid spans at most this factor: shorter requests weigh next to nothing in the bill of the longest."""


def from_shares(pairs: Iterable[tuple[int, float]], source: str = "shares") -> LengthDistribution:
    """A mix from (tokens, share) pairs in any order; shares of equal tokens are added, all scaled to sum to 1."""
    return _mix(pairs, exact=True, source=source)


def from_quantiles(pairs: Iterable[tuple[float, int]], source: str = "quantiles") -> LengthDistribution:
    """A mix from (cumulative share, tokens) pairs, ascending from share 0 to share 1, linear in between.

    The mean of the piecewise linear distribution is kept up to the rounding to whole tokens.
    """
    points = sorted(pairs)

    def slice_of(low: float, high: float) -> tuple[float, int, int]:
        inner = [share for share, _ in points if low < share < high]
        edges = [(share, _quantile(points, share)) for share in (low, *inner, high)]
        area = math.fsum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(edges))
        return area / (high - low), round(edges[0][1]), round(edges[-1][1])

    return _mix(_sliced(slice_of), exact=False, source=source)


def from_lengths(lengths: Sequence[int], source: str = "lengths") -> LengthDistribution:
    """A mix from observed lengths (at least one); the mean is kept up to the rounding to whole tokens."""
    ordered = sorted(lengths)
    count = len(ordered)
    if count <= SLICES:
        return _mix(((tokens, 1 / count) for tokens in ordered), exact=False, source=source)

    def slice_of(low: float, high: float) -> tuple[float, int, int]:
        part = ordered[round(low * count) : round(high * count)]
        return math.fsum(part) / len(part), part[0], part[-1]

    return _mix(_sliced(slice_of), exact=False, source=source)


def measured_lengths(mix: LengthDistribution, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths to measure, ascending: the mix's own if it is exact, else the lengths asked for, else a grid.

    The grid is geometric, from the 5 % quantile (at least a 64th of the longest) to the longest length, rounded
    outwards to the steps that kernels like.
    """
    if mix.exact:
        return mix.tokens
    if asked:
        return tuple(sorted(set(asked)))
    longest = mix.tokens[-1]
    step = _step(longest)
    high = _ceil_to(longest, step)
    low = max(_shortest_that_counts(mix) // step * step, _ceil_to(high / LARGEST_SPAN, step))
    ratio = (high / low) ** (1 / (GRID_POINTS - 1))
    return tuple(sorted({round(low * ratio**point / step) * step for point in range(GRID_POINTS)}))


def held_out_length(mix: LengthDistribution, measured: tuple[int, ...]) -> int | None:
    """The geometric middle of the grid segment that carries most tokens.

    None where nothing is interpolated: the mix is exact, or no segment has room for a length between its ends.
    """
    if mix.exact:
        return None
    step = _step(measured[-1])
    segments = [(low, high) for low, high in pairwise(measured) if low < _middle(low, high, step) < high]
    if not segments:
        return None
    low, high = max(segments, key=lambda ends: _tokens_between(mix, *ends))
    return _middle(low, high, step)


def draw_rows(mix: LengthDistribution, shape: Shape, batching: Batching, rng: random.Random) -> tuple[int, ...]:
    """Real tokens of each row of one batch.

    bucketed: every row has `seq_len` tokens. padded: one row, at a random place, has exactly `seq_len`; the others
    are drawn from the mix among the lengths up to it (all are `seq_len` if the mix has none so short).
    """
    if batching == "bucketed":
        return (shape.seq_len,) * shape.batch_size
    fitting = [(t, s) for t, s in zip(mix.tokens, mix.shares, strict=True) if t <= shape.seq_len]
    tokens, shares = zip(*fitting, strict=True) if fitting else ((shape.seq_len,), (1.0,))
    rows = rng.choices(tokens, shares, k=shape.batch_size)
    rows[rng.randrange(shape.batch_size)] = shape.seq_len
    return tuple(rows)


def _mix(pairs: Iterable[tuple[int, float]], exact: bool, source: str) -> LengthDistribution:
    """The distribution of (tokens, share) pairs: ascending, distinct, without empty shares, summing to 1."""
    by_tokens: dict[int, list[float]] = {}
    for tokens, share in pairs:
        by_tokens.setdefault(tokens, []).append(share)
    sums = {tokens: math.fsum(by_tokens[tokens]) for tokens in sorted(by_tokens)}
    total = math.fsum(sums.values())
    kept = {tokens: share / total for tokens, share in sums.items() if share > 0}
    return LengthDistribution(tuple(kept), tuple(kept.values()), exact, source)


def _sliced(slice_of: Callable[[float, float], tuple[float, int, int]]) -> Iterable[tuple[int, float]]:
    """Slices of equal share as (tokens, share): each by its mean length.

    The last is given by its two ends, weighted so that its mean stays, because the longest length must be in the
    mix: it is what the served model must hold. `slice_of(low, high)` is (mean, shortest, longest) of a slice.
    """
    share = 1 / SLICES
    for index in range(SLICES - 1):
        yield max(1, round(slice_of(index * share, (index + 1) * share)[0])), share
    mean, shortest, longest = slice_of(1 - share, 1.0)
    weight = (mean - shortest) / (longest - shortest) if longest > shortest else 1.0
    yield shortest, share * (1 - weight)
    yield longest, share * weight


def _quantile(points: Sequence[tuple[float, int]], share: float) -> float:
    """Tokens at a cumulative share, linear between the points given."""
    for (low, shorter), (high, longer) in pairwise(points):
        if share <= high:
            return shorter + (longer - shorter) * (share - low) / (high - low)
    return points[-1][1]


def _shortest_that_counts(mix: LengthDistribution) -> int:
    """The 5 % quantile of the mix."""
    return next(tokens for tokens in mix.tokens if mix.share_up_to(tokens) >= SHORTEST_SHARE)


def _tokens_between(mix: LengthDistribution, low: int, high: int) -> float:
    """Expected tokens per request from requests longer than `low` and at most `high`."""
    return math.fsum(t * s for t, s in zip(mix.tokens, mix.shares, strict=True) if low < t <= high)


def _middle(low: int, high: int, step: int) -> int:
    """Geometric middle of two lengths, on a step."""
    return round(math.sqrt(low * high) / step) * step


def _step(longest: int) -> int:
    """Lengths are multiples of 64, as kernels like them; of 8 where 64 would be too coarse for short texts."""
    return 64 if longest > 512 else 8


def _ceil_to(value: float, step: int) -> int:
    """The smallest multiple of `step` that is at least `value` and at least one step."""
    return max(step, math.ceil(value / step) * step)
