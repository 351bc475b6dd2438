from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from castbench.carry_over import LEVEL, carries_over, carry_over
from castbench.plan import AnalysisPlan
from castbench.records import RoundRecord, Sample

FEWEST = AnalysisPlan().looks[0]
EPOCH_ENDS = AnalysisPlan().epoch_ends
MARGIN = 0.01


def rounds_with(
    draw: random.Random, count: int, arms: int, *, after: dict[str, float] | None = None, noise: float = 0.02,
    first: float = 0.0, layout: float = 0.0, stalls: float = 0.0,
) -> list[RoundRecord]:  # fmt: skip
    """Rounds in random order, with noise shared by a round and by an arm's process; `after` adds to what follows."""
    labels = [f"arm{i}" for i in range(arms)]
    made, epoch, before = [], 0, ""
    places = {label: draw.gauss(0, layout) for label in labels}
    for number in range(count):
        if number in EPOCH_ENDS:
            epoch, before = epoch + 1, ""
            places = {label: draw.gauss(0, layout) for label in labels}
        shared, samples = draw.gauss(0, 0.05), []
        for place, label in enumerate(draw.sample(labels, arms)):
            stall = draw.expovariate(1) * stalls * (draw.random() < 0.2)
            log_s = shared + draw.gauss(0, noise) + stall + places[label] + (after or {}).get(before, 0.0)
            log_s += first * (place == 0)
            samples.append(Sample(label, place, 1, 0.01 * math.exp(log_s)))
            before = label
        made.append(RoundRecord("g", number, epoch, tuple(samples)))
    return made


def share_found(seed: int, trials: int, count: int, arms: int, **what: object) -> float:
    """Share of simulated groups in which a carry-over is reported."""
    draw = random.Random(seed)
    return sum(carries_over(rounds_with(draw, count, arms, **what), MARGIN, FEWEST) for _ in range(trials)) / trials  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "arms", "what"),
    [(8, 4, {}), (64, 2, {}), (16, 5, {"stalls": 0.2}), (32, 4, {"layout": 0.03}), (16, 4, {"first": 0.03})],
    ids=["8 rounds", "two arms", "stalls", "process layout", "slow first place"],
)
def test_no_carry_over_is_found_where_there_is_none(count: int, arms: int, what: dict[str, float]) -> None:
    """At most one group in a hundred, allowing for chance: with stalls, process effects and a slow first place too."""
    trials = 200
    assert share_found(11, trials, count, arms, **what) <= LEVEL + 2.6 * math.sqrt(LEVEL * (1 - LEVEL) / trials)


@pytest.mark.parametrize(("count", "noise"), [(64, 0.03), (8, 0.01)])
def test_a_carry_over_of_three_percent_is_found(count: int, noise: float) -> None:
    """In 64 rounds of 3 % noise, and in 8 rounds only where the noise is 1 %: in nine groups of ten."""
    assert share_found(12, 20, count, 4, after={"arm0": 0.03}, noise=noise) >= 0.9


def test_a_carry_over_within_the_margin_is_no_matter() -> None:
    """Significant, but smaller than the margin that verdicts have anyway: not reported."""
    rounds = rounds_with(random.Random(2), 64, 4, after={"arm0": 0.03}, noise=0.001)
    assert carries_over(rounds, 0.02, FEWEST)
    assert not carries_over(rounds, 0.04, FEWEST)


@pytest.mark.parametrize("arms", [2, 3, 5])
def test_the_effect_is_that_of_the_arm_that_came_before(arms: int) -> None:
    """On average over runs what was put in comes out, for the arm that has it, and next to nothing for the others."""
    draw = random.Random(3)
    found: dict[str, list[float]] = {}
    for _ in range(60):
        for one in carry_over(rounds_with(draw, 32, arms, after={"arm1": 0.05}, noise=0.01), 1.0, FEWEST):
            found.setdefault(one.label, []).append(one.effect)
    means = {label: math.fsum(values) / len(values) for label, values in found.items()}
    assert means["arm1"] == pytest.approx(0.05, abs=0.005)


def least_squares(rounds: Sequence[RoundRecord], label: str) -> float:
    """Slope of log time on "came right after `label`" with a mean per round and arm, by alternating projections."""
    rows = [{s.label: math.log(s.elapsed_s) for s in r.samples} for r in rounds]
    came = []
    before, last = "", -1
    for r in rounds:
        before = before if r.epoch == last else ""
        last = r.epoch
        row = {}
        for sample in sorted(r.samples, key=lambda s: s.order):
            row[sample.label] = float(before == label)
            before = sample.label
        came.append(row)
    for _ in range(200):
        for table in (rows, came):
            for row in table:
                mean = math.fsum(row.values()) / len(row)
                row.update({k: v - mean for k, v in row.items()})
            for name in table[0]:
                mean = math.fsum(row[name] for row in table) / len(table)
                for row in table:
                    row[name] -= mean
    products = [(y[k] * x[k], x[k] ** 2) for y, x in zip(rows, came, strict=True) for k in y]
    return math.fsum(xy for xy, _ in products) / math.fsum(xx for _, xx in products)


