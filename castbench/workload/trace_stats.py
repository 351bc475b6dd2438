"""What a trace says of traffic and lengths: rate, burstiness, gaps, and quantiles whose straight lines keep the mean.

Source of the squared coefficient of variation as the measure of burstiness: Whitt, The Queueing Network Analyzer,
Bell System Technical Journal 62 (1983); random (Poisson) arrivals have 1, a clock 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

BASE_PERCENTS = (0.0, 1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 100.0)
MOST_PERCENTS = 40
LINES_WITHIN = 0.005
"""Area between the quantiles and their straight lines that is let stand, over the mean. What lies above a line and what
lies below partly cancel in the mean, so that it is kept more closely still.
"""
LINES_WITHIN_OF_FEW = 0.3
"""The same over the root of the number of requests, where that is more: lines need not follow chance."""
_MOST_DECIMALS = 4
"""Of a percentile in a profile."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Peak:
    """The busiest window of this length: its requests, and how many times the mean that is."""

    window_s: float
    requests: int
    over_mean: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Arrivals of a trace.

    requests_per_second   one over the mean gap
    squared_cv            variance of the gaps between requests over their squared mean
    busiest_second, busiest_minute   windows count from the first request; None where the trace is no longer than one
    longest_gap_s, longest_gap_at_s   the longest time without a request, and when it began
    idle_seconds          share of the seconds of the trace in which no request came
    same_time             requests at the very time of the one before
    smallest_step_s       the smallest time between two requests that differ in it: how fine the trace's clock is
    """

    requests: int
    span_s: float
    requests_per_second: float
    squared_cv: float
    busiest_second: Peak | None
    busiest_minute: Peak | None
    longest_gap_s: float
    longest_gap_at_s: float
    idle_seconds: float
    same_time: int
    smallest_step_s: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of a trace: mean, and (percent, tokens) from p0 to p100.

    mean_of_lines   the mean of the distribution that is linear between these quantiles
    """

    mean_tokens: float
    quantiles: tuple[tuple[float, int], ...]
    mean_of_lines: float

    def at(self, percent: float) -> int:
        """One of the quantiles; KeyError if it is none of them."""
        return dict(self.quantiles)[percent]


def traffic(arrival_s: NDArray[np.float64]) -> Traffic:
    """Traffic of times in seconds, ascending from 0, at least two and not all the same."""
    import numpy as np

    count, span_s = len(arrival_s), float(arrival_s[-1])
    mean_s = span_s / (count - 1)
    squares, same, longest, longest_at, smallest = [], 0, 0.0, 0.0, math.inf
    for start, gaps in _gaps(arrival_s):
        squares.append(float(np.square(gaps - mean_s).sum()))
        positive = gaps[gaps > 0]
        same += len(gaps) - len(positive)
        smallest = min(smallest, float(positive.min(initial=math.inf)))
        place = int(gaps.argmax())
        if gaps[place] > longest:
            longest, longest_at = float(gaps[place]), float(arrival_s[start + place])
    per_second = _counts(arrival_s, 1.0)
    return Traffic(
        count, span_s, 1 / mean_s, math.fsum(squares) / (count - 1) / mean_s**2,
        _peak(per_second, 1.0, mean_s, span_s), _peak(_counts(arrival_s, 60.0), 60.0, mean_s, span_s),
        longest, longest_at, 1 - len(per_second) / (math.floor(span_s) + 1), same, smallest,
    )  # fmt: skip


def lengths(tokens: NDArray[np.int32]) -> Lengths:
    """Mean and quantiles of at least one length.

    The quantiles are those of BASE_PERCENTS, and between them as many more as it takes for the straight lines to lie
    close to the observed ones: always the segment that is furthest off is halved.
    """
    import numpy as np

    ordered = np.sort(tokens)
    mean = float(ordered.mean(dtype=np.float64))
    percents = list(BASE_PERCENTS)
    within = max(LINES_WITHIN, LINES_WITHIN_OF_FEW / math.sqrt(len(ordered)))
    known: dict[tuple[float, float], float] = {}
    while len(percents) < MOST_PERCENTS:
        for ends in pairwise(percents):
            if ends not in known:
                known[ends] = _area_off(ordered, *ends)
        areas = [known[ends] for ends in pairwise(percents)]
        if sum(areas) <= within * mean:
            break
        middle = _middle(percents, areas, len(ordered))
        if middle is None:
            break
        percents = sorted({*percents, middle})
    points = tuple((percent, _quantile(ordered, percent)) for percent in percents)
    area = math.fsum((high - low) / 100 * (a + b) / 2 for (low, a), (high, b) in pairwise(points))
    return Lengths(mean, points, area)


def _gaps(arrival_s: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Times between requests chunk by chunk, each with the place of the request it begins at."""
    import numpy as np

    for start in range(0, len(arrival_s) - 1, _CHUNK):
        yield start, np.diff(arrival_s[start : start + _CHUNK + 1])


def _counts(arrival_s: NDArray[np.float64], window_s: float) -> NDArray[np.intp]:
    """Requests in every window that has one; windows count from 0."""
    import numpy as np

    windows = np.floor_divide(arrival_s, window_s)
    edges = np.flatnonzero(windows[1:] != windows[:-1]) + 1
    return np.diff(np.concatenate(([0], edges, [len(windows)])))


def _peak(counts: NDArray[np.intp], window_s: float, mean_s: float, span_s: float) -> Peak | None:
    """The busiest window; None in a trace that is not longer than one."""
    if span_s <= window_s:
        return None
    most = int(counts.max())
    return Peak(window_s, most, most * mean_s / window_s)


def _quantile(ordered: NDArray[np.int32], percent: float) -> int:
    """A length at a rank, linear between the two nearest, to whole tokens (numpy's and Excel's usual quantile)."""
    rank = (len(ordered) - 1) * percent / 100
    below = math.floor(rank)
    low, high = int(ordered[below]), int(ordered[min(below + 1, len(ordered) - 1)])
    return round(low + (high - low) * (rank - below))


def _area_off(ordered: NDArray[np.int32], low: float, high: float) -> float:
    """Area between the lengths of two percentiles and the straight line from one to the other."""
    import numpy as np

    count = len(ordered)
    first, last = round((count - 1) * low / 100), round((count - 1) * high / 100)
    if last - first < 2:
        return 0.0
    area = 0.0
    start, end = int(ordered[first]), int(ordered[last])
    for begin in range(first, last, _CHUNK):
        place = np.arange(begin, min(begin + _CHUNK, last))
        line = start + (end - start) * (place - first) / (last - first)
        area += float(np.abs(ordered[place[0] : place[-1] + 1] - line).sum())
    return area / count


def _middle(percents: list[float], areas: list[float], count: int) -> float | None:
    """A percentile in the middle half of the segment furthest off among those that can be cut; None if there is none.

    As few decimals as will do: 97 between 95 and 99, 98.5 between 98 and 99.
    """
    for place in sorted(range(len(areas)), key=areas.__getitem__, reverse=True):
        low, high = percents[place], percents[place + 1]
        quarter = (high - low) / 4
        if areas[place] == 0 or quarter < 25 / count:  # nothing to gain, or fewer than four requests to cut
            continue
        for decimals in range(_MOST_DECIMALS + 1):
            middle = round((low + high) / 2, decimals)
            if low + quarter <= middle <= high - quarter:
                return middle
    return None
