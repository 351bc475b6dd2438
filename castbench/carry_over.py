"""Whether a window's time depends on the arm that ran just before it: a randomisation test on the rounds' orders.

    … C │ A  C  B │ B  A  C │ …      after A: C, C; after B: B (the next round's first), A; after C: B, …

The log window means are held fixed and the orders drawn anew, just as the runner drew them: without carry-over every
draw is as likely as what was run, whatever the noise, so the p-values are exact. The size of the effect is the least
squares slope of log time on "came after A" with an effect per round and per arm.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from castbench.records import RoundRecord

LEVEL = 0.01
"""Probability, per group, of finding a carry-over where there is none."""
DRAWS = 399
"""Orders drawn at most: with them a p-value of LEVEL and less can be told."""


@dataclass(frozen=True, slots=True)
class CarryOver:
    """What windows that come right after `label` lose (above 0) or gain by it.

    effect      of log time
    adjusted_p  exact p-value, adjusted for the arms of the group by the distribution of the largest statistic, which
                is Holm's step made exact for statistics that depend on one another (Westfall and Young 1993)
    """

    label: str
    effect: float
    adjusted_p: float


@dataclass(frozen=True, slots=True)
class _Layout:
    """Log times without their round's and arm's means, by round and arm, and which rounds follow the one before."""

    labels: tuple[str, ...]
    residuals: tuple[dict[str, float], ...]
    orders: tuple[tuple[str, ...], ...]
    chained: tuple[bool, ...]


def carries_over(rounds: Sequence[RoundRecord], margin: float, fewest_rounds: int) -> bool:
    """Whether some arm of a group changes the time of what runs after it by more than `margin`, beyond chance.

    False below `fewest_rounds` rounds that hold the same arms: too few orders to tell.
    """
    return any(c.adjusted_p <= LEVEL for c in carry_over(rounds, margin, fewest_rounds))


def carry_over(rounds: Sequence[RoundRecord], margin: float, fewest_rounds: int) -> tuple[CarryOver, ...]:
    """Effect and p-value per arm. The p-value of an arm whose effect is within `margin` is not worked out, and 1."""
    layout = _layout(rounds)
    if len(layout.orders) < fewest_rounds or len(layout.labels) < 2:
        return ()
    seen = _slopes(layout, layout.orders)
    suspects = {label: strength for label, (slope, strength) in seen.items() if abs(slope) > margin}
    p_values = _adjusted(layout, suspects) if suspects else {}
    return tuple(CarryOver(label, slope, p_values.get(label, 1.0)) for label, (slope, _) in seen.items())


def _adjusted(layout: _Layout, suspects: dict[str, float]) -> dict[str, float]:
    """Share of orders drawn anew whose largest statistic reaches each suspect's; ends early when none can pass."""
    draw = random.Random(len(layout.orders))
    reached = dict.fromkeys(suspects, 0)
    for drawn in range(1, DRAWS + 1):
        orders = [tuple(draw.sample(order, len(order))) for order in layout.orders]
        largest = max((strength for _, strength in _slopes(layout, orders).values()), default=0.0)
        for label, strength in suspects.items():
            reached[label] += largest >= strength * (1 - 1e-9)
        if min(reached.values()) >= LEVEL * (DRAWS + 1):
            return {label: (count + 1) / (drawn + 1) for label, count in reached.items()}
    return {label: (count + 1) / (DRAWS + 1) for label, count in reached.items()}


def _slopes(layout: _Layout, orders: Sequence[tuple[str, ...]]) -> dict[str, tuple[float, float]]:
    """Per arm: slope of the residuals on "came after it", and the slope's absolute value in units of its spread.

    With an effect per round and arm the slope is sum(z d) / sum(d'^2), where d says what came after the arm and d'
    is d without its round's and arm's means; z is free of them already.
    """
    followers: dict[str, list[tuple[int, str]]] = {label: [] for label in layout.labels}
    for place, before, next_arm in _successions(orders, layout.chained):
        if before in followers and next_arm in followers:
            followers[before].append((place, next_arm))
    found = {}
    for label, came_after in followers.items():
        spread = _spread(came_after, len(layout.orders), len(layout.labels))
        if spread > 0:
            total = math.fsum(layout.residuals[place][arm] for place, arm in came_after)
            found[label] = (total / spread, abs(total) / math.sqrt(spread))
    return found


def _successions(orders: Sequence[tuple[str, ...]], chained: Sequence[bool]) -> Iterator[tuple[int, str, str]]:
    """(number of the round, arm, what came right before it), over the ends of chained rounds too."""
    for place, order in enumerate(orders):
        if chained[place]:
            yield place, orders[place - 1][-1], order[0]
        for before, after in pairwise(order):
            yield place, before, after


def _spread(came_after: Sequence[tuple[int, str]], rounds: int, arms: int) -> float:
    """Sum of squares of the indicator of those windows, without its round and arm means."""
    by_round: dict[int, int] = {}
    by_arm: dict[str, int] = {}
    for place, arm in came_after:
        by_round[place] = by_round.get(place, 0) + 1
        by_arm[arm] = by_arm.get(arm, 0) + 1
    of_rounds = sum(n * n for n in by_round.values()) / arms
    of_arms = sum(n * n for n in by_arm.values()) / rounds
    return len(came_after) - of_rounds - of_arms + len(came_after) ** 2 / (rounds * arms)


def _layout(rounds: Sequence[RoundRecord]) -> _Layout:
    """The rounds in the order they were run, the arms that every one of them holds, and their residuals."""
    ordered = sorted(rounds, key=lambda r: (r.epoch, r.round))
    times = [{s.label: math.log(s.mean_step_s) for s in r.samples} for r in ordered]
    labels = tuple(sorted(set.intersection(*map(set, times)))) if times else ()
    of_round = [fmean(logs[label] for label in labels) if labels else 0.0 for logs in times]
    of_arm = {label: fmean(logs[label] for logs in times) for label in labels}
    overall = fmean(of_round) if of_round else 0.0
    residuals = tuple(
        {label: logs[label] - level - of_arm[label] + overall for label in labels}
        for logs, level in zip(times, of_round, strict=True)
    )
    orders = tuple(tuple(s.label for s in sorted(r.samples, key=lambda s: s.order)) for r in ordered)
    chained = (False, *((b.epoch, b.round) == (a.epoch, a.round + 1) for a, b in pairwise(ordered)))
    return _Layout(labels, residuals, orders, chained[: len(ordered)])
