from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castbench import stats
from castbench.findings import CaseFinding, Confirmation, case_findings, confirmations, faster_from
from castbench.plan import Group, Plan
from castbench.records import (
    Caveat,
    GroupRecord,
    Outcome,
    Purpose,
    RoundRecord,
    RunRecord,
    Sample,
    Selected,
    Selection,
    Status,
)
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import SamplingPolicy, Shape
from tests.examples import example_header, example_plan

PLAN = example_plan()
BASELINE, CANDIDATE, OTHER = "sdpa", "naive", "cast-8"
LABELS = tuple(arm.label for arm in PLAN.arms)
FIRST, SECOND = PLAN.groups[0].key, PLAN.groups[1].key
EPOCH_ENDS = PLAN.analysis.epoch_ends
FRESH = PLAN.analysis.confirm_rounds

runs = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32)
COUNTS = st.sampled_from([5, 8, 11, 16])
SHIFTS = st.sampled_from([-0.2, -0.03, -0.005, 0.0, 0.004, 0.05, 0.3])


def made_rounds(
    seed: int, group: str, count: int, shifts: Mapping[str, float], *, purpose: Purpose = "compare",
    noise: float = 0.02, start: int = 0, after: Mapping[str, float] | None = None,
) -> list[RoundRecord]:  # fmt: skip
    """Rounds in random order: a level per round, noise per window, and each arm's own log shift."""
    draw, made, before = random.Random(f"{seed}|{group}|{purpose}"), [], ""
    for number in range(start, start + count):
        level = math.log(0.01) + draw.gauss(0, 0.1)
        samples = []
        for place, label in enumerate(draw.sample(LABELS, len(LABELS))):
            carried = (after or {}).get(before, 0.0)
            step_s = math.exp(level + shifts.get(label, 0.0) + draw.gauss(0, noise) + carried)
            samples.append(Sample(label, place, 4, 4 * step_s, (step_s,) * 4))
            before = label
        epoch = sum(number >= end for end in EPOCH_ENDS)
        made.append(RoundRecord(group, number, epoch, tuple(samples), purpose))
    return made


def run_of(rounds: list[RoundRecord], plan: Plan = PLAN, selected: tuple[Selected, ...] = ()) -> RunRecord:
    """A finished run of these rounds."""
    outcomes = tuple(Outcome(arm.label, Status.OK, peak_bytes=1) for arm in plan.arms)
    groups = tuple(GroupRecord(g.key, 0, "rounds", outcomes, 1.0, "") for g in plan.groups)
    chosen = Selection(selected, "rule") if selected else None
    return RunRecord(example_header(plan), tuple(rounds), groups, selection=chosen)


def finding(record: RunRecord, label: str, group: str = FIRST) -> CaseFinding:
    """The finding of one case."""
    return next(f for f in case_findings(record) if (f.group.key, f.arm.label) == (group, label))


def each_sample(rounds: list[RoundRecord], change: Callable[[Sample], Sample]) -> list[RoundRecord]:
    """The rounds with every window changed."""
    return [replace(r, samples=tuple(map(change, r.samples))) for r in rounds]


MIRRORED = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}


@runs
@given(SEEDS, COUNTS, SHIFTS)
def test_swapping_two_labels_mirrors_ratio_and_verdict(seed: int, count: int, shift: float) -> None:
    """Candidate and baseline exchanged: the log ratio changes sign, FASTER and SLOWER change places, UNCLEAR stays."""
    rounds = made_rounds(seed, FIRST, count, {CANDIDATE: shift})
    swap = {BASELINE: CANDIDATE, CANDIDATE: BASELINE}
    there = finding(run_of(rounds), CANDIDATE)
    back = finding(run_of(each_sample(rounds, lambda s: replace(s, label=swap.get(s.label, s.label)))), CANDIDATE)
    assert there.log_ratio is not None
    assert back.log_ratio is not None
    assert back.log_ratio.value == pytest.approx(-there.log_ratio.value, abs=1e-12)
    if there.log_ratio.low is None:
        assert back.log_ratio.high is None
    else:
        assert back.log_ratio.high == pytest.approx(-there.log_ratio.low, abs=1e-12)
    assert there.verdict is not None
    assert back.verdict is MIRRORED.get(there.verdict, there.verdict)


