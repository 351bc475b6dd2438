"""The answer of the capacity stage for one mechanism: the best way of batching, replicas with proof, units, interval.

traffic ─┐
service ─┼▶ policies tried ─▶ fewest replicas ─▶ billing units, fraction, speed-up that drops a unit
objective┘                         │         └─▶ interval by block bootstrap of the traffic
                                   └─▶ beside it: what a formula would say, never used alone
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from castbench.cost.objective import Objective
from castbench.cost.quantiles import rank_of
from castbench.cost.queueing import servers_by_formula
from castbench.cost.replay import BatchingPolicy, Replay
from castbench.cost.service import Service
from castbench.cost.sizing import Factor, Setting, Sizing, fraction_of, size_fleet, speedup_for
from castbench.cost.traffic import BLOCK_S
from castbench.errors import InputError
from castbench.said import Quantity, Statement, Unit, statement

WINDOWS_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Batch windows tried: up to where waiting for company costs a good part of usual objectives."""
FORMULA_QUANTILES = 400
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class PolicyTrial:
    """One way of batching: the fewest replicas it needs, or None where it needs more than the best one, or has none.

    used     largest share of a limit that is used up at that number, 1 at most: what breaks ties
    """

    policy: BatchingPolicy
    needed: int | None
    used: float | None
    reason: Statement | None = None


@dataclass(frozen=True, slots=True)
class ReplicaInterval:
    """Fewest replicas over resampled traffic: the middle `level` of them, and how often each came out.

    impossible   resamples that no number of replicas serves; they count as more than any number
    """

    level: float
    low: int | None
    high: int | None
    shares: tuple[tuple[int, float], ...]
    resamples: int
    impossible: int
    block_s: float


@dataclass(frozen=True, slots=True)
class Units:
    """What is bought: whole billing units of `replicas_per_unit` replicas, and how close the next step is.

    fractional        units needed before rounding up, floor and spare left out
    speedup_to_drop   how many times as fast the model must be for one unit fewer to do; see `speedup_for`
    """

    whole: int
    replicas_per_unit: int
    fractional: float
    speedup_to_drop: Factor

    @property
    def replicas(self) -> int:
        """Replicas that run in the units bought."""
        return self.whole * self.replicas_per_unit


@dataclass(frozen=True, slots=True, eq=False)
class CapacityPlan:
    """Everything said of one mechanism's capacity.

    setting     as asked, with the best policy
    sizing      its fewest replicas; where `sizing.needed` is None, units, outcome and interval are None too
    outcome     the replay through the replicas that are bought
    formula     servers by the G/G/c formula, for comparison; None where it finds none
    """

    setting: Setting
    trials: tuple[PolicyTrial, ...]
    sizing: Sizing
    units: Units | None
    outcome: Replay | None
    interval: ReplicaInterval | None
    formula: int | None

    @property
    def bought_range(self) -> tuple[int, int | None] | None:
        """The interval in replicas as bought, in whole units with floor and spare, stretched to hold what is bought.

        No upper end: more than any number. None where there is no interval.
        """
        if self.units is None or self.interval is None:
            return None
        low, high = self._bought(self.interval.low), self._bought(self.interval.high)
        bought = self.units.replicas
        return bought if low is None else min(low, bought), None if high is None else max(high, bought)

    def _bought(self, needed: int | None) -> int | None:
        """Replicas in the units that so many would be bought in."""
        if needed is None or self.units is None:
            return None
        per_unit = self.units.replicas_per_unit
        return units_for(self.setting.objective.bought(needed), per_unit) * per_unit


def plan_capacity(
    setting: Setting, policies: Sequence[BatchingPolicy] = (), *, replicas_per_unit: int = 1,
    resamples: int = RESAMPLES, block_s: float = BLOCK_S, services: Sequence[Service] = (),
    on_resample: Callable[[int], None] | None = None,
) -> CapacityPlan:  # fmt: skip
    """Size a fleet: the best of `policies` (by default the setting's own; see `policies_for`), units, interval.

    resamples: 0 leaves the interval out. services: draws of the service time for it. The seed fixes draws of rounds
    and blocks, the same for every mechanism, so that two mechanisms' intervals are paired. InputError for lengths or
    batches beyond those measured.
    """
    trials = try_policies(setting, policies or (setting.policy,))
    best = replace(setting, policy=best_trial(trials).policy)
    sizing = size_fleet(best)
    formula = formula_servers(best)
    if sizing.needed is None:
        return CapacityPlan(best, trials, sizing, None, None, None, formula)
    units = billing_units(best, sizing, replicas_per_unit)
    interval = None
    if resamples:
        interval = replica_interval(
            best, resamples=resamples, block_s=block_s, services=services, guess=sizing.needed, on_resample=on_resample
        )
    return CapacityPlan(best, trials, sizing, units, best.outcome(units.replicas), interval, formula)


def policies_for(
    measured_batches: Iterable[int], windows_s: Iterable[float] = WINDOWS_S, *,
    fits: Callable[[int], bool] | None = None, bucket_edges: tuple[int, ...] = (),
) -> tuple[BatchingPolicy, ...]:  # fmt: skip
    """Ways of batching to try: every measured batch size that fits in memory, with every window; no window at 1.

    InputError where no size fits.
    """
    sizes = sorted({size for size in measured_batches if fits is None or fits(size)})
    if not sizes:
        raise InputError("batching: no measured batch size fits in memory, so there is no policy to try")
    return tuple(
        BatchingPolicy(size, window, bucket_edges if size > 1 else ())
        for size in sizes
        for window in (sorted(set(windows_s)) if size > 1 else (0.0,))
    )


