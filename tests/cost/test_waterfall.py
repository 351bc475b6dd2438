from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castbench.cost.spec import Change, Configuration, Price, Projection, Running, Waterfall
from castbench.cost.waterfall import unmeasured
from castbench.records import RunRecord, Status
from castbench.stats import Estimate
from castbench.workload.spec import Batching, Demand, Regime, RunningToday
from tests.cost.builder import CAST, NAIVE, PRICE, SDPA, projected, run_of

PADDED = RunningToday(4, "padded", "eager")
RESERVED = replace(PRICE, plan="reserved", term_years=1)
OWNED = replace(PRICE, plan="owned", electricity_usd_per_hour=0.2)
PRICES = st.sampled_from([PRICE, RESERVED, replace(PRICE, plan="owned"), OWNED, replace(PRICE, gpus=2)])
TODAY = st.sampled_from([None, PADDED, RunningToday(1, "bucketed", "eager"), RunningToday(4, "bucketed", "compiled")])
MONEY = ("capacity_released_units_per_hour", "saving_usd_per_hour", "cash_saving_usd_per_hour")


def measured(
    ratios: dict[str, float], *, compiled: float = 1.0, noise: float = 0.05, seed: int = 0, **kwargs: Any
) -> RunRecord:
    """A run in two regimes; a step takes a fixed part and one per row, both times the label's ratio."""

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return ratios[label] * (0.004 + 1e-5 * batch * length)

    def speedup(label: str, regime: Regime) -> float:
        return compiled if regime == "compiled" else 1.0

    return run_of(
        seconds, arms=(SDPA, NAIVE, CAST), batch_sizes=(1, 4), batching=("padded", "bucketed"), noise=noise, seed=seed,
        regimes=("eager", "compiled"), speedup_in=speedup, **kwargs,
    )  # fmt: skip


def steps_of(found: Projection) -> Waterfall:
    """The waterfall, which must be there."""
    assert found.savings is not None
    assert found.savings.waterfall is not None
    return found.savings.waterfall


def value(estimate: Estimate | None) -> float:
    """The value of an estimate that must be there."""
    assert estimate is not None
    return estimate.value


def changes(found: Waterfall) -> list[Change]:
    """Every change of a waterfall, its sums included."""
    return [*(step.change for step in found.steps), found.tuned, found.total]


@given(
    sdpa=st.floats(0.3, 3.0), naive=st.floats(0.3, 3.0), cast=st.floats(0.3, 3.0), compiled=st.floats(0.5, 2.0),
    today=TODAY, price=PRICES, rate=st.floats(1.0, 500.0), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=40)
def test_changes_add_up_to_the_total_and_end_at_the_summary(
    sdpa: float, naive: float, cast: float, compiled: float, today: RunningToday | None, price: Price, rate: float,
    seed: int,
) -> None:  # fmt: skip
    """Whatever was measured: cost falls by what the steps save, they end at the baseline without a new model and at the
    new model with it, and the last step saves what the summary says.
    """
    record = measured({"sdpa": sdpa, "naive": naive, "cast-32": cast}, compiled=compiled, seed=seed)
    found = projected(record, price, Demand(rate), today=today)
    path = steps_of(found)
    for name in MONEY:
        parts = [value(getattr(step.change, name)) for step in path.steps]
        assert value(getattr(path.total, name)) == pytest.approx(math.fsum(parts), abs=1e-9)
        assert value(getattr(path.tuned, name)) == pytest.approx(math.fsum(parts[:-1]), abs=1e-9)
    runs = [path.today, *(step.to for step in path.steps)]
    for before, step in zip(runs, path.steps, strict=False):
        fall = value(before.cost_usd_per_hour) - value(step.to.cost_usd_per_hour)
        assert value(step.change.saving_usd_per_hour) == pytest.approx(fall, abs=1e-9)
    assert runs[-2].configuration == found.baseline
    assert path.steps[-1].move == "new_model"
    assert path.steps[-1].to.configuration == found.arm("cast-32").configuration
    assert path.steps[-1].change.saving_usd_per_hour == found.arm("cast-32").saving_usd_per_hour


