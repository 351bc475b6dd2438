from __future__ import annotations

from dataclasses import replace as with_

import numpy as np
import pytest

from castbench.cost.capacity_plan import (
    best_trial,
    billing_units,
    formula_servers,
    plan_capacity,
    policies_for,
    replica_interval,
    try_policies,
)
from castbench.cost.objective import Limit, Objective
from castbench.cost.queueing import servers_by_formula
from castbench.cost.replay import ONE_AT_A_TIME, BatchingPolicy
from castbench.cost.service import LinearTime, Service
from castbench.cost.sizing import Setting, size_fleet, speedup_for
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.report import text

P99 = Objective((Limit(0.99, 1.0),))
LEAN = Service(LinearTime(0.1, 1e-5))
"""A step of 0.1 s, hardly longer with more rows: what batching is good for."""
FLAT = Service(LinearTime(0.0, 2e-4))
"""A step of 0.2 s per row of 1000 tokens: batching gains nothing."""
SLOW = FLAT.slower(10.0)
P99_SLOW = Objective((Limit(0.99, 5.0),))


def poisson(requests: int, rate: float, seed: int = 0) -> Traffic:
    """Random arrivals of 1000 tokens each."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, requests)
    return Traffic.of(np.cumsum(gaps), [1000] * requests)


def bursts(seed: int = 0) -> Traffic:
    """An hour of which five minutes in every quarter are busy: 40, 80, 160 and 320 a minute, else 12."""
    rng = np.random.default_rng(seed)
    minutes = [
        rng.uniform(60 * m, 60 * (m + 1), rng.poisson(40 * 2 ** (m // 15) if m % 15 < 5 else 12)) for m in range(60)
    ]
    times = np.sort(np.concatenate(minutes))
    return Traffic.of(times, [1000] * times.size)


def test_policies_are_the_measured_batches_that_fit_with_every_window() -> None:
    """Batch 1 has no window to try; a batch that does not fit in memory is not tried; none that fits is refused."""
    found = policies_for([8, 1, 8, 64], (0.0, 0.01), fits=lambda size: size < 64, bucket_edges=(512,))
    assert found == (ONE_AT_A_TIME, BatchingPolicy(8, 0.0, (512,)), BatchingPolicy(8, 0.01, (512,)))
    with pytest.raises(InputError, match="no measured batch size fits in memory"):
        policies_for([8, 64], fits=lambda size: False)


def test_every_mechanism_gets_the_batching_that_is_best_for_it() -> None:
    """A model whose steps hardly grow with rows takes the largest batch; one that gains nothing stays at 1."""
    policies = policies_for((1, 4, 16), (0.0, 0.1))
    lean = plan_capacity(Setting(poisson(2000, 40.0), LEAN, P99), policies, resamples=0)
    flat = plan_capacity(Setting(poisson(2000, 40.0), FLAT, P99), policies, resamples=0)
    assert lean.setting.policy.max_batch == 16
    assert flat.setting.policy == ONE_AT_A_TIME
    assert (lean.sizing.needed or 99) < (flat.sizing.needed or 0)


def test_no_policy_left_aside_is_better_than_the_one_taken() -> None:
    """What is cut short by the best so far would indeed have needed more."""
    setting = Setting(poisson(800, 30.0), LEAN, P99)
    policies = policies_for((1, 2, 8), (0.0, 0.05, 0.3))
    trials = try_policies(setting, policies)
    best = best_trial(trials)
    for trial in trials:
        needed = size_fleet(with_(setting, policy=trial.policy)).needed
        assert trial.needed in (None, needed)
        assert needed is None or needed >= (best.needed or 0)
        assert trial.needed is not None or trial.reason
    assert [t.policy for t in trials] == list(policies)


def test_the_plan_is_the_parts_put_together() -> None:
    """Replicas, units, outcome, interval and formula are those of the single functions, for the best policy."""
    setting = Setting(poisson(1500, 30.0), LEAN, with_(P99, spare=1), seed=4)
    plan = plan_capacity(setting, policies_for((1, 8), (0.0,)), replicas_per_unit=2, resamples=20, block_s=10.0)
    best = with_(setting, policy=BatchingPolicy(8))
    assert plan.setting.policy == best.policy
    assert plan.sizing == size_fleet(best)
    assert plan.units == billing_units(best, plan.sizing, 2)
    assert plan.interval == replica_interval(best, resamples=20, block_s=10.0)
    assert plan.formula == formula_servers(best)
    assert plan.units is not None
    assert plan.outcome is not None
    assert plan.units.replicas == plan.outcome.replicas >= (plan.sizing.replicas or 0)
    assert setting.objective.is_met(plan.outcome)


def test_the_range_of_what_is_bought_counts_spares_and_whole_units_and_holds_the_point() -> None:
    """Needed 9 to 11 with a spare in fours is 12, the point; an interval beside the point is stretched to it."""
    setting = Setting(poisson(1500, 30.0), FLAT, with_(P99, spare=1))
    plan = plan_capacity(setting, replicas_per_unit=4, resamples=5, block_s=10.0)
    assert plan.units is not None
    assert plan.interval is not None
    for low, high, expected in ((9, 11, (12, 12)), (4, 16, (8, 20)), (20, 21, (12, 24)), (5, None, (8, None)),
                                (None, None, (12, None))):  # fmt: skip
        moved = with_(plan, units=with_(plan.units, whole=3), interval=with_(plan.interval, low=low, high=high))
        assert moved.bought_range == expected
    assert with_(plan, interval=None).bought_range is None


def test_an_impossible_objective_leaves_every_figure_empty_and_says_why() -> None:
    """Nothing is made up: no units, no outcome, no interval, the formula agrees, and the reason is a sentence."""
    plan = plan_capacity(Setting(poisson(200, 5.0), LEAN, Objective((Limit(0.5, 0.1),))), resamples=5)
    assert (plan.units, plan.outcome, plan.interval, plan.formula) == (None, None, None, None)
    proof = text.in_english(plan.sizing.proof) or ""
    assert proof.startswith("no number of replicas keeps the objective: even with one for every request")
    assert plan.trials[0].reason == plan.sizing.reason
    with pytest.raises(InputError, match="no number of replicas"):
        billing_units(plan.setting, plan.sizing)


def test_units_are_whole_and_know_how_far_the_next_step_is() -> None:
    """7 replicas in fours are 2 units; the speed-up that drops one is the one that 4 replicas need."""
    setting = Setting(poisson(3000, 30.0), FLAT, Objective(max_utilization=0.9))
    sizing = size_fleet(setting)
    assert sizing.needed == 7
    units = billing_units(setting, sizing, 4)
    assert (units.whole, units.replicas) == (2, 8)
    assert units.fractional == pytest.approx((setting.outcome(1).load or 0.0) / 0.9 / 4, rel=5e-3)
    assert units.speedup_to_drop == speedup_for(setting, 4)
    faster = with_(setting, service=FLAT.slower(1 / (units.speedup_to_drop.value or 1.0) * (1 - 1e-9)))
    assert billing_units(faster, size_fleet(faster), 4).whole == 1


def test_what_no_speed_up_can_drop_is_told() -> None:
    """One unit is the least; a floor and spares hold however fast the model is."""
    one = Setting(poisson(200, 1.0), FLAT, P99)
    least = billing_units(one, size_fleet(one)).speedup_to_drop
    assert text.in_english(least.reason) == "one unit is the least there can be"
    held = with_(one, objective=with_(P99, min_replicas=3, zones=2, spare=1))
    drop = billing_units(held, size_fleet(held)).speedup_to_drop
    assert drop.value is None
    assert text.in_english(drop.reason) == "at least 6 replicas and 1 spare are asked for, however fast they are"


def test_a_spare_is_left_when_a_unit_is_dropped() -> None:
    """With one spare, one unit fewer leaves two replicas fewer than bought to keep the objective."""
    setting = Setting(poisson(3000, 30.0), FLAT, with_(Objective(max_utilization=0.9), spare=1))
    sizing = size_fleet(setting)
    assert (sizing.needed, sizing.replicas) == (7, 8)
    assert billing_units(setting, sizing).speedup_to_drop == speedup_for(setting, 6)


def test_the_interval_follows_from_the_seed_and_holds_what_it_says() -> None:
    """Shares add up, the ends are the 5th and 95th percentile of them, and the same seed gives the same."""
    setting = Setting(bursts(), SLOW, P99_SLOW, seed=3)
    found = replica_interval(setting, resamples=40)
    assert found == replica_interval(setting, resamples=40)
    assert found != replica_interval(with_(setting, seed=4), resamples=40)
    assert sum(share for _, share in found.shares) == pytest.approx(1.0)
    assert found.impossible == 0
    assert found.low is not None
    assert found.high is not None
    assert sum(share for n, share in found.shares if n < found.low) <= 0.05
    assert sum(share for n, share in found.shares if n <= found.high) >= 0.95
    assert found.low < found.high


def test_where_every_block_is_alike_the_interval_is_narrow() -> None:
    """Poisson traffic resampled in blocks hardly moves the answer; bursty traffic does."""
    smooth = replica_interval(Setting(poisson(2880, 0.8), SLOW, P99_SLOW), resamples=30)
    bursty = replica_interval(Setting(bursts(), SLOW, P99_SLOW), resamples=30)
    assert (smooth.high or 0) - (smooth.low or 0) <= 1
    assert (bursty.high or 0) - (bursty.low or 0) >= 2


def test_draws_of_the_service_time_widen_the_interval() -> None:
    """Twice slower in every other draw shows in the distribution over replicas; the guess changes nothing."""
    setting = Setting(poisson(1000, 20.0), FLAT, P99)
    alone = replica_interval(setting, resamples=20)
    both = replica_interval(setting, resamples=20, services=[FLAT, FLAT.slower(2.0)], guess=9)
    assert (both.high or 0) >= 1.5 * (alone.high or 0)
    assert both.low == alone.low


def test_resamples_that_cannot_be_served_count_as_more_than_any_number() -> None:
    """Where service itself is too long in some resamples, the upper end is not a number."""
    setting = Setting(poisson(500, 5.0), FLAT, P99)
    found = replica_interval(setting, resamples=10, services=[FLAT, FLAT.slower(10.0)])
    assert found.impossible == 5
    assert found.high is None
    assert sum(share for _, share in found.shares) == 0.5


def test_blocks_without_anybody_need_one_replica() -> None:
    """Of 60 blocks one has requests: resamples without it are no error."""
    traffic = Traffic.of([0.0, 0.1, 0.2, 600.0], [1000] * 4)
    found = replica_interval(Setting(traffic, FLAT, P99), resamples=20, block_s=10.0)
    assert found.low == 1


def test_progress_is_told_resample_by_resample() -> None:
    """Every resample once, counted from 1."""
    seen: list[int] = []
    replica_interval(Setting(poisson(50, 5.0), FLAT, P99), resamples=4, on_resample=seen.append)
    assert seen == [1, 2, 3, 4]


def test_on_poisson_traffic_the_formula_is_close_and_on_bursts_it_is_not() -> None:
    """Where arrivals are what the formula takes them for, it is within one replica; bursts need twice as many."""
    smooth = Setting(poisson(20_000, 30.0), FLAT, P99)
    bursty = Setting(bursts(), SLOW, Objective((Limit(0.99, 0.5, "wait"),)))
    assert abs((formula_servers(smooth) or 0) - (size_fleet(smooth).needed or 0)) <= 1
    assert (size_fleet(bursty).needed or 0) >= 1.5 * (formula_servers(bursty) or 0)


def test_with_batching_the_formula_takes_servers_as_fast_as_full_batches() -> None:
    """8 rows in 0.18 s are 22.5 ms each; what a request itself sees is the whole batch's time."""
    setting = Setting(poisson(2000, 60.0), LEAN, P99, BatchingPolicy(8))
    rate = setting.traffic.rate_per_s or 0.0
    assert formula_servers(setting) == servers_by_formula(rate, 0.18 / 8, 0.0, P99, service_sample_s=[0.18])
    assert (formula_servers(with_(setting, policy=ONE_AT_A_TIME)) or 0) > 2 * (formula_servers(setting) or 0)


def test_one_moment_has_no_rate_for_a_formula() -> None:
    """No rate, no figure."""
    assert formula_servers(Setting(Traffic.of([0.0, 0.0], [1, 1]), FLAT, P99)) is None