@runs
@given(SEEDS, COUNTS, SHIFTS, st.sampled_from([1e-4, 0.3, 7.0, 1e3]))
def test_scaling_all_times_scales_latencies_and_nothing_else(
    seed: int, count: int, shift: float, factor: float
) -> None:
    """A machine that is slower throughout: same ratios, verdicts and doubts; all times by that factor."""
    rounds = made_rounds(seed, FIRST, count, {CANDIDATE: shift})

    def slower(s: Sample) -> Sample:
        return replace(
            s, elapsed_s=s.elapsed_s * factor, step_times_s=tuple(t * factor for t in s.step_times_s)
        )  # fmt: skip

    before, after = case_findings(run_of(rounds)), case_findings(run_of(each_sample(rounds, slower)))
    for old, new in zip(before, after, strict=True):
        assert (new.verdict, new.caveats, new.rounds) == (old.verdict, old.caveats, old.rounds)
        assert numbers(new.log_ratio) == pytest.approx(numbers(old.log_ratio), abs=1e-9)
        assert numbers(new.latency_s) == pytest.approx([x * factor for x in numbers(old.latency_s)])
        assert scalars(new) == pytest.approx([x * factor for x in scalars(old)])


def numbers(estimate: Estimate | None) -> list[float]:
    """The numbers of an estimate that are there."""
    parts = () if estimate is None else (estimate.value, estimate.low, estimate.high)
    return [x for x in parts if x is not None]


def scalars(found: CaseFinding) -> list[float]:
    """The times of a finding that are there."""
    return [x for x in (found.mean_step_s, found.step_p95_s, found.step_p99_s) if x is not None]


@runs
@given(SEEDS, COUNTS, SHIFTS)
def test_the_order_of_the_lines_of_a_run_changes_nothing(seed: int, count: int, shift: float) -> None:
    """The same rounds read in another order give the same findings to the last bit."""
    rounds = made_rounds(seed, FIRST, count, {CANDIDATE: shift}) + made_rounds(seed, SECOND, count, {OTHER: shift})
    shuffled = random.Random(seed).sample(rounds, len(rounds))
    assert case_findings(run_of(shuffled)) == case_findings(run_of(rounds))


@runs
@given(SEEDS, COUNTS, SHIFTS)
def test_the_time_at_which_a_round_was_run_changes_only_what_rests_on_processes(
    seed: int, count: int, shift: float
) -> None:
    """Rounds dealt out anew over numbers and processes: same ratios, verdicts, means and percentiles of steps."""
    rounds = made_rounds(seed, FIRST, count, {CANDIDATE: shift})
    moved = random.Random(seed).sample(rounds, count)
    moved = [replace(r, round=old.round, epoch=old.epoch) for r, old in zip(moved, rounds, strict=True)]
    for old, new in zip(case_findings(run_of(rounds)), case_findings(run_of(moved)), strict=True):
        assert (new.log_ratio, new.verdict, scalars(new)) == (old.log_ratio, old.verdict, scalars(old))


@runs
@given(SEEDS, COUNTS, SHIFTS)
def test_a_discarded_round_counts_for_nothing(seed: int, count: int, shift: float) -> None:
    """A round discarded for an outside cause, however wild its times, leaves every finding as it was."""
    rounds = made_rounds(seed, FIRST, count, {CANDIDATE: shift})
    wild = made_rounds(seed, FIRST, 3, {CANDIDATE: 5.0}, start=count)
    discarded = [replace(r, invalid_reason="another process used the device") for r in wild]
    assert case_findings(run_of(rounds + discarded)) == case_findings(run_of(rounds))


@runs
@given(SEEDS, COUNTS, SHIFTS)
def test_fresh_rounds_do_not_leak_into_the_comparison(seed: int, count: int, shift: float) -> None:
    """Rounds made to confirm, however wild, leave the comparison's numbers as they were."""
    rounds = made_rounds(seed, FIRST, count, {CANDIDATE: shift})
    fresh = made_rounds(seed, FIRST, FRESH, {CANDIDATE: 5.0}, purpose="confirm")
    assert case_findings(run_of(rounds + fresh)) == case_findings(run_of(rounds))


@runs
@given(SEEDS, SHIFTS, st.sampled_from([-0.5, 0.5]))
def test_the_comparison_does_not_leak_into_the_fresh_rounds(seed: int, shift: float, other: float) -> None:
    """The fresh estimate is that of the fresh rounds, whatever the first ones said; they make the claim."""
    fresh = made_rounds(seed, FIRST, FRESH, {CANDIDATE: shift}, purpose="confirm")
    one, two = (confirmed(made_rounds(seed, FIRST, 16, {CANDIDATE: first}) + fresh)[0] for first in (other, 2 * other))
    assert one.fresh == two.fresh
    assert (one.p_value, one.holds) == (two.p_value, two.holds)


