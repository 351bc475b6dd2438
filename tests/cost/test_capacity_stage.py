from __future__ import annotations

from dataclasses import replace as with_

import numpy as np
import pytest

from castbench.cost import capacity_stage
from castbench.cost.capacity_plan import plan_capacity, policies_for
from castbench.cost.capacity_stage import (
    SERVICE_DRAWS,
    Asked,
    Measured,
    arm_capacities,
    best_rate,
    drawn_services,
    fitted,
    longest_measured,
    require_served,
)
from castbench.cost.objective import Limit, Objective
from castbench.cost.replay import ONE_AT_A_TIME, BatchingPolicy
from castbench.cost.service import LinearTime, Service
from castbench.cost.sizing import Setting, rate_sustained, size_fleet
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.records import RunRecord, Status
from castbench.report import text
from castbench.workload.spec import Batching
from tests.cost.builder import CAST, MIX, MIXING, NAIVE, SDPA, run_of, times

P99 = Objective((Limit(0.99, 1.0),))


def lean(label: str, batch: int, length: int, how: Batching) -> float:
    """A fixed 20 ms per step, then 20 µs a token (cast: half of it): what larger batches are good for."""
    return 0.02 + batch * length * (1e-5 if label == "cast-32" else 2e-5)


def poisson(requests: int = 1500, rate: float = 20.0, seed: int = 0) -> Traffic:
    """Random arrivals, half of them of 512 tokens and half of 2048."""
    rng = np.random.default_rng(seed)
    return Traffic.of(np.cumsum(rng.exponential(1 / rate, requests)), rng.choice(MIX.tokens, requests))


def asked(**changes: object) -> Asked:
    """Without an interval, unless asked for."""
    return with_(Asked(poisson(), P99, resamples=0), **changes)  # type: ignore[arg-type]


def batched() -> RunRecord:
    """Batches of 1, 4 and 8, of 4 and 8 both padded and of equal lengths, without noise."""
    return run_of(lean, batch_sizes=(1, 4, 8), batching=("padded", "bucketed"))


def test_every_mechanism_but_the_ceilings_is_sized_in_the_order_of_the_plan() -> None:
    """Labels narrow it; a label that is not there finds nothing, since it is refused where it is asked for."""
    record = run_of(times({"sdpa": 0.05, "naive": 0.08, "cast-32": 0.03, MIXING.label: 0.01}),
                    arms=(SDPA, NAIVE, CAST, MIXING))  # fmt: skip
    assert [a.arm.label for a in arm_capacities(record, asked())] == ["sdpa", "naive", "cast-32"]
    assert [a.arm.label for a in arm_capacities(record, asked(), ("cast-32", "sdpa"))] == ["sdpa", "cast-32"]
    assert arm_capacities(record, asked(), ("other",)) == ()


def test_a_mechanism_without_batches_is_sized_as_its_times_say() -> None:
    """Steps of 50 ms whatever the length need what a law of 50 ms needs."""
    (found, _) = arm_capacities(run_of(times({"sdpa": 0.05, "cast-32": 0.03})), asked())
    setting = Setting(poisson(), Service(LinearTime(0.05, 0.0)), P99)
    assert found.plan is not None
    assert found.needed == size_fleet(setting).needed
    assert found.plan.setting.policy == ONE_AT_A_TIME
    assert found.plan.interval is None
    assert found.why_none is None


def test_no_way_of_batching_needs_fewer_than_the_one_taken() -> None:
    """Padded, of equal lengths, and one at a time were all measured, with every window: none of them is better."""
    record = batched()
    for found in arm_capacities(record, asked()):
        ways = list(Measured.of(record).ways(found.arm.label))
        assert [way.bucketed for way in ways] == [False, True]
        assert ways[1].edges == MIX.tokens
        needed = []
        for way in ways:
            policies = policies_for((1, 4, 8), bucket_edges=way.edges)
            plan = plan_capacity(way.setting(poisson(), P99, policies[0]), policies, resamples=0)
            needed.append(plan.sizing.needed or 99)
        assert found.needed == min(needed)
        assert found.way is not None
        assert found.needed == needed[found.way.bucketed]


def test_the_regime_that_needs_fewest_is_taken() -> None:
    """Compiled steps twice as fast are served, and the way says so."""
    record = run_of(
        times({"sdpa": 0.08, "cast-32": 0.08}), regimes=("eager", "compiled"),
        speedup_in=lambda label, regime: 2.0 if (label, regime) == ("sdpa", "compiled") else 1.0,
    )  # fmt: skip
    fast, same = arm_capacities(record, asked())
    assert fast.way is not None
    assert fast.way.regime == "compiled"
    assert (fast.needed or 99) < (same.needed or 0)


