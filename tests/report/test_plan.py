from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean, median, stdev
from typing import Any

import pytest

from castbench.cost.spec import Projection, QualityStatus
from castbench.records import Caveat, RunRecord
from castbench.report import exporters, plan_page, text, view
from castbench.report.blocks import Bullets, Heading
from castbench.report.nouns import Report
from castbench.report.plan_limits import Limit
from castbench.report.plan_view import Introduction, introduction_of
from castbench.said import Quantity, Statement, Unit
from castbench.stats import student_t_quantile
from castbench.workload.spec import Demand, ServiceObjective
from tests.cost.builder import CAST, NAIVE, SDPA, projected, run_of
from tests.report import builder

BEYOND = 1 + math.sqrt(2)
DEMAND = Demand(100.0)


def measured(cast: float = 0.5, sdpa: float = 1.0, demand: Demand | None = DEMAND, **changes: Any) -> Report:
    """A run of two lengths, CAST and naive beside sdpa; milliseconds per token as given."""
    times = {"sdpa": sdpa, "naive": 3.0, "cast-32": cast}
    record = run_of(
        lambda label, batch, length, how: 1e-4 * length * times[label], arms=(SDPA, NAIVE, CAST), rounds=16,
        noise=0.01, seed=4, **changes,
    )  # fmt: skip
    return view.build(record, projected(record, demand=demand))


def plan_of(report: Report) -> Introduction:
    """The plan, which there must be."""
    plan = introduction_of(report)
    assert plan is not None
    return plan


def quantities(plan: Introduction) -> Iterator[tuple[str, str, Quantity]]:
    """Every number of the plan with its sentence and its name there."""
    phases = [s for p in plan.phases for part in (p.entry, p.doing, p.exit, p.rollback) for s in part]
    for said in (*plan.opening, *phases, *plan.change):
        yield from ((said.key, name, value) for name, value in said.values if isinstance(value, Quantity))


def values(plan: Introduction, key: str) -> dict[str, Any]:
    """The values of the one sentence of that key."""
    phases = [s for p in plan.phases for part in (p.entry, p.doing, p.exit, p.rollback) for s in part]
    (found,) = [s for s in (*plan.opening, *phases, *plan.change) if s.key == key]
    return dict(found.values)


def limit(plan: Introduction, name: str) -> Limit:
    """A limit by its name."""
    return next(one for one in plan.limits if one.name == name)


def keys(plan: Introduction) -> set[str]:
    """Which sentences the plan has."""
    phases = [s for p in plan.phases for part in (p.entry, p.doing, p.exit, p.rollback) for s in part]
    return {s.key for s in (*plan.opening, *phases, *plan.change)}


def record_of() -> tuple[RunRecord, Projection]:
    """A run in which CAST takes half of sdpa's time, with its projection."""
    record = run_of(
        lambda label, batch, length, how: 1e-4 * length * {"sdpa": 1.0, "naive": 3.0, "cast-32": 0.5}[label],
        arms=(SDPA, NAIVE, CAST), rounds=16, noise=0.01, seed=4,
    )  # fmt: skip
    return record, projected(record, demand=DEMAND)


