from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.spec import ArmProjection, Configuration, QualityStatus, Recommendation
from castbench.plan import Arm
from castbench.records import Caveat, RunRecord, Selected, Status
from castbench.report import text
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import Batching, Demand
from tests.cost.builder import CAST, DEMAND, MIXING, NAIVE, PRICE, SDPA, confirming, projected, run_of, times

SPEED = st.floats(0.2, 5.0)


def _cast(ratio: float, *, noise: float = 0.02, demand: Demand | None = DEMAND, **kwargs: Any) -> ArmProjection:
    """CAST that takes `ratio` times the 50 ms that sdpa takes."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.05 * ratio}), noise=noise, **kwargs)
    return projected(record, demand=demand).arm("cast-32")


def _value(estimate: Estimate | None) -> float:
    """The value of an estimate that must be there."""
    assert estimate is not None
    return estimate.value


def test_no_speed_up_saves_nothing() -> None:
    """Equal times need equal servers: the saving is 0, its range is 0, and nobody is told to act."""
    arm = _cast(1.0, noise=0.0)
    assert arm.saving_usd_per_hour == Estimate(0.0, 0.0, 0.0)
    assert arm.probability_saving_positive == 0.0
    assert arm.verdict is Verdict.SAME
    assert arm.recommendation is Recommendation.KEEP


def test_a_slower_mechanism_saves_a_negative_amount() -> None:
    """Losses are printed as plainly as gains: twice the time costs twice the servers."""
    arm = _cast(2.0, noise=0.0)
    assert (arm.replicas, _value(arm.cost_usd_per_hour), _value(arm.saving_usd_per_hour)) == (15, 30.0, -14.0)
    assert _value(arm.capacity_released_units_per_hour) < 0
    assert arm.saving_percent == pytest.approx(-87.5)
    assert (arm.verdict, arm.recommendation) == (Verdict.SLOWER, Recommendation.KEEP)


@given(slow=SPEED, faster_by=st.floats(0.1, 1.0))
def test_faster_never_costs_more(slow: float, faster_by: float) -> None:
    """Fewer seconds per request never need more servers, nor cost more per token, nor save less."""
    slower, faster = _cast(slow), _cast(slow * faster_by)
    assert _value(faster.cost_usd_per_hour) <= _value(slower.cost_usd_per_hour)
    assert _value(faster.usd_per_million_tokens) <= _value(slower.usd_per_million_tokens)
    assert _value(faster.saving_usd_per_hour) >= _value(slower.saving_usd_per_hour)


@given(ratio=SPEED, factor=st.floats(0.01, 100.0))
def test_price_scales_every_amount_and_no_probability(ratio: float, factor: float) -> None:
    """Cost, saving and cost per token are proportional to the price; servers and P(saving > 0) do not know it."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.05 * ratio}), noise=0.05)
    once = projected(record).arm("cast-32")
    dear = projected(record, replace(PRICE, usd_per_hour=PRICE.usd_per_hour * factor)).arm("cast-32")
    for a, b in (
        (once.cost_usd_per_hour, dear.cost_usd_per_hour),
        (once.saving_usd_per_hour, dear.saving_usd_per_hour),
        (once.usd_per_million_tokens, dear.usd_per_million_tokens),
    ):
        assert _value(b) == pytest.approx(_value(a) * factor)
    assert (once.replicas, once.probability_saving_positive) == (dear.replicas, dear.probability_saving_positive)


@given(ratio=SPEED, factor=st.sampled_from([0.125, 0.5, 2.0, 16.0]))
def test_slower_times_at_a_lower_rate_change_no_bill(ratio: float, factor: float) -> None:
    """All times up and the rate down by the same factor leave servers, cost and saving as they were."""
    table = {"sdpa": 0.05, "cast-32": 0.05 * ratio}
    plain = projected(run_of(times(table), noise=0.05)).arm("cast-32")
    slow = run_of(times({label: s * factor for label, s in table.items()}), noise=0.05)
    scaled = projected(slow, demand=Demand(100.0 / factor)).arm("cast-32")
    assert scaled.replicas == plain.replicas
    assert scaled.saving_usd_per_hour == plain.saving_usd_per_hour
    assert scaled.replicas_shares == plain.replicas_shares