@given(
    sdpa=st.floats(0.3, 3.0), naive=st.floats(0.3, 3.0), cast=st.floats(0.3, 3.0), compiled=st.floats(0.5, 2.0),
    today=TODAY,
)  # fmt: skip
@settings(max_examples=40)
def test_a_step_without_a_new_model_changes_one_thing_and_is_never_slower(
    sdpa: float, naive: float, cast: float, compiled: float, today: RunningToday | None
) -> None:
    """Batching, batch size and regime steps keep everything else, and no such step takes more time than none."""
    record = measured({"sdpa": sdpa, "naive": naive, "cast-32": cast}, compiled=compiled)
    path = steps_of(projected(record, today=today))
    before: Running = path.today
    for step in path.steps[:-1]:
        old, new = before.configuration, step.to.configuration
        assert step.to.seconds_per_request.value <= before.seconds_per_request.value
        if step.move in ("batching", "batch_size", "regime"):
            kept = {"batching", "batch_size", "regime"} - {step.move}
            if 1 in (old.batch_size, new.batch_size):
                kept.discard("batching")
            assert new.label == old.label
            assert {name for name in kept if getattr(new, name) != getattr(old, name)} == set()
        before = step.to


def test_the_cheapest_move_of_a_kind_is_taken() -> None:
    """From padded batches of 4: bucketing is cheaper, a smaller batch is not, compiling is, naive is not: by hand."""
    record = measured({"sdpa": 1.0, "naive": 1.5, "cast-32": 0.5}, compiled=2.0, noise=0.0)
    path = steps_of(projected(record, today=PADDED))
    assert [(step.move, str(step.to.configuration)) for step in path.steps] == [
        ("batching", "sdpa (batch 4, bucketed, eager)"),
        ("batch_size", "sdpa (batch 4, bucketed, eager)"),
        ("regime", "sdpa (batch 4, bucketed, compiled)"),
        ("mechanism", "sdpa (batch 4, bucketed, compiled)"),
        ("new_model", "cast-32 (batch 4, bucketed, compiled)"),
    ]
    fixed, row = 0.004 / 4, (512 + 2048) / 2 * 1e-5
    longest = 512 * 0.5**4 + 2048 * (1 - 0.5**4)
    seconds = [path.today, *(step.to for step in path.steps)]
    assert [run.seconds_per_request.value for run in seconds] == pytest.approx(
        [fixed + longest * 1e-5, *[fixed + row] * 2, *[(fixed + row) / 2] * 2, (fixed + row) / 4]
    )


def test_a_batch_of_one_is_left_for_any_way_of_batching() -> None:
    """Single requests are not padded, so where only padded batches were measured the step to them is of batch size."""
    record = run_of(lambda label, batch, length, how: 0.01 * math.sqrt(batch), batch_sizes=(1, 4), batching=("padded",))
    path = steps_of(projected(record, today=RunningToday(1, "bucketed", "eager")))
    assert [(step.move, str(step.to.configuration)) for step in path.steps[:-1]] == [
        ("batch_size", "sdpa (batch 4, padded, eager)")
    ]


def test_what_only_pays_together_is_one_step() -> None:
    """Eager batches of 4 are slower and compiled batches of 1 are too, but compiled batches of 4 are the best: no move
    alone leads there, so one step changes both.
    """
    seconds = {(1, "eager"): 0.02, (4, "eager"): 0.1, (1, "compiled"): 0.03, (4, "compiled"): 0.04}
    record = run_of(
        lambda label, batch, length, how: seconds[batch, "eager"], batch_sizes=(1, 4), regimes=("eager", "compiled"),
        speedup_in=lambda label, regime: 1.0,
    )  # fmt: skip
    regimes = {group.key: group for group in record.header.plan.groups}
    rounds = tuple(
        replace(r, samples=tuple(
            replace(s, elapsed_s=seconds[regimes[r.group].shape.batch_size, regimes[r.group].regime]) for s in r.samples
        ))
        for r in record.rounds
    )  # fmt: skip
    found = projected(replace(record, rounds=rounds), today=RunningToday(1, "bucketed", "eager"))
    step = next(step for step in steps_of(found).steps if step.move == "together")
    assert step.to.configuration == Configuration("sdpa", 4, "bucketed", "compiled") == found.baseline


def test_today_is_what_is_stated_and_the_baseline_stays_the_cheapest() -> None:
    """Stated padded batches are today; savings of arms are still against the cheapest exact configuration."""
    record = measured({"sdpa": 1.0, "naive": 1.5, "cast-32": 0.5})
    plain, stated = projected(record), projected(record, today=PADDED)
    assert stated.today == Configuration("sdpa", 4, "padded", "eager")
    assert plain.today == plain.baseline == stated.baseline
    assert stated.arm("cast-32").saving_usd_per_hour == plain.arm("cast-32").saving_usd_per_hour
    assert stated.arm("sdpa").recommendation == "TUNE-FIRST"
    assert plain.arm("sdpa").recommendation == "KEEP"