def test_every_number_of_a_plan_follows_from_the_rounds() -> None:
    """Latencies, errors, memory and cost of tokens by hand from the raw windows; servers, bills and speed-ups are
    those of the projection; no other number stands in the plan but the stated shares.
    """
    record, money = record_of()
    plan, cast, base = plan_of(view.build(record, money)), money.arm("cast-32"), money.arm("sdpa")
    assert plan.kind == "introduce"
    assert plan.configuration == cast.configuration
    by_length = {512: _step_ms(record, 512), 2048: _step_ms(record, 2048)}
    for name, length in (("p50", 512), ("p99", 2048)):
        middle, high = by_length[length]
        assert limit(plan, name).limit.value == pytest.approx(middle + BEYOND * (high - middle))
    assert values(plan, "plan.errors")["measured"].value == 2 * 16
    assert values(plan, "plan.errors")["limit"].value == 1.0
    assert values(plan, "plan.enough")["batches"].value == 300
    needed = (2048 * 1024 + 1) / 2**20
    assert values(plan, "plan.memory")["measured"].value == pytest.approx(needed)
    assert values(plan, "plan.memory")["limit"].value == pytest.approx(1.1 * needed)
    tokens = cast.usd_per_million_tokens
    assert tokens is not None
    assert tokens.high is not None
    assert values(plan, "plan.tokens_cost")["limit"].value == tokens.value + BEYOND * (tokens.high - tokens.value)
    assert cast.cost_usd_per_hour is not None
    assert base.cost_usd_per_hour is not None
    assert cast.saving_usd_per_hour is not None
    assert cast.speedup is not None
    known = {
        ("plan.speed", "speedup"): cast.speedup.value, ("plan.cost", "cost"): cast.cost_usd_per_hour.value,
        ("plan.cost", "saving"): cast.saving_usd_per_hour.value, ("plan.servers_busy", "servers"): cast.replicas,
        ("plan.cost", "probability"): cast.probability_saving_positive,
        ("plan.servers_busy", "busy"): 100 * (cast.utilization or 0), ("plan.keep_servers", "servers"): base.replicas,
        ("plan.bill", "cost"): cast.cost_usd_per_hour.high,
        ("plan.both_fleets", "cost"): cast.cost_usd_per_hour.value + base.cost_usd_per_hour.value,
        ("plan.limited", "share"): 5.0, ("plan.rollout_entry", "share"): 5.0, ("plan.how_limited", "margin"): 10.0,
        ("plan.back_above", "p99"): limit(plan, "p99").limit.value,
        ("plan.back_above", "errors"): 1.0, ("plan.enough", "errors"): 1.0,
    }  # fmt: skip
    limits = {"plan.p50_measured", "plan.p99_median", "plan.errors", "plan.memory", "plan.tokens_cost"}
    for key, name, quantity in quantities(plan):
        if key not in limits and (key, name) != ("plan.enough", "batches"):
            assert quantity.value == pytest.approx(known[key, name]), (key, name)


def _step_ms(record: RunRecord, length: int) -> tuple[float, float]:
    """CAST's median window, mean over processes, with the upper end of its t interval."""
    by_process: dict[int, list[float]] = {}
    for r in record.rounds_of(f"b1-n{length}-bucketed"):
        by_process.setdefault(r.epoch, []).append(1e3 * r.samples[2].elapsed_s)
    medians = [median(times) for times in by_process.values()]
    half = student_t_quantile(0.975, len(medians) - 1) * stdev(medians) / math.sqrt(len(medians))
    return fmean(medians), fmean(medians) + half


def test_many_steps_show_a_rarer_error() -> None:
    """3,200 steps without one: at most 3 in 3,200 fail, and as many batches must go through before that is seen."""
    record, money = record_of()
    rounds = tuple(
        replace(r, samples=tuple(replace(s, steps=100, elapsed_s=100 * s.elapsed_s) for s in r.samples))
        for r in record.rounds
    )
    plan = plan_of(view.build(replace(record, rounds=rounds), money))
    assert values(plan, "plan.errors")["limit"].value == pytest.approx(100 * 3 / 3200)
    assert values(plan, "plan.enough")["batches"].value == pytest.approx(3200)


def test_what_needs_training_begins_with_a_quality_result() -> None:
    """Not measured: phase 2 must not begin before a result is attached; equal within the margin: it says so instead."""
    report = builder.win()
    assert "plan.quality_missing" in keys(plan_of(report))
    scored = tuple(
        replace(arm, quality_status=QualityStatus.EQUAL) if arm.arm.label == "cast-32" else arm
        for arm in report.mechanisms
    )
    plan = plan_of(replace(report, mechanisms=scored))
    assert {"plan.quality_known"} == {
        key for key in keys(plan) if key in ("plan.quality_known", "plan.quality_missing")
    }


def test_keep_introduces_nothing_and_says_what_would_change_that() -> None:
    """CAST at 1.5 times sdpa's time: no phases, what runs today stays, and the speed it needed is that of one server
    less, by hand.
    """
    report = measured(cast=1.5)
    plan = plan_of(report)
    assert (plan.kind, plan.phases, plan.limits, plan.configuration) == ("keep", (), (), None)
    base = next(arm for arm in report.mechanisms if arm.arm.label == "sdpa")
    assert base.replicas_fractional is not None
    assert base.replicas is not None
    said = values(plan, "plan.speed_needed")
    assert said["needed"].value == pytest.approx(base.replicas_fractional.value / (base.replicas - 1))
    assert "There is nothing to introduce: sdpa" in exporters.render(report, "terminal", width=200).decode()