@given(ratio=SPEED, noise=st.floats(0.0, 0.3), rounds=st.integers(2, 9), rate=st.floats(0.1, 1000.0))
def test_every_range_holds_its_number_and_the_bill_is_in_whole_units(
    ratio: float, noise: float, rounds: int, rate: float
) -> None:
    """All estimates lie within their ranges; servers are whole, at least one, and enough for the utilisation."""
    arm = _cast(ratio, noise=noise, rounds=rounds, demand=Demand(rate))
    for name in ArmProjection.__dataclass_fields__:
        estimate = getattr(arm, name)
        if isinstance(estimate, Estimate):
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high
    assert arm.replicas is not None
    assert arm.replicas >= max(1.0, _value(arm.replicas_fractional) * (1 - 1e-8))
    assert arm.replicas < max(1.0, _value(arm.replicas_fractional)) + 1
    assert _value(arm.cost_usd_per_hour) == arm.replicas * PRICE.usd_per_hour
    assert arm.utilization is not None
    assert arm.utilization <= DEMAND.max_utilization * (1 + 1e-8)


@given(ratio=SPEED)
def test_the_distribution_over_servers_is_one_and_knows_the_probability_of_a_saving(ratio: float) -> None:
    """Shares add up to 1; the cash saved never exceeds the baseline's bill."""
    arm = _cast(ratio, noise=0.2)
    assert sum(share for _, share in arm.replicas_shares) == pytest.approx(1.0)
    assert [units for units, _ in arm.replicas_shares] == sorted({units for units, _ in arm.replicas_shares})
    assert arm.cash_saving_usd_per_hour == arm.saving_usd_per_hour
    assert _value(arm.cash_saving_usd_per_hour) < 8 * PRICE.usd_per_hour


def test_several_devices_per_billing_unit_share_the_load() -> None:
    """A server with 4 GPUs takes a quarter of the units, at its whole price."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}))
    arm = projected(record, replace(PRICE, gpus=4)).arm("sdpa")
    assert _value(arm.replicas_fractional) == pytest.approx(100 * 0.05 / 0.7 / 4)
    assert arm.replicas == 2
    assert arm.utilization == pytest.approx(5 / 8)


def test_an_exact_number_of_servers_is_not_rounded_up_by_floating_point() -> None:
    """100 requests of 21 ms at 70 % need 3 servers, although 100 * 0.021 / 0.7 is a little above 3 in binary."""
    arm = projected(run_of(times({"sdpa": 0.021, "cast-32": 0.021}))).arm("sdpa")
    assert arm.replicas == 3


def test_the_baseline_is_the_cheapest_exact_mechanism_and_today_the_profiles_label() -> None:
    """A profile that runs naive is told to run sdpa first; CAST is counted against sdpa, not against naive."""
    record = run_of(
        times({"sdpa": 0.05, "naive": 0.2, "cast-32": 0.02}), arms=(SDPA, NAIVE, CAST), noise=0.02, baseline="naive"
    )
    found = projected(record)
    assert found.today == Configuration("naive", 1, "bucketed")
    assert found.baseline == Configuration("sdpa", 1, "bucketed")
    words = {arm.arm.label: (arm.recommendation, arm.verdict) for arm in found.arms}
    assert words == {
        "sdpa": (Recommendation.TUNE_FIRST, Verdict.BASELINE),
        "naive": (Recommendation.KEEP, Verdict.SLOWER),
        "cast-32": (Recommendation.PILOT, Verdict.FASTER),
    }
    assert _value(found.arm("cast-32").speedup) == pytest.approx(2.5, rel=0.05)
    assert _value(found.arm("naive").saving_usd_per_hour) < 0


def test_the_cheapest_mechanism_is_no_baseline_if_it_is_another_function() -> None:
    """Non-exact mechanisms never become what savings are counted against, however cheap."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.001}))
    assert projected(record).baseline == Configuration("sdpa", 1, "bucketed")


