from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.change import Known, change_of, process_variance, ratio_in, repeat_limit, verdicts
from castbench.plan import AnalysisPlan
from castbench.stats import Estimate, Verdict, final_error, signed_rank_estimate, student_t_quantile
from tests.cost.builder import run_of

LOGS = st.floats(-2.0, 2.0)
WIDTHS = st.floats(1e-4, 1.0)
RULES = AnalysisPlan()


def known(logs: Sequence[float], processes: Sequence[int] = ()) -> Known:
    """What a run with these log ratios knows."""
    error = final_error(len(logs), RULES.looks, RULES.look_errors)
    assert error is not None
    between = process_variance(logs, processes) if processes else 0.0
    return Known(signed_rank_estimate(logs, error), len(logs) - 1, error, between)


def noisy(rng: random.Random, centre: float, rounds: int, sd: float = 0.01) -> list[float]:
    """Log ratios of so many rounds around a centre."""
    return [rng.gauss(centre, sd) for _ in range(rounds)]


def test_both_intervals_are_combined_as_welch_would() -> None:
    """By hand: standard errors 0.01 and 0.02 on 7 and 15 degrees make 0.02236 on 21 degrees."""
    sides = [(0.01, 7), (0.02, 15)]
    base, new = (
        Known(Estimate(at, at - half, at + half), degrees, 0.05)
        for at, (error, degrees) in zip((-0.5, -0.3), sides, strict=True)
        for half in [error * student_t_quantile(0.975, degrees)]
    )
    found = change_of(base, new).estimate
    assert found.value == pytest.approx(0.2)
    assert found.low is not None
    # 0.0005**2 / (0.0001**2 / 7 + 0.0004**2 / 15) = 20.7, of which the whole part counts
    assert 0.2 - found.low == pytest.approx(math.sqrt(0.0005) * 2.0859634, rel=1e-6)


@given(LOGS, LOGS, WIDTHS, WIDTHS)
def test_the_reverse_change_is_the_mirror_image(one: float, other: float, width: float, height: float) -> None:
    """BASE and NEW exchanged: value and ends change their sign, the change of a run to itself is 0."""
    a, b = (
        Known(Estimate(one, one - width, one + height), 7, 0.01),
        Known(Estimate(other, other - height, other + width), 15, 0.0125),
    )
    there, back = change_of(a, b).estimate, change_of(b, a).estimate
    assert there.value == -back.value
    assert there.low is not None
    assert back.high is not None
    assert there.low == pytest.approx(-back.high)
    assert change_of(a, a).estimate.value == 0
    assert there.low <= there.value


def test_intervals_hold_the_truth_and_a_table_without_change_accuses_nobody() -> None:
    """Of 300 tables of eight unchanged ratios at margin 0 at most 5 % have any verdict (upper bound of the binomial:
    25), and of their 2,400 intervals at least 94 % hold 0.
    """
    rng = random.Random(5)
    accused = held = 0
    for _ in range(300):
        changes = [change_of(known(noisy(rng, -0.6, 8)), known(noisy(rng, -0.6, 16, 0.02))) for _ in range(8)]
        accused += any(v is not Verdict.UNCLEAR for v in verdicts(changes, 0.0))
        ends = [change.estimate for change in changes]
        held += sum(e.low is not None and e.high is not None and e.low <= 0 <= e.high for e in ends)
    assert accused <= 25
    assert held >= 0.94 * 2400


def test_processes_that_differ_widen_the_interval() -> None:
    """Two runs of 16 rounds whose five processes differ by half the noise of a round: 0 is outside in at most 8 % of
    400 pairs; without counting the processes it is so in more.
    """
    rng = random.Random(11)
    processes = [0] * 3 + [1] * 3 + [2] * 2 + [3] * 4 + [4] * 4
    outside = {True: 0, False: 0}
    for _ in range(400):
        runs = []
        for _ in range(2):
            shift = [rng.gauss(0, 0.005) for _ in range(5)]
            runs.append([rng.gauss(shift[p], 0.01) for p in processes])
        for counted in outside:
            ends = change_of(*(known(run, processes if counted else ()) for run in runs)).estimate
            assert ends.low is not None
            assert ends.high is not None
            outside[counted] += not ends.low <= 0 <= ends.high
    assert outside[True] <= 32
    assert outside[False] > outside[True]