def test_one_server_can_only_be_saved_where_there_is_a_second() -> None:
    """At a rate that a tenth of a server serves, ten times the rate is named."""
    report = measured(cast=1.5, demand=Demand(0.5))
    base = next(arm for arm in report.mechanisms if arm.arm.label == "sdpa")
    assert base.replicas == 1
    assert base.replicas_fractional is not None
    assert values(plan_of(report), "plan.rate_needed")["rate"].value == 0.5 / base.replicas_fractional.value


def test_without_a_demand_it_would_have_to_be_faster() -> None:
    """No servers to count: the verdict over the traffic is what is missing."""
    said = values(plan_of(measured(cast=1.5, demand=None)), "plan.faster_needed")
    assert said["verdict"] == "SLOWER"


def test_tuning_needs_no_new_model_and_comes_before_the_pilot() -> None:
    """The plan is of the configuration, without training; CAST is named for afterwards."""
    plan = plan_of(builder.tune_first())
    assert plan.kind == "tune"
    assert plan.configuration is not None
    assert plan.configuration.label == "sdpa"
    assert "plan.quality_missing" not in keys(plan)
    assert {"plan.same_function", "plan.quality_same", "plan.after_tuning"} <= keys(plan)
    assert values(plan, "plan.tuned_speed")["speedup"].value == pytest.approx(1 / 0.556)


def test_a_stated_objective_is_the_gate_and_else_the_model_alone() -> None:
    """p99 ≤ 250 ms stays 250 ms whatever was measured; without an objective the origin says that no queue is in it."""
    objective = Demand(100.0, ServiceObjective(p99_ms=250))
    stated, plain = plan_of(measured(demand=objective)), plan_of(measured())
    assert (limit(stated, "p99").origin, limit(stated, "p99").limit) == ("objective", Quantity(250, Unit.MS))
    assert (limit(stated, "p50").origin, limit(plain, "p99").origin) == ("measured", "median")


def test_no_price_leaves_money_out_of_the_plan() -> None:
    """Latency, errors and memory stay; no bill and no cost of tokens."""
    record, _ = record_of()
    plan = plan_of(view.build(record, projected(record, price=None, demand=DEMAND)))
    assert {one.name for one in plan.limits} == {"p50", "p99", "errors", "memory"}
    assert not {"plan.bill", "plan.cost", "plan.both_fleets", "plan.tokens_cost"} & keys(plan)


def test_nothing_measured_has_no_plan() -> None:
    """No baseline, no section and null in JSON."""
    report = builder.nothing_measured()
    assert introduction_of(report) is None
    assert tuple(plan_page.introduction(report)) == ()
    assert json.loads(exporters.render(report, "json"))["introduction"] is None


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_every_situation_has_a_plan_in_plain_words(name: str) -> None:
    """No placeholder, no None, three numbered phases or none, and the same limits in JSON."""
    report = builder.SITUATIONS[name]()
    blocks = tuple(plan_page.introduction(report))
    headings = [block.words for block in blocks if isinstance(block, Heading) and block.level == 3]
    assert len(headings) in (0, 3)
    assert all(heading.startswith(f"Phase {n}: ") for n, heading in enumerate(headings, start=1))
    lines = [line for block in blocks if isinstance(block, Bullets) for line in block.items]
    assert not [line for line in lines if "None" in line or "took –" in line]
    plan = introduction_of(report)
    written = json.loads(exporters.render(report, "json"))["introduction"]
    if plan is not None:
        assert [one["name"] for one in written["limits"]] == [one.name for one in plan.limits]
        assert [one["limit"]["value"] for one in written["limits"]] == [one.limit.value for one in plan.limits]


def test_too_few_rounds_ask_for_more_time() -> None:
    """Nothing is introduced on three rounds."""
    plan = plan_of(builder.few_rounds())
    assert plan.kind == "keep"
    assert keys(plan) == {"plan.keep", "plan.more_rounds"}
    assert any(Caveat.FEW_ROUNDS in arm.caveats for arm in builder.few_rounds().mechanisms)


def test_statements_of_the_plan_have_templates() -> None:
    """Keys that are put together from a limit's name and origin exist."""
    for name in ("p50", "p99"):
        for origin in ("objective", "stated", "replay", "measured"):
            said = Statement(f"plan.{name}_{origin}", (("limit", None), ("measured", None)))
            assert text.say(said)
