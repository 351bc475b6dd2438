from __future__ import annotations

import math
import random

import pytest

from benchmarks import against_torch, overhead
from benchmarks.against_torch import Case, Outcome, Pair, Reached
from castbench import stats
from castbench.plan import AnalysisPlan

RULES = AnalysisPlan()


def pair(log_ratio: float, *, process: int = 0, done_s: float = 0.0, timed_s: float = 1.0) -> Pair:
    """A pair whose cast takes exp(log_ratio) times sdpa's second."""
    return Pair({"sdpa": 1.0, "cast": math.exp(log_ratio)}, process, timed_s, done_s)


def outcome(sdpa_s: float, cast_s: float, total_s: float | None = None) -> Outcome:
    """What a tool found, and when it was precise, if it was."""
    reached = None if total_s is None else Reached(8, total_s, total_s / 2)
    return Outcome({"sdpa": sdpa_s, "cast": cast_s}, reached, 0.01, 100.0)


def test_precision_is_reached_only_at_a_look_and_with_that_looks_error() -> None:
    """Wide at 8, narrow at 16: the sixteenth counts, its interval made with the second look's error."""
    noisy, calm = [(-1) ** i * 0.1 for i in range(8)], [i * 1e-4 for i in range(56)]
    found, half_width = against_torch.narrow_at([*noisy, *calm], 0.06)
    assert found == 16
    assert half_width == stats.signed_rank_estimate([*noisy, *calm[:8]], RULES.look_errors[1]).half_width
    assert against_torch.narrow_at(calm[:15], 1.0)[0] == 8
    assert against_torch.narrow_at([*noisy, *calm[:7]], 0.06)[0] is None
    assert against_torch.narrow_at(calm[:7], 1.0) == (None, math.inf)


def test_seconds_run_to_the_end_of_the_look_that_was_narrow_enough() -> None:
    """Not to the last pair, and from the tool's beginning; timed seconds are those of the pairs until then."""
    pairs = [pair(0.2 + i * 1e-4, done_s=50.0 + i, timed_s=0.5) for i in range(16)]
    found = against_torch.judged(pairs, 0.03, 40.0, {})
    assert found.reached == Reached(8, 17.0, 4.0)
    assert found.total_s == 25.0


def test_a_latency_is_the_mean_over_processes_of_their_medians() -> None:
    """A process with more pairs weighs no more, and a stall within one does not show."""
    pairs = [pair(math.log(x), process=0) for x in (1.0, 1.0, 9.0)] + [pair(math.log(3.0), process=1)]
    found = against_torch.latency_of(pairs)
    assert found["sdpa"] == pytest.approx(1.0)
    assert found["cast"] == pytest.approx(2.0)


def test_a_ratio_is_the_median_repeat_of_geometric_means() -> None:
    """One tool over another: 2 and 8 in one repeat are 4, and one odd repeat of three does not decide."""
    plain, odd = {"a": outcome(2.0, 8.0), "b": outcome(1.0, 1.0)}, {"a": outcome(90.0, 90.0), "b": outcome(1.0, 1.0)}
    assert against_torch.ratio([plain, odd, plain], "a", "b") == pytest.approx(4.0)


def test_what_was_never_precise_counts_as_longest() -> None:
    """Half of the shapes unreached: no median is given, rather than that of the others."""
    repeats = [{"timer": outcome(1, 1, 5.0)}, {"timer": outcome(1, 1)}, {"timer": outcome(1, 1, 9.0)}]
    assert against_torch.time_to_width(repeats, "timer") == Reached(8, 9.0, 4.5)
    assert against_torch.time_to_width([repeats[0], repeats[1], repeats[1]], "timer") is None
    assert against_torch.median_reached([1.0, None]) is None
    assert against_torch.median_reached([1.0, 2.0, None]) == 2.0


@pytest.mark.parametrize("off", [1.04, 1 / 1.04])
def test_the_summary_is_good_only_within_the_limit_against_both_rivals(off: float) -> None:
    """4 % away from either rival, in either direction, is not within 3 %; the unbound script decides nothing."""
    same, far = outcome(1.0, 1.0, 1.0), outcome(off, off, 1.0)
    tools = dict.fromkeys(against_torch.TOOLS, same)
    case = against_torch.CASES[0]
    assert against_torch.summary({case: [{**tools, against_torch.UNBOUND: far}]})["good"]
    for rival in against_torch.RIVALS:
        assert not against_torch.summary({case: [{**tools, rival: far}]})["good"]


def test_all_tools_but_one_are_bound_as_castbench_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment for castbench and its rivals; the unbound script loses even what the user has set."""
    for name in against_torch.BINDING:
        monkeypatch.delenv(name, raising=False)
    assert {against_torch.environment_of(t)["OMP_PROC_BIND"] for t in ("castbench", "timer", "script")} == {"true"}
    monkeypatch.setenv("OMP_PLACES", "cores")
    assert "OMP_PROC_BIND" not in against_torch.environment_of("timer")
    assert not against_torch.BINDING & set(against_torch.environment_of(against_torch.UNBOUND))


def test_the_twelve_shapes_are_planned_alike_and_to_the_last_round() -> None:
    """Each is one group with both mechanisms and one look: nothing stops a run before the rivals' pairs are used up."""
    assert len(set(against_torch.CASES)) == 12
    for case in against_torch.CASES:
        plan = against_torch.plan_of(case, 16)
        assert [arm.label for arm in plan.arms] == list(against_torch.ARMS)
        shapes = [(group.shape.batch_size, group.shape.seq_len) for group in plan.groups]
        assert shapes == [(case.batch, case.tokens)]
        assert plan.analysis.looks == (16,)
        assert plan.analysis.epoch_ends[-1] == 16
        assert (plan.served.scope, plan.served.model.embed_dim) == (case.scope, case.width)


def test_pairs_of_a_comparison_are_neighbours_in_an_order_drawn_for_each() -> None:
    """Every arm once per pair, first as often as second or nearly so, values kept under their own names."""
    ran: list[str] = []

    def arm(name: str) -> float:
        ran.append(name)
        return float(len(ran))

    found = overhead.paired(random.Random(0), 200, a=lambda: arm("a"), b=lambda: arm("b"))
    assert all(abs(a - b) == 1 and min(a, b) % 2 == 1 for a, b in zip(found["a"], found["b"], strict=True))
    assert all(ran[int(at) - 1] == name for name in "ab" for at in found[name])
    assert 70 < sum(a < b for a, b in zip(found["a"], found["b"], strict=True)) < 130


def test_a_log_ratio_is_shown_as_the_percentage_it_is() -> None:
    """A mean of log 1.05 is shown as 5 %, with the ends of its interval in the same unit."""
    row = overhead.ratio("x", [math.log(1.05 + i * 1e-4) for i in range(-10, 11)])
    assert row.value == pytest.approx(5.0, abs=0.01)
    assert row.low is not None
    assert row.high is not None
    assert 4.85 < row.low < 5.0 < row.high < 5.15


@pytest.mark.parametrize(("share", "good"), [(0.99, True), (1.0, False)])
def test_a_sampler_that_takes_a_hundredth_of_a_core_fails(share: float, good: bool) -> None:
    """Less than 1 % is promised; figures in other units decide nothing."""
    rows = [overhead.Row("steps", 80.0, "%"), overhead.Row("sampler", share, "% of a core")]
    assert overhead.is_good(rows) is good


def test_a_case_says_its_size() -> None:
    """Batch, tokens and width in the order of a tensor."""
    assert Case("attention", 64, 128, 2).name == "attention 2 x 64 x 128"