def test_a_today_that_died_counts_nothing() -> None:
    """Where what runs today has no complete measurement there is no waterfall, and the assumptions say so."""
    failed = {("b4-n2048-padded", "sdpa"): Status.OOM}
    found = projected(measured({"sdpa": 1.0, "naive": 1.5, "cast-32": 0.5}, failed=failed), today=PADDED)
    assert found.today is None
    assert found.savings is not None
    assert found.savings.waterfall is None
    assert "assumption.today_unmeasured" in [said.key for said in found.assumptions]


def test_without_a_demand_the_steps_have_times_and_no_servers() -> None:
    """No rate, no servers and no amounts; the steps and their times are there."""
    path = steps_of(projected(measured({"sdpa": 1.0, "naive": 1.5, "cast-32": 0.5}), demand=None, today=PADDED))
    assert (path.today.replicas, path.today.cost_usd_per_hour, path.total) == (None, None, Change())
    assert path.steps[-1].to.seconds_per_request.value < path.today.seconds_per_request.value


@given(ratio=st.floats(0.2, 5.0), price=PRICES, today=TODAY, rate=st.floats(1.0, 500.0))
@settings(max_examples=40)
def test_cash_is_never_more_than_whole_servers_times_the_price(
    ratio: float, price: Price, today: RunningToday | None, rate: float
) -> None:
    """Cash has the sign of the saving and at most its size; the saving is a whole number of servers times the price."""
    record = measured({"sdpa": 1.0, "naive": 1.2, "cast-32": ratio}, compiled=1.3)
    found = projected(record, price, Demand(rate), today=today)
    for change in changes(steps_of(found)):
        saving, cash = value(change.saving_usd_per_hour), value(change.cash_saving_usd_per_hour)
        assert cash * saving >= 0
        assert abs(cash) <= abs(saving) + 1e-9
        assert saving / price.usd_per_hour == pytest.approx(round(saving / price.usd_per_hour), abs=1e-9)
        for name in MONEY:
            estimate = getattr(change, name)
            assert estimate.low <= estimate.value <= estimate.high


@given(ratio=st.floats(0.2, 5.0), today=TODAY, rate=st.floats(1.0, 500.0))
@settings(max_examples=25)
def test_a_commitment_leaves_no_cash_and_a_price_without_one_all_of_it(
    ratio: float, today: RunningToday | None, rate: float
) -> None:
    """Reserved servers of today save no cash whatever is released, on demand cash is the saving, and servers beyond
    today's cost in full under either.
    """
    record = measured({"sdpa": 1.0, "naive": 1.2, "cast-32": ratio}, noise=0.0)
    held, free = (projected(record, price, Demand(rate), today=today) for price in (RESERVED, PRICE))
    for bound, spent in zip(changes(steps_of(held)), changes(steps_of(free)), strict=True):
        assert spent.cash_saving_usd_per_hour == spent.saving_usd_per_hour == bound.saving_usd_per_hour
    before = steps_of(held).today
    last = steps_of(held).steps[-1].to
    assert before.replicas is not None
    assert last.replicas is not None
    beyond = max(0, last.replicas - before.replicas)
    assert value(steps_of(held).total.cash_saving_usd_per_hour) == -beyond * RESERVED.usd_per_hour


@given(factor=st.sampled_from([0.125, 0.5, 2.0, 16.0]), ratio=st.floats(0.2, 5.0))
@settings(max_examples=20)
def test_price_scales_every_step_and_scaled_times_change_none(factor: float, ratio: float) -> None:
    """Amounts of all steps are proportional to the price; times and rate scaled against each other leave them alone."""
    ratios = {"sdpa": 1.0, "naive": 1.2, "cast-32": ratio}
    plain = steps_of(projected(measured(ratios), OWNED, today=PADDED))
    dear = replace(OWNED, usd_per_hour=2.0 * factor, electricity_usd_per_hour=0.2 * factor)
    scaled = {label: value * factor for label, value in ratios.items()}
    others = (
        (steps_of(projected(measured(ratios), dear, today=PADDED)), factor),
        (steps_of(projected(measured(scaled), OWNED, Demand(100.0 / factor), today=PADDED)), 1.0),
    )
    for other, times in others:
        for one, two in zip(changes(plain), changes(other), strict=True):
            for name in ("saving_usd_per_hour", "cash_saving_usd_per_hour"):
                assert value(getattr(two, name)) == pytest.approx(value(getattr(one, name)) * times)