def test_what_was_not_measured_has_a_reason_and_no_number() -> None:
    """A mechanism that ran out of memory at the longest length cannot be sized, and the others are."""
    failed = {("b1-n2048-bucketed", "cast-32"): Status.OOM}
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), failed=failed)
    assert record.header.plan.groups[1].key == "b1-n2048-bucketed"
    kept, lost = arm_capacities(record, asked())
    assert kept.needed is not None
    assert (lost.way, lost.plan, lost.needed) == (None, None, None)
    assert text.in_english(lost.why_none) == "batch 1, eager: oom at 2,048 tokens"


def test_an_impossible_objective_says_why_and_sustains_nothing() -> None:
    """20 ms cannot be kept by steps of 50 ms, with any number of replicas and at any rate."""
    tight = asked(objective=Objective((Limit(0.5, 0.02),)), replicas=3, resamples=5)
    (found, _) = arm_capacities(run_of(times({"sdpa": 0.05, "cast-32": 0.03})), tight)
    assert found.needed is None
    assert found.sustained is None
    assert "no number of replicas keeps the objective" in (text.in_english(found.why_none) or "")


def test_overhead_holds_the_replica_and_no_mechanism_shortens_it() -> None:
    """With 150 ms outside the model twice the speed hardly matters."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.025}))
    plain = [a.needed or 0 for a in arm_capacities(record, asked())]
    heavy = [a.needed or 0 for a in arm_capacities(record, asked(overhead_s=0.15))]
    assert plain[1] < plain[0] < heavy[1] <= heavy[0]


def test_the_rate_of_stated_replicas_is_that_of_the_best_way_for_them() -> None:
    """At a trickle one at a time is best; what two replicas bear at most they bear in batches."""
    slow = asked(traffic=poisson(400, 0.5), replicas=2)
    found = arm_capacities(batched(), slow)[0]
    assert found.plan is not None
    assert found.needed == 1
    assert found.plan.setting.policy == ONE_AT_A_TIME
    alone = rate_sustained(found.plan.setting, 2).value or 0.0
    assert found.sustained is not None
    assert found.sustained.value is not None
    assert found.sustained.value > 1.2 * alone
    assert arm_capacities(batched(), asked())[0].sustained is None


def test_the_best_rate_is_no_less_than_that_of_any_setting_alone() -> None:
    """Settings that are passed over would have borne less, but for the luck of how batches form."""
    way = next(iter(Measured.of(batched()).ways("sdpa")))
    policies = policies_for((1, 4, 8), (0.0, 0.02, 0.5))
    settings = [way.setting(poisson(600, 5.0), P99, policy) for policy in policies]
    alone = [rate_sustained(setting, 2).value or 0.0 for setting in settings]
    for order in (settings, settings[::-1]):
        assert best_rate(order, 2).value == pytest.approx(max(alone), rel=0.02)


def test_no_best_rate_has_a_reason() -> None:
    """None is kept at any rate; any is kept; nothing is there."""
    service = Service(LinearTime(0.05, 0.0))
    few = Traffic.of([0.0, 1.0], [512, 512])
    best = best_rate([Setting(few, service, Objective((Limit(0.5, 0.01),)))], 1)
    assert "hardly meet" in (text.in_english(best.reason) or "")
    loose = Setting(few, service, Objective((Limit(0.99, 9.0),)))
    misses = Setting(few, service, P99, BatchingPolicy(4, 5.0))
    for settings in ([loose], [misses, loose], [loose, misses]):
        found = best_rate(settings, 1)
        assert found.value is None
        assert "all requests at once" in (text.in_english(found.reason) or "")
    assert best_rate([], 1).value is None


def test_intervals_of_two_mechanisms_are_paired_and_repeat() -> None:
    """The seed decides; a mechanism whose times are the same has the same interval."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.05}))
    wanted = asked(resamples=12, block_s=10.0)
    first, second = (a.plan.interval for a in arm_capacities(record, wanted) if a.plan is not None)
    assert first is not None
    assert first == second
    again = arm_capacities(record, wanted)[0].plan
    assert again is not None
    assert again.interval == first
    assert first.resamples == 12


