"""What one assumption at a time does to the saving: how far it moves, and where it turns into a loss; pure.

saving(factor)  today's value ── outwards in steps ──▶ first step on which "something is saved" changes ── bisected
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from castbench.cost.capacity import fleet_for
from castbench.cost.contest import Contest
from castbench.cost.demand import seconds_per_request
from castbench.cost.outlook_nouns import Factor, Moved
from castbench.cost.surface import LatencySurface
from castbench.workload.spec import Demand, LengthDistribution

PRICE_MOVES = 0.20
RATE_MOVES = 0.25
LENGTHS_MOVE = 0.25
UTILIZATION_MOVES = 0.10
ATTENTION_MOVES = 0.10
"""The last two in absolute terms: 10 points."""
_STEPS = 60
"""Steps in which a factor is followed outwards to either end of what is searched."""
_HALVINGS = 40
_LEAST_SHARE = 0.01


Saving = Callable[[float], float | None]
"""USD per hour that are saved at a value of the factor; None where nothing was measured for it."""


def sensitivity(contest: Contest) -> tuple[Factor, ...]:
    """Every factor, the one that moves the saving most first; empty where no money is known, or nothing is asked."""
    if contest.price is None or contest.demand is None or contest.demand.requests_per_second == 0:
        return ()
    return tuple(sorted(_factors(contest, contest.demand), key=lambda factor: factor.low - factor.high))


def _factors(contest: Contest, demand: Demand) -> Iterator[Factor]:
    """The factors in the order in which they are explained."""
    assert contest.price is not None
    usd, rate, busy = contest.price.usd_per_hour, demand.requests_per_second, demand.max_utilization
    yield _price(contest, demand, usd)
    yield _factor(
        Moved.RATE, rate, rate * (1 - RATE_MOVES), rate * (1 + RATE_MOVES), (rate / 10, rate * 10),
        lambda value: _saving(contest, replace(demand, requests_per_second=value)),
    )  # fmt: skip
    yield _factor(
        Moved.UTILIZATION, busy, max(_LEAST_SHARE, busy - UTILIZATION_MOVES), min(1.0, busy + UTILIZATION_MOVES),
        (_LEAST_SHARE, 1.0), lambda value: _saving(contest, replace(demand, max_utilization=value)),
    )  # fmt: skip
    yield _times(contest, demand)
    yield _lengths(contest, demand)
    if contest.attention_share is not None:
        yield _attention(contest, demand, contest.attention_share, float(contest.today_s[0]))


def _price(contest: Contest, demand: Demand, usd: float) -> Factor:
    """The price: it scales both bills alike, so it cannot turn a saving into a loss."""
    now = _saving(contest, demand)
    assert now is not None
    lower, upper = 1 - PRICE_MOVES, 1 + PRICE_MOVES
    return Factor(Moved.PRICE, usd, usd * lower, usd * upper, now, now * lower, now * upper, None, None)


def _times(contest: Contest, demand: Demand) -> Factor:
    """The subject's time over the baseline's within its 95 % range, the baseline's time as measured."""
    base_s = float(contest.baseline_s[0])
    ratio = float(contest.subject_s[0]) / base_s
    speedup = contest.subject.speedup
    ends = [1 / end for end in (speedup.high, speedup.low) if end] if speedup is not None else []
    lower, upper = ends if len(ends) > 1 else (ratio, ratio)
    return _factor(
        Moved.TIMES, ratio, lower, upper, (ratio / 4, ratio * 4),
        lambda value: _saving(contest, demand, subject_s=value * base_s),
    )  # fmt: skip


def _lengths(contest: Contest, demand: Demand) -> Factor:
    """All requests shorter or longer, where that is within what was measured of whole requests."""
    mix, scale = contest.record.header.plan.mix, LENGTHS_MOVE
    subject, base = _point(contest.surface), _point(contest.baseline_surface)
    reach = min(subject.lengths[-1], base.lengths[-1]) / mix.tokens[-1]

    def saving(value: float) -> float | None:
        if value == 1.0:
            return _saving(contest, demand)
        if contest.attention_share is not None or value > reach:
            return None
        moved = _scaled(mix, value)
        seconds = [float(seconds_per_request(surface, moved)[0]) for surface in (subject, base)]
        return _saving(contest, demand, *seconds)

    return _factor(Moved.LENGTHS, 1.0, 1 - scale, 1 + scale, (0.25, max(1.0, reach)), saving)