def test_process_variance_by_hand() -> None:
    """Two processes of two: MSB 4, MSW 1, so a variance of 1.5 between them, and half of that in the mean."""
    values = [1 - math.sqrt(0.5), 1 + math.sqrt(0.5), 3 - math.sqrt(0.5), 3 + math.sqrt(0.5)]
    assert process_variance(values, [0, 0, 1, 1]) == pytest.approx((4 - 1) / 2 / 2)
    assert process_variance([1.0, 2.0], [0, 1]) == 0
    assert process_variance([1.0, 2.0, 1.0, 2.0], [0, 0, 1, 1]) == 0


def test_a_verdict_by_itself_is_what_the_interval_says() -> None:
    """One change alone: FASTER, SLOWER, SAME or UNCLEAR just where the 95 % interval lies there."""
    rng = random.Random(3)
    for _ in range(200):
        made = change_of(known(noisy(rng, 0, 16)), known(noisy(rng, rng.choice((-0.05, 0, 0.02, 0.05)), 16)))
        low, high = made.estimate.low, made.estimate.high
        assert low is not None
        assert high is not None
        expected = (
            Verdict.FASTER if high < -0.02 else Verdict.SLOWER if low > 0.02
            else Verdict.SAME if low >= -0.02 and high <= 0.02 else Verdict.UNCLEAR
        )  # fmt: skip
        assert verdicts([made], 0.02) == (expected,)


def test_holm_asks_more_of_many_changes_than_of_one() -> None:
    """A change just beyond 5 % counts alone, and no more beside nineteen that are unclear."""
    edge = Known(Estimate(0.0, -0.0001, 0.0001), 60, 0.05)
    just, unclear = (Known(Estimate(at, at - 0.03, at + 0.03), 60, 0.05) for at in (0.0301, 0.01))
    alone, others = change_of(edge, just), [change_of(edge, unclear)] * 19
    assert verdicts([alone], 0.0) == (Verdict.SLOWER,)
    assert verdicts([alone, *others], 0.0)[0] is Verdict.UNCLEAR


def test_a_floor_widens_the_interval_and_holds_back_verdicts() -> None:
    """What repeats of equal work differ by is added on both sides; SLOWER needs to be beyond it as well."""
    base, new = (Known(Estimate(at, at - 0.01, at + 0.01), 30, 0.05) for at in (0.0, 0.06))
    bare, floored = change_of(base, new), change_of(base, new, 0.05)
    assert bare.estimate.low is not None
    assert floored.estimate.low == pytest.approx(bare.estimate.low - 0.05)
    assert verdicts([bare], 0.01) == (Verdict.SLOWER,)
    assert verdicts([floored], 0.01) == (Verdict.UNCLEAR,)


def test_without_an_interval_there_is_no_verdict() -> None:
    """Too few rounds in either run: UNCLEAR, no interval, and it takes no part in Holm."""
    bare, sure = Known(Estimate(0.5), 2, 0.05), Known(Estimate(0.0, -0.001, 0.001), 30, 0.05)
    slower = Known(Estimate(0.2, 0.19, 0.21), 30, 0.05)
    assert change_of(sure, bare).estimate == Estimate(0.5)
    found = verdicts([change_of(sure, bare), change_of(sure, slower)], 0.01)
    assert found == (Verdict.UNCLEAR, Verdict.SLOWER)
    assert repeat_limit(bare) is None


def test_a_repeat_stays_below_its_limit() -> None:
    """Of 400 repeats of the same work at most 4 % show a slowdown whose upper end lies beyond the limit."""
    rng = random.Random(2)
    beyond = 0
    for _ in range(400):
        first, again = (known(noisy(rng, -0.6, 16)) for _ in range(2))
        limit, high = repeat_limit(first), change_of(first, again).estimate.high
        assert limit is not None
        assert high is not None
        beyond += high > limit
    assert beyond <= 16


def test_the_ratio_of_a_run_is_the_one_of_its_report() -> None:
    """Same value and ends as the paired estimate that the case's speed-up comes from, on rounds less one degrees."""
    record = run_of(lambda label, *_: {"sdpa": 1.0, "cast-32": 0.5}[label], noise=0.02, rounds=8)
    key = record.header.plan.groups[0].key
    made = ratio_in(record, key, "cast-32")
    logs = [math.log(r.samples[1].mean_step_s / r.samples[0].mean_step_s) for r in record.rounds_of(key)]
    assert made is not None
    assert made.log == signed_rank_estimate(logs, 0.01)
    assert (made.degrees, made.error) == (7, 0.01)
    assert made.processes == process_variance(logs, [0, 0, 0, 1, 1, 1, 2, 2])
    assert ratio_in(record, key, "naive") is None