def test_short_traffic_is_resampled_in_shorter_blocks() -> None:
    """Of one block every resample would be the same, and the range a lie."""
    assert asked(traffic=poisson(2000, 0.5)).blocks_s == 300.0
    rng = np.random.default_rng(0)
    at_s = np.sort(np.concatenate((rng.uniform(0, 40, 200), rng.uniform(20, 24, 200))))
    short = asked(traffic=Traffic.of(at_s, [512] * at_s.size), resamples=12)
    assert short.blocks_s == pytest.approx(short.traffic.span_s / 10)
    plan = arm_capacities(run_of(times({"sdpa": 0.05, "cast-32": 0.05})), short)[0].plan
    assert plan is not None
    assert plan.interval is not None
    assert len(plan.interval.shares) > 1
    assert asked(traffic=Traffic.of([1.0, 1.0], [512, 512])).blocks_s == 300.0


def test_what_interpolation_is_off_by_widens_the_draws() -> None:
    """Held out, 1024 tokens took twice what the line between 512 and 2048 says: draws are that far apart."""

    def bent(label: str, batch: int, length: int, how: Batching) -> float:
        return {512: 0.02, 1024: 0.08, 2048: 0.08}[length]

    record = run_of(bent, held_out=1024)
    measured = Measured.of(record)
    way = next(iter(measured.ways("sdpa")))
    assert way.doubt == pytest.approx(0.5)
    services = drawn_services(way, 0, "sdpa")
    assert len(services) == SERVICE_DRAWS
    assert {round(s.slowdown, 6) for s in services} == {1.5, round(1 / 1.5, 6)}
    certain = drawn_services(with_(way, doubt=0.0), 0, "sdpa")
    assert {s.slowdown for s in certain} == {1.0}


def test_draws_follow_the_rounds_and_need_two_of_them() -> None:
    """Noise makes draws differ, the same ones every time; of one round there are none, and no interval of times."""
    noisy = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=0.1)
    way = next(iter(Measured.of(noisy).ways("sdpa")))
    means = {float(s.mean_seconds(1, np.array([512]))[0]) for s in drawn_services(way, 0, "sdpa")}
    assert len(means) == SERVICE_DRAWS
    assert drawn_services(way, 0, "sdpa", 3) == drawn_services(way, 0, "sdpa")[:3]
    single = next(iter(Measured.of(run_of(times({"sdpa": 0.05, "cast-32": 0.03}), rounds=1)).ways("sdpa")))
    assert drawn_services(single, 0, "sdpa") == ()


def test_progress_names_the_mechanism_and_never_goes_back() -> None:
    """From 0 on, ending at everything; every label in turn."""
    seen: list[tuple[str, float]] = []
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}))
    arm_capacities(record, asked(resamples=4, block_s=10.0), on_progress=lambda *told: seen.append(told))
    assert list(dict.fromkeys(label for label, _ in seen)) == ["sdpa", "cast-32"]
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_longer_requests_than_measured_are_refused_or_cut_and_counted() -> None:
    """Nothing is extrapolated; the error says how many, how long, and what to do."""
    traffic = Traffic.of([0.0, 1.0, 2.0], [100, 3000, 5000])
    with pytest.raises(InputError, match=r"2 of 3 requests are longer than the 2,048 tokens measured \(up to 5,000\)"):
        fitted(traffic, 2048, truncate=False)
    with pytest.raises(InputError, match=r"1 of 3 requests is longer"):
        fitted(traffic, 3000, truncate=False)
    cut, count = fitted(traffic, 2048, truncate=True)
    assert (cut.tokens.tolist(), count) == ([100, 2048, 2048], 2)
    assert fitted(traffic, 5000, truncate=False) == (traffic, 0)


def test_the_longest_measured_is_not_one_that_was_held_out() -> None:
    """A held-out shape only checks the interpolation."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), held_out=4096)
    assert longest_measured(record) == 2048


def test_runs_that_measured_no_answer_to_a_request_are_refused() -> None:
    """An attention module alone, and training steps, are no service."""
    table = times({"sdpa": 0.05, "cast-32": 0.03})
    with pytest.raises(InputError, match="attention module alone"):
        arm_capacities(run_of(table, scope="attention"), asked())
    plan = run_of(table).header.plan
    with pytest.raises(InputError, match="training steps"):
        require_served(with_(plan, served=with_(plan.served, phase="training")))


def test_draws_are_taken_only_of_the_best_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expensive interval is computed once per mechanism, however many ways there are."""
    calls: list[object] = []
    real = capacity_stage.replica_interval
    monkeypatch.setattr(capacity_stage, "replica_interval", lambda *a, **k: calls.append(a) or real(*a, **k))
    arm_capacities(batched(), asked(resamples=3, block_s=10.0))
    assert len(calls) == 2