def test_a_pilot_is_the_most_that_an_unmeasured_quality_allows() -> None:
    """Even at twenty times the speed the word is PILOT, and the caveat says why."""
    arm = _cast(0.05)
    assert arm.recommendation is Recommendation.PILOT
    assert arm.quality_status is QualityStatus.NOT_MEASURED
    assert Caveat.QUALITY_NOT_MEASURED in arm.caveats


def test_a_faster_mechanism_that_needs_as_many_servers_is_kept_out() -> None:
    """Where one server is enough either way nothing is saved: KEEP, although it is FASTER."""
    arm = _cast(0.5, demand=Demand(1.0))
    assert (arm.verdict, arm.recommendation) == (Verdict.FASTER, Recommendation.KEEP)
    assert _value(arm.saving_usd_per_hour) == 0.0


def test_fewer_than_eight_rounds_prove_nothing() -> None:
    """Seven rounds give ranges but UNCLEAR and KEEP, with the caveat, although CAST takes half the time."""
    arm = _cast(0.5, rounds=7)
    assert (arm.verdict, arm.recommendation) == (Verdict.UNCLEAR, Recommendation.KEEP)
    assert Caveat.FEW_ROUNDS in arm.caveats


def test_too_few_rounds_of_the_baseline_prove_nothing_either() -> None:
    """Where only the baseline lost a window, every arm is UNCLEAR and carries the caveat."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}), noise=0.02)
    cut = tuple(r if r.round else replace(r, samples=r.samples[1:]) for r in record.rounds)
    arm = projected(replace(record, rounds=cut)).arm("cast-32")
    assert arm.verdict is Verdict.UNCLEAR
    assert Caveat.FEW_ROUNDS in arm.caveats


def test_one_round_gives_no_range_and_no_probability() -> None:
    """Costs are there, doubt is said, nothing is invented."""
    arm = _cast(0.5, rounds=1)
    assert _value(arm.cost_usd_per_hour) == 8.0
    assert (arm.cost_usd_per_hour, arm.probability_saving_positive) == (Estimate(8.0), None)
    assert arm.replicas_shares == ()


def test_equal_mechanisms_are_rarely_told_apart() -> None:
    """Over 120 runs of two equal mechanisms at 3 % noise, FASTER or SLOWER is said in at most 5 % and a margin."""
    table = {"sdpa": 0.05, "cast-32": 0.05}
    runs = [run_of(times(table), noise=0.03, seed=seed) for seed in range(120)]
    said = [projected(record).arm("cast-32").verdict for record in runs]
    assert sum(verdict in (Verdict.FASTER, Verdict.SLOWER) for verdict in said) <= 12


def test_more_mechanisms_need_stronger_evidence() -> None:
    """Holm: a difference that is a verdict alone is UNCLEAR among thirty."""
    table = {"sdpa": 0.05, "cast-32": 0.05 * 0.955}
    crowd = tuple(Arm(f"other-{i}", "cast", (), "candidate", False) for i in range(30))
    alone = run_of(times(table), noise=0.02, seed=3)
    many = run_of(times({**table, **{arm.label: 0.05 for arm in crowd}}), arms=(SDPA, CAST, *crowd), noise=0.02, seed=3)
    verdicts = [_verdict_of_cast(record) for record in (alone, _with_rounds_of(alone, many))]
    assert verdicts == [Verdict.FASTER, Verdict.UNCLEAR]


def _verdict_of_cast(record: RunRecord) -> Verdict:
    """The traffic-weighted verdict on CAST."""
    return projected(record).arm("cast-32").verdict


def _with_rounds_of(alone: RunRecord, many: RunRecord) -> RunRecord:
    """`many` with the windows that sdpa and CAST had in `alone`, so that only the number of rivals differs."""
    rounds = tuple(
        replace(crowded, samples=(*pair.samples, *crowded.samples[2:]))
        for pair, crowded in zip(alone.rounds, many.rounds, strict=True)
    )
    return replace(many, rounds=rounds)


def test_the_ceiling_is_taken_in_the_baselines_own_configuration() -> None:
    """Amdahl's ceiling compares like with like: batch 8, because the baseline runs at batch 8."""

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return {("sdpa", 1): 0.05, ("sdpa", 8): 0.32, ("ceiling:mixing", 1): 0.001, ("ceiling:mixing", 8): 0.16}[
            label, batch
        ]

    found = projected(run_of(seconds, arms=(SDPA, MIXING), batch_sizes=(1, 8)))
    assert _value(found.ceiling) == pytest.approx(2.0)
    assert found.module_ceiling is None
    assert [arm.arm.label for arm in found.arms] == ["sdpa"]