def confirmed(rounds: list[RoundRecord], *more: Selected, plan: Plan = PLAN) -> tuple[Confirmation, ...]:
    """Confirmations of a run that selected the candidate on the first group, and whatever else."""
    return confirmations(run_of(rounds, plan, (Selected(FIRST, CANDIDATE, BASELINE), *more)))


def winner(first: float, fresh: float, *, count: int = FRESH, group: str = FIRST) -> list[RoundRecord]:
    """First rounds with one shift of the candidate and fresh rounds with another, with little noise."""
    return made_rounds(1, group, 16, {CANDIDATE: first}, noise=0.002) + made_rounds(
        1, group, count, {CANDIDATE: fresh}, noise=0.002, purpose="confirm"
    )


@pytest.mark.parametrize(
    ("first", "fresh", "claim", "holds"),
    [(-0.2, -0.2, "FASTER", True), (-0.2, 0.0, "FASTER", False), (-0.2, 0.2, "FASTER", False),
     (0.2, 0.2, "SLOWER", True), (0.2, -0.2, "SLOWER", False), (0.0, 0.0, "SAME", True), (0.0, 0.2, "SAME", False)],
)  # fmt: skip
def test_a_claim_holds_if_the_fresh_rounds_make_it_too(first: float, fresh: float, claim: str, holds: bool) -> None:
    """What the first rounds said must be said by the fresh ones, in the same direction; else it is lost and marked."""
    record = run_of(winner(first, fresh), selected=(Selected(FIRST, CANDIDATE, BASELINE),))
    (found,) = confirmations(record)
    assert (found.claim, found.holds, found.lost) == (claim, holds, not holds)
    marked = {(f.group.key, f.arm.label) for f in case_findings(record) if Caveat.NOT_CONFIRMED in f.caveats}
    assert marked == (set() if holds else {(FIRST, CANDIDATE)})


def test_an_unclear_winner_claims_nothing() -> None:
    """Nothing to confirm, nothing to lose, and no part of the family of tests."""
    unclear = made_rounds(3, FIRST, 8, {CANDIDATE: -0.02}, noise=0.2) + made_rounds(
        2, FIRST, FRESH, {CANDIDATE: -0.5}, purpose="confirm"
    )
    (found,) = confirmed(unclear)
    assert found.claim is Verdict.UNCLEAR
    assert found.fresh is not None
    assert (found.p_value, found.adjusted_p, found.holds, found.lost) == (None, None, False, False)
    with_other = confirmed(unclear + winner(-0.2, -0.2, group=SECOND), Selected(SECOND, CANDIDATE, BASELINE))
    assert with_other[1].adjusted_p == with_other[1].p_value


def test_missing_fresh_rounds_confirm_nothing_and_stay_in_the_family() -> None:
    """A confirmation that was cut short is not judged, but what was selected beside it still pays for it."""
    rounds = winner(-0.2, -0.2, count=FRESH - 1) + winner(-0.2, -0.2, group=SECOND)
    cut, whole = confirmed(rounds, Selected(SECOND, CANDIDATE, BASELINE))
    assert (cut.rounds, cut.fresh, cut.p_value, cut.lost) == (FRESH - 1, None, None, True)
    assert whole.p_value == pytest.approx(1 / 128)
    assert whole.adjusted_p == pytest.approx(2 / 128)
    assert whole.holds


def test_more_fresh_rounds_than_planned_are_not_looked_at() -> None:
    """The number judged was fixed before: rounds beyond it, which could be added until they please, change nothing."""
    more = made_rounds(9, FIRST, 8, {CANDIDATE: 0.4}, purpose="confirm", start=FRESH)
    planned, longer = confirmed(winner(-0.2, -0.2))[0], confirmed(winner(-0.2, -0.2) + more)[0]
    assert (longer.fresh, longer.p_value, longer.holds) == (planned.fresh, planned.p_value, True)
    shuffled = confirmed(more + winner(-0.2, -0.2))[0]
    assert shuffled.fresh == planned.fresh