def _attention(contest: Contest, demand: Demand, stated: float, today_s: float) -> Factor:
    """The share of a request that attention takes today. A request at another share a' is
    t - t_today (1 - a) + t_today a (1 - a') / a', the module's measured time being kept.
    """

    def saving(value: float) -> float | None:
        rest_s = today_s * stated * (1 - value) / value - today_s * (1 - stated)
        seconds = [float(drawn[0]) + rest_s for drawn in (contest.subject_s, contest.baseline_s)]
        return _saving(contest, demand, *seconds)

    lower, upper = max(_LEAST_SHARE, stated - ATTENTION_MOVES), min(1.0, stated + ATTENTION_MOVES)
    return _factor(Moved.ATTENTION, stated, lower, upper, (_LEAST_SHARE, 1.0), saving)


def _factor(
    moved: Moved, base: float, lower: float, upper: float, searched: tuple[float, float], saving: Saving
) -> Factor:
    """A factor with the savings at its ends and the value at which the decision flips."""
    now = saving(base)
    assert now is not None  # as measured
    return Factor(
        moved, base, lower, upper, now, saving(lower), saving(upper), flip(saving, base, searched), searched
    )  # fmt: skip


def flip(saving: Saving, base: float, searched: tuple[float, float]) -> float | None:
    """The value nearest to `base`, in its ratio, at which "something is saved" changes; None where it does not.

    Followed in geometric steps to both ends of `searched`, then bisected within the first step that differs: what
    changes and changes back within one step of the staircase is passed over.
    """
    found = [at for end in searched if (at := _flip_towards(saving, base, end)) is not None]
    return min(found, key=lambda at: abs(math.log(at / base)), default=None)


def _flip_towards(saving: Saving, base: float, end: float) -> float | None:
    """The first change on the way from `base` to `end`; where nothing was measured the way ends."""
    saves = (saving(base) or 0.0) > 0
    before = base
    for step in range(1, _STEPS + 1):
        here = base * (end / base) ** (step / _STEPS)
        found = saving(here)
        if found is None:
            return None
        if (found > 0) != saves:
            return _bisected(saving, saves, before, here)
        before = here
    return None


def _bisected(saving: Saving, saves: bool, same: float, other: float) -> float:
    """Where "something is saved" changes between two values."""
    for _ in range(_HALVINGS):
        middle = math.sqrt(same * other)
        if ((saving(middle) or 0.0) > 0) == saves:
            same = middle
        else:
            other = middle
    return other


def _saving(
    contest: Contest, demand: Demand, subject_s: float | None = None, baseline_s: float | None = None
) -> float | None:
    """USD per hour saved at a demand, in whole servers, at these or the measured seconds per request."""
    import numpy as np

    assert contest.price is not None
    asked = (
        float(contest.subject_s[0]) if subject_s is None else subject_s,
        float(contest.baseline_s[0]) if baseline_s is None else baseline_s,
    )
    mine, theirs = (fleet_for(np.array([seconds]), demand, contest.price.devices) for seconds in asked)
    return float(theirs.whole[0] - mine.whole[0]) * contest.price.usd_per_hour


def _point(surface: LatencySurface) -> LatencySurface:
    """The surface without its draws."""
    return replace(surface, step_s=tuple(drawn[:1] for drawn in surface.step_s))


def _scaled(mix: LengthDistribution, factor: float) -> LengthDistribution:
    """The mix with every length that many times as long, in whole tokens."""
    shares: dict[int, float] = {}
    for tokens, share in zip(mix.tokens, mix.shares, strict=True):
        longer = max(1, round(tokens * factor))
        shares[longer] = shares.get(longer, 0.0) + share
    return LengthDistribution(tuple(shares), tuple(shares.values()), mix.exact, mix.source)