def test_the_effect_is_the_least_squares_slope() -> None:
    """The closed form equals the regression with round and arm effects, worked out in another way."""
    rounds = rounds_with(random.Random(4), 16, 4, after={"arm2": 0.05})
    for one in carry_over(rounds, 1.0, FEWEST):
        assert one.effect == pytest.approx(least_squares(rounds, one.label), abs=1e-12)


def test_a_discarded_round_and_a_fresh_process_break_the_chain() -> None:
    """What ran before the first window is known only if the round before was kept and ran in the same process."""
    rounds = rounds_with(random.Random(5), 8, 3)
    kept = [r for r in rounds if r.round != 4]
    anew = [RoundRecord(r.group, r.round, r.epoch + 9 * (r.round > 4), r.samples) for r in kept]
    closed_up = [RoundRecord(r.group, r.round - (r.round > 4), r.epoch, r.samples) for r in kept]
    assert carry_over(kept, 1.0, 1) == carry_over(anew, 1.0, 1)
    assert carry_over(kept, 1.0, 1) != carry_over(closed_up, 1.0, 1)


def test_an_arm_that_fell_out_is_left_out() -> None:
    """Only arms that every round holds are looked at; the others still count as what ran before."""
    rounds = rounds_with(random.Random(6), 8, 4)
    fewer = [
        RoundRecord(r.group, r.round, r.epoch, tuple(s for s in r.samples if s.label != "arm3" or r.round < 3))
        for r in rounds
    ]
    assert [c.label for c in carry_over(fewer, 1.0, FEWEST)] == ["arm0", "arm1", "arm2"]


def test_too_few_rounds_tell_nothing() -> None:
    """Below the first look, and without any rounds, nothing is said."""
    assert carry_over(rounds_with(random.Random(7), FEWEST - 1, 4), MARGIN, FEWEST) == ()
    assert carry_over([], MARGIN, FEWEST) == ()


def test_the_order_of_the_lines_does_not_matter() -> None:
    """Rounds read in another order give the same effects and p-values."""
    rounds = rounds_with(random.Random(8), 16, 4, after={"arm0": 0.1})
    shuffled = random.Random(9).sample(rounds, len(rounds))
    assert carry_over(shuffled, MARGIN, FEWEST) == carry_over(rounds, MARGIN, FEWEST)


def test_p_values_are_those_of_all_orders() -> None:
    """For few rounds of two arms: the share of all possible orders whose largest statistic is at least as large."""
    rounds = rounds_with(random.Random(10), 5, 2, after={"arm0": 0.02}, noise=0.01)
    rounds = [RoundRecord(r.group, r.round, 0, r.samples) for r in rounds]
    found = {c.label: c for c in carry_over(rounds, 0.0, 2)}
    times = [{s.label: s for s in r.samples} for r in rounds]
    strengths = []
    for firsts in itertools.product(("arm0", "arm1"), repeat=len(rounds)):
        redone = [
            RoundRecord("g", n, 0, tuple(Sample(s.label, int(s.label != first), 1, s.elapsed_s) for s in t.values()))
            for n, (t, first) in enumerate(zip(times, firsts, strict=True))
        ]
        strengths.append(max(strength_of(redone, label) for label in found))
    for label, one in found.items():
        exact = sum(s >= strength_of(rounds, label) * (1 - 1e-9) for s in strengths) / len(strengths)
        assert one.adjusted_p == pytest.approx(exact, abs=0.2 if exact > 0.1 else 0.05)


def strength_of(rounds: Sequence[RoundRecord], label: str) -> float:
    """Absolute slope times the root of the spread of its indicator: what the largest is taken of."""
    try:
        slope = least_squares(rounds, label)
    except ZeroDivisionError:
        return 0.0
    return abs(slope) * math.sqrt(spread_of(rounds, label))


def spread_of(rounds: Sequence[RoundRecord], label: str) -> float:
    """Sum of squares of the indicator of what came after `label`, without round and arm means."""
    rows, before = [], ""
    for r in rounds:
        row = {}
        for sample in sorted(r.samples, key=lambda s: s.order):
            row[sample.label] = float(before == label)
            before = sample.label
        rows.append(row)
    for _ in range(3):
        for row in rows:
            mean = math.fsum(row.values()) / len(row)
            row.update({k: v - mean for k, v in row.items()})
        for name in rows[0]:
            mean = math.fsum(row[name] for row in rows) / len(rows)
            for row in rows:
                row[name] -= mean
    return math.fsum(v * v for row in rows for v in row.values())