def test_seven_claims_are_more_than_eight_rounds_can_confirm() -> None:
    """Holm over the family: the strongest possible result of eight rounds holds beside five others and not six."""
    lengths = tuple(Group(Shape(1, 100 * (i + 1)), "bucketed") for i in range(7))
    for count, holds in ((6, True), (7, False)):
        plan = replace(PLAN, groups=lengths[:count])
        rounds = [r for g in plan.groups for r in winner(-0.2, -0.2, group=g.key)]
        found = confirmations(run_of(rounds, plan, tuple(Selected(g.key, CANDIDATE, BASELINE) for g in plan.groups)))
        assert {c.holds for c in found} == {holds}


def test_fresh_rounds_do_not_flatter_the_winner() -> None:
    """Of equal arms the one that looked fastest looked too fast; the fresh rounds give it its true ratio on average."""
    selected, fresh = [], []
    for seed in range(40):
        rounds = made_rounds(seed, FIRST, 8, {}, noise=0.05)
        best = min((f for f in case_findings(run_of(rounds)) if f.log_ratio), key=ratio_of).arm.label
        rounds += made_rounds(seed, FIRST, FRESH, {}, noise=0.05, purpose="confirm")
        (found,) = confirmations(run_of(rounds, selected=(Selected(FIRST, best, BASELINE),)))
        assert found.selected is not None
        assert found.fresh is not None
        selected.append(found.selected.value)
        fresh.append(found.fresh.value)
    chance = 0.05 * math.sqrt(2 / FRESH) / math.sqrt(40)
    assert fmean(selected) < -3 * chance
    assert abs(fmean(fresh)) < 3 * chance


def ratio_of(found: CaseFinding) -> float:
    """Log ratio of a finding."""
    return found.log_ratio.value if found.log_ratio else math.inf


VERDICTS = st.lists(st.sampled_from([Verdict.FASTER, Verdict.UNCLEAR, Verdict.SLOWER, None]), max_size=6)


@given(VERDICTS, SEEDS)
def test_faster_from_goes_down_from_the_longest_until_one_is_not_faster(
    verdicts: list[Verdict | None], seed: int
) -> None:
    """The length named is the start of the unbroken run of FASTER that ends at the longest, whatever the order."""
    template = finding(run_of([]), CANDIDATE)
    cases = [
        replace(template, group=Group(Shape(1, 100 * (i + 1)), "bucketed"), verdict=verdict)
        for i, verdict in enumerate(verdicts)
    ]
    unbroken = len(verdicts) - next(
        (i for i, v in enumerate(reversed(verdicts)) if v is not Verdict.FASTER), len(cases)
    )
    wanted = 100 * (unbroken + 1) if unbroken < len(verdicts) else None
    assert faster_from(random.Random(seed).sample(cases, len(cases))) == wanted


def test_faster_from_is_wrong_no_more_often_than_one_verdict() -> None:
    """Faster at the three longest of six lengths and equal below: it names one of those in half the error at most,
    since only one direction is claimed.
    """
    draw, trials, wrong = random.Random(3), 300, 0
    template = finding(run_of([]), CANDIDATE)
    for _ in range(trials):
        cases = []
        for number in range(6):
            ratios = [draw.gauss(-1.0 if number >= 3 else 0.0, 0.03) for _ in range(16)]
            verdict = stats.judge(stats.signed_rank_estimate(ratios, 0.05), 0.0)
            cases.append(replace(template, group=Group(Shape(1, 100 * (number + 1)), "bucketed"), verdict=verdict))
        reached = faster_from(cases)
        assert reached is not None
        wrong += reached < 400
    assert wrong <= 0.025 * trials + 2 * math.sqrt(trials * 0.025 * 0.975)


def test_carry_over_is_a_doubt_about_every_arm_of_its_group_and_of_no_other() -> None:
    """Where one arm slows whatever runs after it, all ratios of that group are in doubt."""
    rounds = made_rounds(4, FIRST, 32, {}, noise=0.01, after={OTHER: 0.1}) + made_rounds(4, SECOND, 32, {}, noise=0.01)
    found = case_findings(run_of(rounds))
    assert {f.group.key for f in found if Caveat.CARRY_OVER in f.caveats} == {FIRST}
    assert {f.arm.label for f in found if Caveat.CARRY_OVER in f.caveats} == set(LABELS)


def test_a_carry_over_within_the_margin_of_the_profile_is_none() -> None:
    """With a margin of 20 % nobody minds 10 %."""
    plan = replace(PLAN, sampling=SamplingPolicy(same_within=0.2))
    rounds = made_rounds(4, FIRST, 32, {}, noise=0.01, after={OTHER: 0.1})
    assert not any(Caveat.CARRY_OVER in f.caveats for f in case_findings(run_of(rounds, plan)))