@pytest.mark.parametrize(
    ("faster", "bracket"),
    [((), (2048, None)), ((2048,), (512, 2048)), ((512,), (2048, None)), ((512, 2048), (None, 512))],
)
def test_the_crossover_is_a_bracket(faster: tuple[int, ...], bracket: tuple[int | None, int | None]) -> None:
    """The last length not FASTER and the first from which all are; an early win that is lost again does not count."""

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return 0.05 if label == "sdpa" else 0.025 if length in faster else 0.1

    found = projected(run_of(seconds, noise=0.01))
    assert found.arm("cast-32").crossover == bracket
    assert found.arm("sdpa").crossover == (None, None)


def test_a_length_that_failed_is_not_won() -> None:
    """FASTER at 512 and out of memory at 2048: no crossover in the measured range."""
    failed = {("b1-n2048-bucketed", "cast-32"): Status.OOM}
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}), noise=0.01, failed=failed)
    assert projected(record).arm("cast-32").crossover == (2048, None)


def test_the_crossover_is_against_the_headline_baseline() -> None:
    """Twice as fast as today's naive, but slower than sdpa: no crossover in the measured range."""
    record = run_of(
        times({"sdpa": 0.05, "naive": 0.2, "cast-32": 0.1}), arms=(SDPA, NAIVE, CAST), noise=0.01, baseline="naive"
    )
    assert projected(record).arm("cast-32").crossover == (2048, None)


def test_without_a_price_there_are_servers_but_no_money() -> None:
    """Replicas follow from the demand alone; the reason for the empty cells is passed on."""
    found = projected(run_of(times({"sdpa": 0.05, "cast-32": 0.02}), noise=0.01), price=None)
    arm = found.arm("cast-32")
    assert arm.replicas == 3
    assert _value(arm.capacity_released_units_per_hour) == pytest.approx(4.29, abs=0.1)
    assert (arm.cost_usd_per_hour, arm.saving_usd_per_hour, arm.usd_per_million_tokens) == (None, None, None)
    assert arm.recommendation is Recommendation.PILOT
    assert found.money_missing is not None
    assert "--price" in text.say(found.money_missing)


def test_without_a_demand_there_is_a_cost_per_token_at_full_load() -> None:
    """No rate, no servers: only what a million tokens cost on a busy machine, and a sentence about the rest."""
    found = projected(run_of(times({"sdpa": 0.05, "cast-32": 0.02}), noise=0.01), demand=None)
    arm = found.arm("sdpa")
    assert (arm.replicas, arm.cost_usd_per_hour, arm.probability_saving_positive) == (None, None, None)
    assert _value(arm.usd_per_million_tokens) == pytest.approx(2 / 3600 * 0.05 / 1280 * 1e6, rel=0.02)
    assert found.money_missing is not None
    assert "--rate" in text.say(found.money_missing)
    assert any("full load" in text.say(sentence) for sentence in found.assumptions)
    assert found.arm("cast-32").recommendation is Recommendation.PILOT


def test_an_attention_module_alone_gives_no_money() -> None:
    """Scope attention without attention_share: module seconds and a speed-up, no servers, and the way out is named."""
    found = projected(run_of(times({"sdpa": 0.05, "cast-32": 0.02}), scope="attention"))
    arm = found.arm("cast-32")
    assert (arm.replicas, arm.cost_usd_per_hour, arm.usd_per_million_tokens) == (None, None, None)
    assert _value(arm.speedup) == pytest.approx(2.5)
    assert found.money_missing is not None
    assert "attention_share" in text.say(found.money_missing)