def test_a_floor_and_spares_are_bought_whatever_the_traffic_needs() -> None:
    """2 in each of 3 zones and 1 spare are 7 replicas; with 4 to a server 2 servers, and a faster model saves none."""
    demand = Demand(10.0, None, 0.7, None, min_replicas=2, zones=3, spare=1)
    record = measured({"sdpa": 1.0, "naive": 1.2, "cast-32": 0.1})
    one, four = (projected(record, replace(PRICE, gpus=gpus), demand).arm("cast-32") for gpus in (1, 4))
    assert (one.replicas, four.replicas) == (7, 2)
    assert value(one.saving_usd_per_hour) == 0.0
    assert value(one.capacity_released_units_per_hour) > 0
    busy = replace(demand, requests_per_second=1000.0)
    needed = math.ceil(1000.0 * value(projected(record, PRICE, busy).arm("sdpa").seconds_per_request) / 0.7)
    assert projected(record, PRICE, busy).arm("sdpa").replicas == needed + 1


def test_money_by_hand_from_the_rounds() -> None:
    """Every amount of the steps once more from the windows of a noisy run: means, mix, servers, price, commitments."""
    record = measured({"sdpa": 1.0, "naive": 1.4, "cast-32": 0.45}, compiled=1.25, noise=0.2, seed=3)

    def mean_s(label: str, batch: int, length: int, how: str, regime: str) -> float:
        key = f"b{batch}-n{length}-{how}" + ("" if regime == "eager" else f"-{regime}")
        windows = [
            s.elapsed_s / s.steps for r in record.rounds if r.group == key for s in r.samples if s.label == label
        ]
        assert len(windows) == 8
        return sum(windows) / len(windows)

    def servers(label: str, batch: int, how: str, regime: str) -> int:
        short = 0.5 if how == "bucketed" else 0.5**batch
        times = [mean_s(label, batch, length, how, regime) for length in (512, 2048)]
        per_request = (short * times[0] + (1 - short) * times[1]) / batch
        return max(math.ceil(240.0 * per_request / 0.6), 2) + 1

    demand = Demand(240.0, None, 0.6, None, min_replicas=2, spare=1)
    path = steps_of(projected(record, OWNED, demand, today=PADDED))
    runs = [path.today, *(step.to for step in path.steps)]
    used = [run.configuration for run in runs]
    counts = [servers(c.label, c.batch_size, c.batching, c.regime) for c in used]
    assert [run.replicas for run in runs] == counts
    assert [value(run.cost_usd_per_hour) for run in runs] == [2.0 * n for n in counts]
    for change, before, after in zip([s.change for s in path.steps], counts, counts[1:], strict=False):
        assert value(change.saving_usd_per_hour) == pytest.approx(2.0 * (before - after))
        assert max(before, after) <= counts[0]
        assert value(change.cash_saving_usd_per_hour) == pytest.approx(0.2 * (before - after))
        assert change.saving_percent == pytest.approx(100 * (before - after) / before)
    assert counts[0] > counts[-1]


def test_what_was_not_measured_is_listed_and_what_was_is_not() -> None:
    """A run of one batch size, eager, in fp32 leaves out batches, compiling and bf16; one that has them does not."""
    bare = run_of(lambda *_: 0.01).header.plan
    keys = [said.key for said in unmeasured(bare, "cuda:0")]
    assert {"unmeasured.batch_size", "unmeasured.bf16", "unmeasured.compiled", "unmeasured.graph"} <= set(keys)
    assert keys[-2:] == ["unmeasured.truncation", "unmeasured.layers"]
    rich = measured({"sdpa": 1.0, "naive": 1.2, "cast-32": 0.5}).header.plan
    rich = replace(rich, served=replace(rich.served, dtype="bf16"))
    left = {said.key for said in unmeasured(rich, "cpu")}
    assert not left & {"unmeasured.batch_size", "unmeasured.batching", "unmeasured.bf16", "unmeasured.compiled"}
    assert {"unmeasured.unpadded", "unmeasured.machine"} <= left
