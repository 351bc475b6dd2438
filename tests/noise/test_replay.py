from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from benchmarks.trials import (
    Series,
    as_run,
    by_process,
    by_round,
    false_verdicts,
    judged,
    lower_bound,
    read_noise,
    upper_bound,
    write_noise,
)
from castbench.plan import AnalysisPlan
from castbench.stats import Verdict

NOISE = read_noise(Path(__file__).parent / "windows.json")
RULES = AnalysisPlan()
TO_THE_END = 1e-6
COMPARISONS = 400


def test_the_kept_noise_is_whole() -> None:
    """Every series has all rounds of several shapes, over all the processes that the plan spreads them on."""
    assert {len(series.log_s) for series in NOISE} == {RULES.looks[-1]}
    assert {len(set(series.process)) for series in NOISE} == {len(RULES.epoch_ends)}
    assert len({series.tokens for series in NOISE}) >= 3
    assert all(0.2 < series.first.count("a") / len(series.first) < 0.8 for series in NOISE)


@pytest.mark.parametrize("redraw", [by_round, by_process], ids=["by round", "by process"])
@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_a_module_against_itself_is_rarely_called_faster(redraw: object, margin: float) -> None:
    """On recorded noise, using every look: false verdicts stay within 5 %, allowing for chance."""
    wrong = false_verdicts(NOISE, redraw, COMPARISONS, margin, TO_THE_END, seed=7)  # type: ignore[arg-type]
    assert wrong <= 0.05 * COMPARISONS + 2 * math.sqrt(COMPARISONS * 0.05 * 0.95)


@pytest.mark.parametrize("percent", [3, 10])
def test_intervals_on_recorded_noise_hold_a_difference_that_was_added(percent: int) -> None:
    """With the default margin and width: at least 93 % of the intervals hold it, allowing for chance."""
    draw, shift, held, trials = random.Random(8), math.log1p(percent / 100), 0, 300
    for number in range(trials):
        found = judged([v + shift for v in by_round(NOISE[number % len(NOISE)], draw)], 0.01, 0.02).log_ratio
        assert found.low is not None
        assert found.high is not None
        held += found.low <= shift <= found.high
    assert held >= 0.93 * trials


def test_the_rule_stops_where_the_product_stops() -> None:
    """At the first look with a clear verdict or a narrow interval; at the end otherwise; a cut is a last look."""
    small = [0.001 * (-1) ** i for i in range(64)]
    wide = [0.5 * (-1) ** i + 0.01 * (i % 7) for i in range(64)]
    assert judged([v - 0.2 for v in small], 0.01, 0.02).rounds == 8
    assert judged([v - 0.2 for v in small], 0.01, 0.02).verdict is Verdict.FASTER
    assert judged(wide, 0.0, TO_THE_END).rounds == 64
    assert judged(wide[:20], 0.0, TO_THE_END).rounds == 20


def test_redrawing_keeps_sizes_and_turns_signs() -> None:
    """By round every ratio keeps its size; by process all the ratios of a process turn together."""
    series = Series(128, (0, 0, 1, 1), "abba", ((0.0, 0.1), (0.0, 0.2), (0.0, -0.3), (0.0, 0.4)))
    assert as_run(series) == pytest.approx([0.1, -0.2, 0.3, 0.4])
    draw = random.Random(1)
    drawn = {tuple(round(v, 9) for v in by_process(series, draw)) for _ in range(40)}
    assert drawn == {(s * 0.1, -s * 0.2, t * 0.3, t * 0.4) for s in (1, -1) for t in (1, -1)}
    many = {tuple(v > 0 for v in by_round(series, draw)) for _ in range(300)}
    assert len(many) == 16


@pytest.mark.parametrize(("hits", "trials", "limit"), [(0, 100, 0.0295), (5, 100, 0.1023), (15, 200, 0.1131)])
def test_bounds_are_those_of_clopper_and_pearson(hits: int, trials: int, limit: float) -> None:
    """One-sided 95 % limits as found where the binomial tail is exactly 5 %."""
    bound = upper_bound(hits, trials)
    tail = math.fsum(math.comb(trials, k) * bound**k * (1 - bound) ** (trials - k) for k in range(hits + 1))
    assert tail == pytest.approx(0.05, abs=1e-9)
    assert bound == pytest.approx(limit, abs=5e-4)
    assert lower_bound(trials - hits, trials) == pytest.approx(1 - bound)


def test_noise_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Writing and reading give the same series."""
    write_noise(tmp_path / "n.json", {"device": "x"}, NOISE[:2])
    assert read_noise(tmp_path / "n.json") == NOISE[:2]
