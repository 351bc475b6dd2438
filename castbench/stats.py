"""Statistics on paired rounds: Hodges-Lehmann estimates, exact signed-rank intervals, looks, verdicts.

The estimand is the pseudo-median over rounds of log(window mean / baseline's window mean). Under a fresh uniform
order per round the signs of these paired values are independent whatever the drift, so the signed-rank interval is
exact. Sources: Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd ed., 3.2-3.3; Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import fmean

P95_MIN_STEPS = 72
P99_MIN_STEPS = 368
"""Fewest steps for which an upper percentile is given: with fewer, no order statistic bounds it."""


class Verdict(StrEnum):
    """What an interval of a log time ratio says against a margin."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"
    BASELINE = "BASELINE"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; low and high are None where no interval can be given."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float:
        """Half the interval's width; infinite without an interval."""
        return math.inf if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Look:
    """Where a sequence of rounds stands: whether now is a look, and the error its interval may use."""

    is_look: bool
    error: float | None


def planned_look(rounds: int, looks: Sequence[int], errors: Sequence[float]) -> Look:
    """The look that falls exactly on `rounds`, with the error spent at it."""
    for at, error in zip(looks, errors, strict=True):
        if rounds == at:
            return Look(True, error)
    return Look(False, None)


def final_error(rounds: int, looks: Sequence[int], errors: Sequence[float]) -> float | None:
    """Error for the interval of a sequence that ended after `rounds` rounds; None below the first look.

    On a look: the error of that look. Between looks (a cut decided by time alone): all the error not yet spent.
    """
    if rounds < looks[0]:
        return None
    here = planned_look(rounds, looks, errors)
    if here.error is not None:
        return here.error
    spent = math.fsum(error for at, error in zip(looks, errors, strict=True) if at <= rounds)
    total = math.fsum(errors)
    return total - spent if total > spent else errors[-1]


def hodges_lehmann(walsh: Sequence[float]) -> float:
    """The pseudo-median: the median of all pairwise (Walsh) averages, which are given ascending."""
    middle = len(walsh) // 2
    return walsh[middle] if len(walsh) % 2 else (walsh[middle - 1] + walsh[middle]) / 2


def signed_rank_estimate(values: Sequence[float], error: float | None) -> Estimate:
    """Pseudo-median with its exact signed-rank interval of level 1 - `error`; no interval for error None
    or where so few values cannot reach that level.
    """
    walsh = _walsh(values)
    value = hodges_lehmann(walsh)
    if error is None:
        return Estimate(value)
    rank = _critical_rank(len(values), error)
    if rank == 0:
        return Estimate(value)
    return Estimate(value, walsh[rank - 1], walsh[len(walsh) - rank])


def judge(log_ratio: Estimate, same_within: float) -> Verdict:
    """FASTER or SLOWER when the interval lies wholly beyond the margin, SAME when wholly within, else UNCLEAR."""
    if log_ratio.low is None or log_ratio.high is None:
        return Verdict.UNCLEAR
    if log_ratio.high < -same_within:
        return Verdict.FASTER
    if log_ratio.low > same_within:
        return Verdict.SLOWER
    if -same_within <= log_ratio.low and log_ratio.high <= same_within:
        return Verdict.SAME
    return Verdict.UNCLEAR


def claim_p_value(log_ratios: Sequence[float], margin: float, claim: Verdict) -> float:
    """Exact signed-rank p-value of the hypothesis that a claim is wrong, for one look at a fixed number of values.

    At most `error` exactly where the interval of level 1 - `error` gives the claim's verdict: the one-sided p-value,
    doubled. FASTER is tested against "the centre is not below -margin", SLOWER against "not above margin", SAME
    against both "at or below -margin" and "at or above margin" (two one-sided tests; Schuirmann 1987). No other
    verdict claims anything: 1.
    """
    walsh = _walsh(log_ratios)
    below = _lower_tail(len(log_ratios), sum(average >= -margin for average in walsh))
    above = _lower_tail(len(log_ratios), sum(average <= margin for average in walsh))
    if claim is Verdict.FASTER:
        return min(1.0, 2 * below)
    if claim is Verdict.SLOWER:
        return min(1.0, 2 * above)
    if claim is Verdict.SAME:
        not_low = _lower_tail(len(log_ratios), sum(average < -margin for average in walsh))
        not_high = _lower_tail(len(log_ratios), sum(average > margin for average in walsh))
        return min(1.0, 2 * max(not_low, not_high))
    return 1.0