def test_the_share_of_attention_dilutes_the_speed_up() -> None:
    """Attention at 20 % of a request: 2.5 times the module's speed is 1 / (0.8 + 0.2 / 2.5) overall."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}), scope="attention")
    found = projected(record, attention_share=0.2)
    assert _value(found.arm("sdpa").seconds_per_request) == pytest.approx(0.25)
    assert _value(found.arm("cast-32").speedup) == pytest.approx(1 / (0.8 + 0.2 / 2.5))
    assert found.money_missing is None


def test_the_share_of_attention_needs_todays_time() -> None:
    """Where today's label failed, the rest of a request is not known, and no money is made up from the others."""
    failed = {("b1-n512-bucketed", "sdpa"): Status.CRASH}
    table = times({"sdpa": 0.05, "naive": 0.1, "cast-32": 0.02})
    record = run_of(table, arms=(SDPA, NAIVE, CAST), scope="attention", failed=failed)
    found = projected(record, attention_share=0.2)
    assert found.money_missing is not None
    assert "sdpa has no complete measurement" in text.say(found.money_missing)
    assert found.arm("cast-32").cost_usd_per_hour is None


def test_doubts_about_the_price_and_the_objective_travel_with_every_arm() -> None:
    """A flagged price and the untested objective are caveats of each row that has a cost."""
    price = replace(PRICE, caveats=(Caveat.PRICE_OLD,), flags=("it was 99 days old",))
    found = projected(run_of(times({"sdpa": 0.05, "cast-32": 0.02})), price=price)
    for arm in found.arms:
        assert {Caveat.PRICE_OLD, Caveat.OBJECTIVE_NOT_TESTED} <= set(arm.caveats)
    assert any("99 days" in text.say(sentence) for sentence in found.assumptions)


def test_peak_memory_is_the_largest_over_the_lengths() -> None:
    """The builder's memory grows with the shape, so the longest length decides."""
    assert _cast(1.0).peak_memory_bytes == 2048 * 1024


def test_a_group_that_was_cut_short_is_a_caveat_of_the_arm() -> None:
    """Rounds without a group record are used, and the arm says that the run ended early."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}))
    arm = projected(replace(record, groups=record.groups[:1])).arm("cast-32")
    assert arm.cost_usd_per_hour is not None
    assert Caveat.INCOMPLETE in arm.caveats


def test_an_arm_that_was_never_reached_is_incomplete_and_says_so() -> None:
    """Where the run ended before a length was begun, the arm has no cost, a reason and the caveat."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}))
    early = replace(record, groups=record.groups[:1], rounds=record.rounds[:8])
    arm = projected(early).arm("cast-32")
    assert text.in_english(arm.reason) == "batch 1, eager: skipped at 2,048 tokens (not measured before the run ended)"
    assert Caveat.INCOMPLETE in arm.caveats
    assert projected(early).baseline is None


def test_a_service_without_traffic_still_needs_one_server() -> None:
    """At rate 0 one idle unit is paid for."""
    arm = _cast(1.0, demand=Demand(0.0))
    assert (arm.replicas, arm.utilization) == (1, 0.0)