def try_policies(setting: Setting, policies: Sequence[BatchingPolicy]) -> tuple[PolicyTrial, ...]:
    """The fewest replicas of every policy; one that misses with as many as the best so far is not sized further."""
    trials: list[PolicyTrial] = []
    best: int | None = None
    for policy in policies:
        trial = _try_policy(replace(setting, policy=policy), best)
        trials.append(trial)
        if trial.needed is not None:
            best = trial.needed if best is None else min(best, trial.needed)
    return tuple(trials)


def best_trial(trials: Sequence[PolicyTrial]) -> PolicyTrial:
    """Fewest replicas, then most room under the limits, then the smallest batch; the first where none is enough."""
    return min(trials, key=lambda t: (math.inf if t.needed is None else t.needed, t.used or 0.0, t.policy.max_batch))


def units_for(replicas: int, replicas_per_unit: int) -> int:
    """Whole billing units that hold so many replicas."""
    return math.ceil(replicas / replicas_per_unit)


def billing_units(setting: Setting, sizing: Sizing, replicas_per_unit: int = 1) -> Units:
    """Whole units for a sizing that found a number, their fraction, and the speed-up that drops one."""
    if sizing.needed is None or sizing.replicas is None:
        raise InputError("no number of replicas keeps the objective")
    objective = setting.objective
    whole = units_for(sizing.replicas, replicas_per_unit)
    left = (whole - 1) * replicas_per_unit - objective.spare
    if whole == 1:
        drop = Factor(None, statement("factor.least"))
    elif left < objective.floor:
        asked = {"floor": Quantity(objective.floor, Unit.COUNT), "spare": Quantity(objective.spare, Unit.COUNT)}
        drop = Factor(None, statement("factor.floor_and_spare" if objective.spare else "factor.floor", **asked))
    else:
        drop = speedup_for(setting, left)
    return Units(whole, replicas_per_unit, fraction_of(setting, sizing.needed) / replicas_per_unit, drop)


def replica_interval(
    setting: Setting, *, resamples: int = RESAMPLES, block_s: float = BLOCK_S, services: Sequence[Service] = (),
    level: float = 0.9, guess: int | None = None, on_resample: Callable[[int], None] | None = None,
) -> ReplicaInterval:  # fmt: skip
    """Fewest replicas over block-resampled traffic, the middle `level` of them.

    services: draws of the service time, taken in turn, so that the noise of the measurement is in it; by default the
    setting's own. Resample i has the same blocks for every mechanism. The interval says how far the answer hangs on
    which minutes happened to be recorded, not what other days are like.
    """
    found: list[float] = []
    for index in range(resamples):
        seed = _seed_of(setting.seed, index)
        service = services[index % len(services)] if services else setting.service
        traffic = setting.traffic.resampled(block_s, seed)
        needed: int | None = 1  # of nobody at all, which blocks without requests may add up to
        if traffic.requests:
            again = replace(setting, traffic=traffic, service=service, seed=seed)
            needed = size_fleet(again, guess=guess, scan=False).needed
        found.append(math.inf if needed is None else float(needed))
        if on_resample is not None:
            on_resample(index + 1)
    found.sort()
    low, high = (found[rank_of(tail, resamples) - 1] for tail in ((1 - level) / 2, (1 + level) / 2))
    known = [int(n) for n in found if n < math.inf]
    shares = tuple((n, known.count(n) / resamples) for n in sorted(set(known)))
    return ReplicaInterval(level, _whole(low), _whole(high), shares, resamples, resamples - len(known), block_s)


def formula_servers(setting: Setting) -> int | None:
    """Servers by the formula for this traffic's mean rate and service times, arrivals taken as Poisson.

    With batching a server counts as fast as full batches make it. None where there is no rate, or no number is enough.
    """
    import numpy as np

    traffic, batch = setting.traffic, setting.policy.max_batch
    if traffic.rate_per_s is None:
        return None
    held = setting.service.mean_seconds(batch, traffic.tokens)
    mean_s = float(held.mean())
    scv = float(held.var() / mean_s**2) if mean_s else 0.0
    sample = np.quantile(held, (np.arange(FORMULA_QUANTILES) + 0.5) / FORMULA_QUANTILES).tolist()
    return servers_by_formula(traffic.rate_per_s, mean_s / batch, scv, setting.objective, service_sample_s=sample)


def _try_policy(setting: Setting, best: int | None) -> PolicyTrial:
    """One policy, sized only where it may be as good as the best so far."""
    policy = setting.policy
    if best is not None and not setting.is_kept_by(best):
        return PolicyTrial(policy, None, None, statement("factor.more", best=Quantity(best, Unit.COUNT)))
    sizing = size_fleet(setting, guess=best, scan=False)
    if sizing.needed is None:
        return PolicyTrial(policy, None, None, sizing.reason)
    return PolicyTrial(policy, sizing.needed, _share_used(setting.objective, setting.outcome(sizing.needed)))


def _share_used(objective: Objective, kept: Replay) -> float:
    """The largest share of any limit that a replay uses up."""
    shares = [
        (taken / limit.seconds if limit.seconds else 0.0)
        for limit in objective.limits
        if (taken := kept.seconds_at(limit.share, limit.of)) is not None
    ]
    if objective.max_utilization is not None and kept.load is not None:
        shares.append(kept.load / objective.max_utilization)
    return max(shares, default=0.0)


def _seed_of(seed: int, index: int) -> int:
    """A seed for one resample, apart from those of neighbouring seeds."""
    import numpy as np

    return int(np.random.SeedSequence([seed % 2**63, index]).generate_state(1)[0])


def _whole(replicas: float) -> int | None:
    """The number; None for more than any."""
    return None if replicas == math.inf else int(replicas)
