from __future__ import annotations

import itertools
import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench import stats
from castbench.plan import AnalysisPlan
from castbench.stats import Estimate, Verdict

RULES = AnalysisPlan()
FLOATS = st.floats(-1.0, 1.0, allow_nan=False)


def brute_force_interval(values: list[float], error: float) -> tuple[float, float] | None:
    """The signed-rank interval by trying every sign pattern of the ranks."""
    n = len(values)
    sums = sorted(sum(r for r, on in zip(range(1, n + 1), signs, strict=True) if on)
                  for signs in itertools.product((0, 1), repeat=n))  # fmt: skip
    rank = 0
    while sum(1 for s in sums if s <= rank) / 2**n <= error / 2:
        rank += 1
    walsh = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    return (walsh[rank - 1], walsh[-rank]) if rank else None


@given(st.lists(FLOATS, min_size=5, max_size=9, unique=True), st.sampled_from([0.01, 0.05, 0.1, 0.2]))
def test_the_signed_rank_interval_is_the_one_of_all_sign_patterns(values: list[float], error: float) -> None:
    """The interval equals the one found by enumerating the null distribution."""
    found = stats.signed_rank_estimate(values, error)
    wanted = brute_force_interval(values, error)
    assert (found.low, found.high) == (wanted or (None, None))


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_hodges_lehmann_is_the_median_of_pairwise_averages(values: list[float]) -> None:
    """The estimate equals the plain definition."""
    averages = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2)]
    assert stats.signed_rank_estimate(values, None).value == pytest.approx(median(averages), abs=1e-15)


@given(st.lists(FLOATS, min_size=8, max_size=16), st.floats(-2, 2))
def test_estimates_follow_a_shift(values: list[float], shift: float) -> None:
    """Scaling all times of one arm shifts value, low and high alike."""
    before = stats.signed_rank_estimate(values, 0.05)
    after = stats.signed_rank_estimate([v + shift for v in values], 0.05)
    for a, b in ((before.value, after.value), (before.low, after.low), (before.high, after.high)):
        assert a is not None
        assert b == pytest.approx(a + shift, abs=1e-9)


@given(st.lists(FLOATS, min_size=8, max_size=16))
def test_swapping_the_labels_mirrors_the_interval(values: list[float]) -> None:
    """Numerator and denominator exchanged: everything changes sign."""
    there = stats.signed_rank_estimate(values, 0.05)
    back = stats.signed_rank_estimate([-v for v in values], 0.05)
    assert there.low is not None
    assert there.high is not None
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12)


def test_eight_rounds_can_reach_the_first_look_s_level_and_seven_cannot() -> None:
    """The first look is at 8 because fewer rounds have no 99 % signed-rank interval."""
    assert stats.signed_rank_estimate([0.1 * i for i in range(8)], 0.01).low is not None
    assert stats.signed_rank_estimate([0.1 * i for i in range(7)], 0.01).low is None


def test_the_error_spent_over_all_looks_is_five_percent() -> None:
    """The looks' errors add up to 5 %."""
    assert math.fsum(RULES.look_errors) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("rounds", "error"), [(7, None), (8, 0.01), (9, 0.04), (16, 0.0125), (20, 0.0275), (40, 0.015), (64, 0.015)]
)
def test_a_cut_between_looks_spends_what_is_left(rounds: int, error: float | None) -> None:
    """On a look its own error, between looks all that is unspent, before the first none."""
    found = stats.final_error(rounds, RULES.looks, RULES.look_errors)
    assert found is error if error is None else found == pytest.approx(error)


def test_repeated_looks_keep_false_verdicts_below_five_percent() -> None:
    """Simulated A/A with all four looks: at most 5 % of comparisons get a verdict at margin 0."""
    draw = random.Random(1)
    trials, wrong = 400, 0
    for _ in range(trials):
        values = [draw.gauss(0, 0.03) for _ in range(64)]
        for look, error in zip(RULES.looks, RULES.look_errors, strict=True):
            verdict = stats.judge(stats.signed_rank_estimate(values[:look], error), 0.0)
            if verdict is not Verdict.UNCLEAR:
                wrong += 1
                break
    assert wrong <= 0.05 * trials + 2 * math.sqrt(trials * 0.05 * 0.95)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.5, -0.02, "FASTER"), (0.02, 0.5, "SLOWER"), (-0.009, 0.009, "SAME"), (-0.02, 0.0, "UNCLEAR"),
     (-0.5, 0.5, "UNCLEAR"), (None, None, "UNCLEAR")],
)  # fmt: skip
def test_verdicts_need_the_whole_interval(low: float | None, high: float | None, verdict: str) -> None:
    """A verdict is given only where the whole interval lies on one side of, or within, the margin."""
    assert stats.judge(Estimate(0.0, low, high), 0.01) == verdict


CLAIMS = st.sampled_from([Verdict.FASTER, Verdict.SLOWER, Verdict.SAME])
MARGINS = st.sampled_from([0.0, 0.01, 0.1])