def test_the_seed_makes_the_projection_reproducible() -> None:
    """The same run, price, demand and seed give the same projection to the last digit."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.02}), noise=0.05)
    assert projected(record) == projected(record)


def test_the_crossover_is_taken_in_the_baselines_regime() -> None:
    """CAST wins everywhere eager and nowhere compiled: a crossover where sdpa is at its best eager, none where it is
    compiled; the lengths of the two regimes are not mixed.
    """
    record = run_of(
        times({"sdpa": 0.1, "cast-32": 0.05}), regimes=("eager", "compiled"),
        speedup_in=lambda label, regime: 4.0 if (label, regime) == ("sdpa", "compiled") else 1.0,
    )  # fmt: skip
    found = projected(record)
    assert found.baseline is not None
    assert found.baseline.regime == "compiled"
    assert found.arm("cast-32").crossover == (2048, None)
    slow_compiled = run_of(
        times({"sdpa": 0.1, "cast-32": 0.05}), regimes=("eager", "compiled"),
        speedup_in=lambda label, regime: 0.25 if (label, regime) == ("cast-32", "compiled") else 1.0,
    )  # fmt: skip
    assert projected(slow_compiled).arm("cast-32").crossover == (None, 512)


def test_a_length_without_the_baseline_ends_the_sequence() -> None:
    """Where the baseline died at the longest length at batch 1, nothing is claimed of the shorter one, though CAST won
    it; nor where it died after it had lost eight rounds.
    """
    table, key = times({"sdpa": 0.1, "cast-32": 0.05}), "b1-n2048-bucketed"
    early = run_of(table, batch_sizes=(1, 4), failed={(key, "sdpa"): Status.CRASH})
    whole = run_of(table, batch_sizes=(1, 4))
    late = replace(whole, groups=tuple(early.group_record(key) or g if g.group == key else g for g in whole.groups))
    for record in (early, late):
        assert projected(record).arm("cast-32").crossover == (2048, None)


def test_a_ceiling_is_of_the_baselines_regime() -> None:
    """The mixing ceiling, slow where the baseline is at its best and fast elsewhere, is taken from the former."""
    record = run_of(
        times({"sdpa": 0.1, "ceiling:mixing": 0.05}), arms=(SDPA, MIXING), regimes=("eager", "compiled"),
        speedup_in=lambda label, regime: {"sdpa": 2.0, "ceiling:mixing": 1.5}[label] if regime == "compiled" else 1.0,
    )  # fmt: skip
    ceiling = projected(record).ceiling
    assert ceiling is not None
    assert ceiling.value == pytest.approx((0.1 / 2.0) / (0.05 / 1.5))


SELECTED = Selected("b1-n2048-bucketed", "cast-32", "sdpa")


@pytest.mark.parametrize(
    ("slower", "rounds", "word", "doubted"),
    [(1.0, 8, "PILOT", False), (2.1, 8, "KEEP", True), (2.1, 7, "PILOT", True), (1.0, 7, "PILOT", True)],
)
def test_a_pilot_that_fresh_rounds_refute_is_kept_out(slower: float, rounds: int, word: str, doubted: bool) -> None:
    """All fresh rounds against it take the recommendation away; missing ones only leave their doubt."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05}))
    arm = projected(confirming(record, SELECTED, slower=slower, rounds=rounds)).arm("cast-32")
    assert arm.recommendation == word
    assert (Caveat.NOT_CONFIRMED in arm.caveats) is doubted


def test_an_exact_gain_that_fresh_rounds_refute_is_no_advice() -> None:
    """For sdpa in place of today's naive: TUNE-FIRST while nothing speaks against it, KEEP once fresh rounds do."""
    record = run_of(times({"sdpa": 0.05, "naive": 0.1}), arms=(SDPA, NAIVE), baseline="naive")
    chosen = Selected("b1-n2048-bucketed", "sdpa", "naive")
    assert projected(confirming(record, chosen)).arm("sdpa").recommendation == "TUNE-FIRST"
    assert projected(confirming(record, chosen, slower=2.1)).arm("sdpa").recommendation == "KEEP"


def test_only_a_claim_of_speed_can_be_refuted() -> None:
    """The arm gains at short requests and was the SAME at the long ones, where fresh rounds find it faster: that claim
    is lost, and the advice to run it stands.
    """
    seconds = {("sdpa", 512): 0.02, ("naive", 512): 0.1, ("sdpa", 2048): 0.1, ("naive", 2048): 0.1}
    record = run_of(lambda label, _, length, __: seconds[label, length], arms=(SDPA, NAIVE), baseline="naive")
    arm = projected(confirming(record, Selected("b1-n2048-bucketed", "sdpa", "naive"), slower=0.9)).arm("sdpa")
    assert Caveat.NOT_CONFIRMED in arm.caveats
    assert arm.recommendation == "TUNE-FIRST"


def test_fresh_rounds_change_no_figure() -> None:
    """They are said beside the first rounds' figures and enter no cost."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05}), noise=0.01)
    before, after = projected(record).arm("cast-32"), projected(confirming(record, SELECTED, slower=1.5)).arm("cast-32")
    assert after.cost_usd_per_hour == before.cost_usd_per_hour
    assert after.speedup == before.speedup
