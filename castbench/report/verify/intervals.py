"""Intervals, tests and quantiles by other ways than stats.py goes: tests inverted by ranks, densities integrated.

Shares no code with stats.py, findings.py or cost/: a mistake on either side shows as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

Ends = tuple[float | None, float | None]


def estimate(name: str, value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    """A number with its interval, by name."""
    return {f"{name}.value": value, f"{name}.low": low, f"{name}.high": high}


def pseudo_median(values: Sequence[float]) -> float:
    """Median of the averages of all pairs, a value with itself included."""
    import numpy as np

    return float(np.median(_averages(values)))


def signed_rank_interval(values: Sequence[float], error: float | None) -> Ends:
    """The centres that the signed-rank test of level `error` does not reject: ranks are counted at every candidate.

    The statistic only changes at averages of pairs, so one candidate between each two neighbours is enough.
    """
    import numpy as np

    below = _null_distribution(len(values))
    if error is None or below[0] > error / 2:
        return None, None
    edges = _averages(values)
    scale = max(1.0, float(np.abs(edges).max()))
    real = np.flatnonzero(np.diff(edges) > 1e-13 * scale)
    between = (edges[real] + edges[real + 1]) / 2
    away = np.asarray(values)[None, :] - between[:, None]
    ranks = np.abs(away).argsort(axis=1, kind="stable").argsort(axis=1) + 1
    plus = np.where(away > 0, ranks, 0).sum(axis=1)
    kept = real[below[np.minimum(plus, below.size - 1 - plus)] > error / 2]
    if not kept.size:  # so many equal values that the interval is a point
        return float(np.median(edges)), float(np.median(edges))
    return float(edges[kept[0]]), float(edges[kept[-1] + 1])


def signed_rank_p(values: Sequence[float], claim: str, margin: float) -> float:
    """Doubled one-sided p-value of the signed-rank test that a claim is wrong; 1 for no claim.

    FASTER: the centre is not below -margin. SLOWER: not above margin. SAME: the larger of both sides' p-values.
    """
    against = {
        "FASTER": [[v + margin for v in values]],
        "SLOWER": [[margin - v for v in values]],
        "SAME": [[-margin - v for v in values], [v - margin for v in values]],
    }.get(claim)
    return 1.0 if against is None else min(1.0, 2 * max(map(_as_little_against, against)))


def verdict_of(ends: Ends, margin: float) -> str:
    """What an interval of a log ratio says against a margin."""
    low, high = ends
    if low is None or high is None:
        return "UNCLEAR"
    is_in = max(abs(low), abs(high)) <= margin
    return "FASTER" if high < -margin else "SLOWER" if low > margin else "SAME" if is_in else "UNCLEAR"


def last_error(rounds: int, looks: Sequence[int], errors: Sequence[float]) -> float | None:
    """Error of the interval after `rounds` rounds: of the look it is, else what no look before has spent."""
    if rounds < min(looks):
        return None
    by_look = dict(zip(looks, errors, strict=True))
    unspent = sum((Fraction(e) for look, e in by_look.items() if look > rounds), Fraction(0))
    return by_look.get(rounds) or (float(unspent) if unspent else errors[-1])


def step_down(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: each the largest, over all no larger ones, of p times how many are no smaller."""
    ranked = sorted(p_values)
    steps = [min(1.0, p * (len(ranked) - place)) for place, p in enumerate(ranked)]
    return [max(steps[: ranked.index(p) + ranked.count(p)]) for p in p_values]


def order_statistic(values: Sequence[float], percent: int, at_least: int) -> float | None:
    """The smallest value that at least `percent` of all values do not exceed; None below `at_least` values."""
    if not values or len(values) < at_least:
        return None
    place = -(-percent * len(values) // 100)
    return sorted(values)[max(place, 1) - 1]


def mean_with_t(values: Sequence[float], at_least: int) -> tuple[float, float | None]:
    """Mean, and the half-width of its 95 % t interval; None for the latter below `at_least` values."""
    import numpy as np

    mean = float(np.mean(values))
    if len(values) < at_least:
        return mean, None
    return mean, t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def t_quantile(degrees: int) -> float:
    """The 97.5 % point of Student's t, from its density integrated by Gauss and Legendre's rule.

    With t = sqrt(degrees) tan(angle) the density is proportional to cos(angle)^(degrees - 1).
    """
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(64)
    total = math.sqrt(math.pi) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)) / 2

    def area(angle: float) -> float:
        return float((weights * np.cos((nodes + 1) * angle / 2) ** (degrees - 1)).sum()) * angle / 2

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) < 0.475 * 2 * total else (low, middle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _averages(values: Sequence[float]) -> Vector:
    """Averages of all pairs, ascending."""
    import numpy as np

    array = np.asarray(values, dtype=float)
    first, second = np.triu_indices(array.size)
    averages: Vector = np.sort((array[first] + array[second]) / 2)
    return averages


def _null_distribution(n: int) -> Vector:
    """P(statistic <= total) for every total: each rank is added or not, with even chances."""
    import numpy as np

    chances = np.ones(1)
    for rank in range(1, n + 1):
        coin = np.zeros(rank + 1)
        coin[0] = coin[rank] = 0.5
        chances = np.convolve(chances, coin)
    return np.cumsum(chances)


def _as_little_against(wrong: Sequence[float]) -> float:
    """Chance, were the centre of `wrong` 0, of no larger a sum of ranks of the values above 0."""
    ranked = sorted(wrong, key=abs)
    against = sum(rank for rank, value in enumerate(ranked, 1) if value > 0)
    return float(_null_distribution(len(wrong))[against])