@given(st.lists(FLOATS, min_size=8, max_size=12), MARGINS, CLAIMS, st.sampled_from([0.01, 0.03, 0.05, 0.2]))
def test_a_claim_has_a_p_value_within_the_error_exactly_where_the_interval_gives_its_verdict(
    values: list[float], margin: float, claim: Verdict, error: float
) -> None:
    """The p-value and the verdict of the interval are two ways of saying the same, for every margin and claim."""
    verdict = stats.judge(stats.signed_rank_estimate(values, error), margin)
    if margin == 0.0 and claim is Verdict.SAME:
        return  # without a margin nothing but equal values is the same
    assert (stats.claim_p_value(values, margin, claim) <= error) == (verdict is claim)


@given(st.lists(st.floats(0.01, 1.0), min_size=5, max_size=9), st.floats(-0.2, 0.2))
def test_the_p_value_is_the_share_of_sign_patterns_at_least_as_extreme(sizes: list[float], margin: float) -> None:
    """Enumerated: with equal chances for every sign, twice the share of patterns with as few averages above -margin."""
    shifted = [size * (-1) ** i for i, size in enumerate(sizes)]
    values = [v - margin for v in shifted]
    ranks = range(1, len(sizes) + 1)
    above = sum(a >= -margin for a in ((x + y) / 2 for x, y in itertools.combinations_with_replacement(values, 2)))
    patterns = list(itertools.product((0, 1), repeat=len(sizes)))
    as_few = sum(sum(r for r, on in zip(ranks, signs, strict=True) if on) <= above for signs in patterns)
    wanted = min(1.0, 2 * as_few / len(patterns))
    assert stats.claim_p_value(values, margin, Verdict.FASTER) == pytest.approx(wanted)


def test_eight_fresh_rounds_suffice_to_confirm_six_winners_and_no_more() -> None:
    """The smallest p-value of 8 rounds is 1/128: times 6 within 5 %, times 7 not."""
    smallest = stats.claim_p_value([-0.1] * RULES.confirm_rounds, 0.0, Verdict.FASTER)
    assert smallest == 1 / 128
    assert max(stats.holm([smallest] * 6)) <= RULES.total_error < max(stats.holm([smallest] * 7))


@given(st.lists(FLOATS, min_size=6, max_size=70), MARGINS, st.sampled_from([Verdict.FASTER, Verdict.SLOWER]))
def test_the_sequential_p_value_is_within_the_whole_error_exactly_with_the_verdict_of_its_look(
    values: list[float], margin: float, claim: Verdict
) -> None:
    """Whatever the number of rounds, on a look or between looks; below the first look it is 1."""
    found = stats.sequential_p_value(values, margin, claim, RULES.looks, RULES.look_errors)
    error = stats.final_error(len(values), RULES.looks, RULES.look_errors)
    verdict = stats.judge(stats.signed_rank_estimate(values, error), margin)
    assert (found <= RULES.total_error) == (verdict is claim)
    assert error is not None or found == 1.0


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_smallest_sequential_p_value_over_all_looks_is_valid(level: float) -> None:
    """Simulated A/A: taking the smallest over all four looks falls to a level in no more than that share of trials."""
    draw = random.Random(5)
    trials, fell = 400, 0
    for _ in range(trials):
        values = [draw.gauss(0, 0.03) for _ in range(64)]
        fell += any(
            stats.sequential_p_value(values[:n], 0.0, claim, RULES.looks, RULES.look_errors) <= level
            for n in RULES.looks
            for claim in (Verdict.FASTER, Verdict.SLOWER)
        )
    assert fell <= level * trials + 2 * math.sqrt(trials * level * (1 - level))


def test_holm_adjusts_in_steps() -> None:
    """A worked example: 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06."""
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (7, 2.3646), (30, 2.0423)])
def test_student_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    """97.5 % quantiles agree with published tables."""
    assert stats.student_t_975(degrees) == pytest.approx(quantile, abs=1e-4)


def test_absolute_latency_needs_three_processes_for_an_interval() -> None:
    """Two epochs give a mean and no interval; the interval comes from epoch means, not from rounds."""
    assert stats.mean_by_epochs([1.0, 3.0], [0, 1]) == Estimate(2.0)
    three = stats.mean_by_epochs([1.0, 2.0, 3.0, 3.0], [0, 1, 2, 2])
    assert three.value == pytest.approx(2.0)
    assert three.high == pytest.approx(2.0 + 4.30265 / math.sqrt(3), abs=1e-4)


def test_upper_percentiles_need_enough_steps() -> None:
    """Below the stated number of steps a percentile is not given."""
    steps = [float(i) for i in range(1, 101)]
    assert stats.percentile(steps, 0.95, stats.P95_MIN_STEPS) == 95.0
    assert stats.percentile(steps, 0.99, stats.P99_MIN_STEPS) is None