def sequential_p_value(
    log_ratios: Sequence[float], margin: float, claim: Verdict, looks: Sequence[int], errors: Sequence[float]
) -> float:
    """`claim_p_value` at the look that stopped the rounds, made valid for all the looks there could have been.

    Bonferroni spending: multiplied by the whole error over the error of that look. So it falls to `a` or below at
    any look with probability at most `a`, and is at most the whole error exactly where that look gives the verdict.
    1 below the first look.
    """
    error = final_error(len(log_ratios), looks, errors)
    if error is None:
        return 1.0
    return min(1.0, claim_p_value(log_ratios, margin, claim) * math.fsum(errors) / error)


def is_settled(log_ratio: Estimate, same_within: float, target_ci: float) -> bool:
    """Whether more rounds would tell nothing new: a clear verdict, or the interval is narrow enough."""
    return log_ratio.half_width <= target_ci or judge(log_ratio, same_within) is not Verdict.UNCLEAR


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def mean_by_epochs(values: Sequence[float], epochs: Sequence[int]) -> Estimate:
    """Mean with a 95 % t interval over epoch means: one process is one draw of memory layout and tuning.

    No interval below 3 epochs. With unequal epochs the value is the mean of the epoch means.
    """
    means = [fmean(v for v, e in zip(values, epochs, strict=True) if e == epoch) for epoch in sorted(set(epochs))]
    value = fmean(means)
    if len(means) < 3:
        return Estimate(value)
    half = t_half_width(means)
    return Estimate(value, max(0.0, value - half), value + half)


def t_half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % t interval of the mean of at least two values."""
    mean = fmean(values)
    # As statistics.stdev, which works in fractions and takes thirty times as long.
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return student_t_975(len(values) - 1) * spread / math.sqrt(len(values))


def student_t_975(degrees: int) -> float:
    """The 97.5 % quantile of Student's t."""
    return student_t_quantile(0.975, degrees)


@lru_cache(maxsize=256)
def student_t_quantile(share: float, degrees: int) -> float:
    """A quantile of Student's t for a share of 0.5 or more, by bisection on its exact distribution function."""
    low, high = 0.0, 20.0
    while student_t_share(high, degrees) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_share(middle, degrees) < share else (low, middle)
    return high


def student_t_share(t: float, degrees: int) -> float:
    """Share of Student's t distribution below t, for whole degrees of freedom (finite trigonometric sums,
    Abramowitz and Stegun 26.7.3-26.7.4).
    """
    theta = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(theta)
    odd = degrees % 2 == 1
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    area = (theta + math.sin(theta) * total) * 2 / math.pi if odd else math.sin(theta) * total
    return 0.5 + area / 2


def percentile(values: Sequence[float], share: float, at_least: int) -> float | None:
    """Empirical quantile (the ceil(share*n)-th smallest); None below `at_least` values."""
    if len(values) < max(1, at_least):
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _walsh(values: Sequence[float]) -> list[float]:
    """All averages of two values, a value with itself included, ascending."""
    n = len(values)
    return sorted((values[i] + values[j]) / 2 for i in range(n) for j in range(i, n))


@lru_cache(maxsize=256)
def _critical_rank(n: int, error: float) -> int:
    """Largest r such that [r-th smallest, r-th largest] Walsh average covers with at least 1 - error; 0 if none."""
    tail = error / 2
    cumulative = 0.0
    for rank, count in enumerate(_signed_rank_counts(n)):
        cumulative += count / 2.0**n
        if cumulative > tail:
            return rank
    return 0


def _lower_tail(n: int, total: int) -> float:
    """Probability that the signed-rank statistic of n values symmetric about 0 is at most `total`."""
    return sum(_signed_rank_counts(n)[: total + 1]) / (1 << n)


@lru_cache(maxsize=256)
def _signed_rank_counts(n: int) -> tuple[int, ...]:
    """Number of subsets of {1..n} with each sum: the null distribution of the signed-rank statistic."""
    counts = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(counts) - 1, rank - 1, -1):
            counts[total] += counts[total - rank]
    return tuple(counts)
