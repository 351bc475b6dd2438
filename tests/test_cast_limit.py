from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from benchmarks import limit_sums
from benchmarks.limit_sums import TARGETS, Bound, Rates, Target
from castbench.mechanisms.cast import CastParams, work
from castbench.mechanisms.spec import Problem

PROBLEM = Problem(1, 4096, 512, 8, 4)
AT_MOST = Target("a / b", "forward", "{cast}@{short}", "b@{short}", True, {512: 1.3})
AT_LEAST = Target("b / a", "forward", "b@{long}", "{cast}@{long}", False, {512: 4.0})


def test_a_ratio_is_the_median_within_rounds_and_not_a_ratio_of_medians() -> None:
    """A machine that slows down threefold in one round changes no ratio; rounds without one of the two are left out."""
    rounds = [{"a": 2.0, "b": 1.0}, {"a": 6.0, "b": 3.0}, {"a": 1.0}, {"a": 5.0, "b": 2.0}]
    found = limit_sums.ratio_of(rounds, "a", "b")
    assert found == limit_sums.Ratio(2.0, 2.0, 2.5, 3)
    assert limit_sums.ratio_of([{"a": 1.0}, {"b": 1.0}], "a", "b") is None


@pytest.mark.parametrize("rounds", [3, 9, 16])
def test_two_slow_runs_share_all_the_rounds_that_the_slower_one_has(rounds: int) -> None:
    """Fewer turns are a part of more turns, so that ratios of slow runs keep all their rounds."""
    chosen = [limit_sums.turns(rounds, count) for count in range(1, rounds + 1)]
    assert [len(one) for one in chosen] == list(range(1, rounds + 1))
    assert all(fewer < more for fewer, more in pairwise(chosen))
    assert chosen[-1] == frozenset(range(rounds))


def test_few_turns_are_spread_over_all_rounds() -> None:
    """Three turns of nine do not follow one another: a slow minute must not hold them all."""
    first, second, third = sorted(limit_sums.turns(9, 3))
    assert second - first > 1
    assert third - second > 1


@pytest.mark.parametrize(("turn_s", "count"), [(0.1, 9), (2.0, 5), (9.0, 3), (0.9, 9)])
def test_a_slow_run_takes_part_in_as_many_rounds_as_its_budget_pays_for(turn_s: float, count: int) -> None:
    """But in at least three, and never in more than there are."""
    assert limit_sums.affordable(9, 10.0, turn_s, 3) == count


def test_the_best_c_is_that_of_least_median() -> None:
    """A single lucky round does not choose; candidates that missed a round are judged by what they have."""
    rounds = [{"32": 1.0, "48": 2.0, "64": 3.0}, {"32": 5.0, "48": 2.0, "64": 3.0}, {"32": 5.0, "48": 2.1}]
    assert limit_sums.best_of(rounds) == "48"


def test_candidates_scale_with_the_root_of_the_length_and_hold_auto() -> None:
    """Four times the tokens, twice the clusters, in multiples of 8; never more clusters than tokens."""
    asked = [32, 64, 128]
    assert set(asked) <= set(limit_sums.candidates(asked, 4096, wide=False))
    assert {64, 128, 256} <= set(limit_sums.candidates(asked, 16384, wide=False))
    wide = limit_sums.candidates(asked, 4096, wide=True)
    assert (min(wide), max(wide)) == (16, 256)
    for tokens in (16, 512, 1000, 65536):
        found = limit_sums.candidates(asked, tokens, wide=False)
        assert limit_sums.auto_clusters(tokens) in found
        assert max(found) <= tokens
        assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("value", "low_is_good", "high_is_good"), [(1.2, True, False), (1.3, True, False), (4.0, False, True)]
)
def test_a_target_is_met_on_its_side_of_the_limit_and_on_it(
    value: float, low_is_good: bool, high_is_good: bool
) -> None:
    """At most 1.3 and at least 4: each limit belongs to what meets it."""
    assert AT_MOST.is_met(value, 512) is low_is_good
    assert AT_LEAST.is_met(value, 512) is high_is_good
    assert (AT_MOST.limit_text(512), AT_LEAST.limit_text(512)) == ("≤ 1.3", "≥ 4")


def test_every_target_has_a_limit_for_both_widths_and_names_runs_that_are_measured() -> None:
    """The templates give names of the form arm@tokens; CAST is in every one of them."""
    for target in TARGETS:
        assert set(target.limits) == {512, 128}
        runs = target.runs("top_k", 4096, 16384)
        assert all(name.partition("@")[2] in ("4096", "16384") for name in runs)
        assert any(name.startswith("top_k@") for name in runs)
    assert [t.text for t in TARGETS if t.is_growth] == ["CAST grows N={short} → {long} by"]


def test_a_bound_is_arithmetic_at_the_matmul_rate_against_bytes_at_copy_bandwidth() -> None:
    """The strict bound is the longer of the two, the serial one their sum, the practical one adds attention's lag."""
    rates, flops = Rates(100e9, 50e9, 10e9), work(CastParams(num_clusters=64), PROBLEM)
    bound = limit_sums.cast_bound(PROBLEM, 64, rates)
    assert bound.compute_s == pytest.approx(flops.flops / 100e9)
    assert bound.transfer_s == pytest.approx((8 * 4096 * 512 * 4 + 4 * 512**2 * 4) / 10e9)
    assert bound.overlapped_s == max(bound.compute_s, bound.transfer_s)
    assert bound.serial_s == pytest.approx(bound.compute_s + bound.transfer_s)
    assert bound.practical_s == pytest.approx(bound.serial_s + flops.attention_flops * (1 / 50e9 - 1 / 100e9))
    assert bound.times(3).serial_s == pytest.approx(3 * bound.serial_s)


def test_what_forbids_a_target_is_the_bound_of_the_best_number_of_clusters() -> None:
    """No C that anybody might choose has a lower bound than the one that a refusal rests on."""
    rates = Rates(100e9, 80e9, 1000e9)
    least = limit_sums.least_bound(PROBLEM, rates)
    others = [limit_sums.cast_bound(PROBLEM, clusters, rates) for clusters in (8, 16, 32, 48, 56, 64, 128, 512)]
    for strictness in ("overlapped_s", "practical_s"):
        lowest = min(getattr(other, strictness) for other in others)
        assert 0.99 * lowest < getattr(least, strictness) <= lowest * (1 + 1e-9)


def test_a_kernel_faster_than_products_makes_no_bound_shorter() -> None:
    """An attention rate above the matmul rate adds nothing and takes nothing away."""
    bound = limit_sums.cast_bound(PROBLEM, 64, Rates(100e9, 200e9, 10e9))
    assert bound.practical_s == bound.serial_s


def test_rates_are_the_fastest_seen_at_either_end_of_the_run() -> None:
    """A slow first measurement does not make a bound easier; attention counts for its own width alone."""

    def seen(gflops: float, copy: float, wide: float, narrow: float) -> dict[str, object]:
        attention = [{"width": 512, "flops_per_s": [wide]}, {"width": 128, "flops_per_s": [narrow]}]
        products = [{"shape": [1, 1, 1], "flops_per_s": [1.0]}, {"shape": [2, 2, 2], "flops_per_s": [gflops, 2.0]}]
        return {"products": products, "copy_bytes_per_s": [copy], "attention": attention}

    result = {"rates": [seen(5.0, 9.0, 3.0, 7.0), seen(6.0, 8.0, 4.0, 2.0)]}
    assert limit_sums.rates_of(result, 512) == Rates(6.0, 4.0, 9.0)
    assert limit_sums.rates_of(result, 128) == Rates(6.0, 7.0, 9.0)


def test_a_missed_target_is_laid_at_the_right_door() -> None:
    """Forbidden by the bound; out of the kernels' reach; possible. At its bound only CAST's side changes."""
    runs, measured = ("a@1", "b@1"), {"a@1": 3.0, "b@1": 2.0}
    assert limit_sums.value_with(runs, measured, {"a@1": 1.0, "c@1": 9.0}) == 0.5
    said = [limit_sums.why_missed(AT_MOST, 512, 1.5, *at, 0.5) for at in ((1.4, 1.45), (1.2, 1.4), (1.1, 1.2))]
    assert ["forbids" in said[0], "not with this machine's" in said[1], "it can be" in said[2]] == [True] * 3
    assert all("50%" in sentence for sentence in said)
    alone = [limit_sums.why_missed(AT_MOST, 512, 1.5, 1.1, 1.2, 0.5, kernels) for kernels in (1.35, 1.25)]
    assert ["not by PyTorch's kernels" in alone[0], "it can be" in alone[1]] == [True] * 2
    peak = next(target for target in TARGETS if target.of == "peak_bytes")
    assert "it cannot be" in limit_sums.why_missed(peak, 512, 1.5, 1.4, 1.4, 0.5)
    assert "it could be" in limit_sums.why_missed(peak, 512, 1.5, 0.8, 0.8, 0.5)
    growth = next(target for target in TARGETS if target.is_growth)
    assert "forbids" not in limit_sums.why_missed(growth, 512, 8.0, 7.0, 7.0, 0.5)


@pytest.mark.parametrize(
    ("op", "shapes", "part"),
    [
        ("aten::addmm", [[1536], [4096, 512], [512, 1536]], "in_proj"),
        ("aten::addmm", [[512], [512, 512], [512, 512]], "out_proj"),
        ("aten::linear", [[4096, 512], [1536, 512], [1536]], "in_proj"),
        ("aten::addmm", [[1], [4096, 512], [512, 1]], "other products"),
        ("aten::mm", [[4096, 512], [512, 2048]], "in_proj"),
        ("aten::bmm", [[16, 4096, 64], [16, 64, 32]], "other products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [[32, 8, 128, 64]], "fused attention"),
        ("aten::index_add_", [[4096, 512], [4096], [4096, 512]], "gather / scatter"),
        ("aten::index_select", [[4096, 1536], [4096]], "gather / scatter"),
        ("aten::topk", [[1, 4096, 32]], "sort / topk"),
        ("aten::copy_", [[8], [8]], "copies, fills"),
        ("aten::_softmax", [[8, 8]], "softmax, element-wise"),
        ("aten::mul_", [[8], [8]], "softmax, element-wise"),
        ("cast::within", [[8], [8]], "cast::within"),
    ],
)
def test_an_operation_belongs_to_a_part_by_its_name_and_its_weight(op: str, shapes: list[list[int]], part: str) -> None:
    """Projections are told from other products by the weight; foreign kernels go by their names."""
    assert limit_sums.part_of(op, shapes, 512) == part


@pytest.mark.parametrize(
    ("op", "inputs", "output", "moved"),
    [
        ("aten::mul", [100, 10], 100, 210),
        ("aten::index_select", [1000, 8], 40, 88),
        ("aten::index_add_", [1000, 8, 40], 1000, 128),
        ("aten::copy_", [100, 50], 100, 150),
        ("aten::zeros", [], 100, 100),
        ("aten::empty", [], 100, 0),
    ],
)
def test_bytes_moved_are_those_read_and_written(op: str, inputs: list[int], output: int, moved: int) -> None:
    """A gather reads what it takes and not its source; a scatter reads and writes what it touches; empty moves none."""
    assert limit_sums.moved_bytes(op, inputs, output) == moved


def test_kernels_bound_a_ratio_at_the_best_number_of_clusters() -> None:
    """The rival's median over all rounds, over the least median of all kernels together; else unknown."""

    def row(clusters: int, *rounds: tuple[float, float, float], mode: str = "forward") -> dict[str, Any]:
        times = [{"projections": p, "a": a, "b": b} for p, a, b in rounds]
        return {"width": 512, "tokens": 64, "mode": mode, "clusters": clusters, "rounds": times}

    # One round of the rival was slow: it is no bound. Four kernels' seconds at C = 8, five at 16.
    rows = [row(8, (2.0, 1.0, 3.0), (20.0, 1.0, 3.0), (2.0, 1.0, 3.0)), row(16, (2.0, 2.0, 3.0))]
    rows += [row(32, (2.0, 0.1, 0.1), mode="training")]
    assert limit_sums.with_kernels(rows, 512, 64, "forward", ("projections@64", "top_k@64")) == 0.5
    assert limit_sums.with_kernels(rows, 512, 64, "forward", ("top_k@64", "projections@64")) == 2.0
    assert limit_sums.with_kernels(rows, 512, 64, "forward", ("sdpa@64", "top_k@64")) is None
    assert limit_sums.with_kernels(rows, 128, 64, "forward", ("projections@64", "top_k@64")) is None


def test_attention_counts_two_products() -> None:
    """2 FLOPs per multiply-add, for the scores and for their use: dense attention's 4·N²·M."""
    assert limit_sums.attention_flops([1, 8, 4096, 64], [1, 8, 4096, 64]) == 4 * 4096**2 * 512


def test_dense_medians_of_runs_take_only_rounds_they_were_in() -> None:
    """A slow run that sat out a round has the median of its own rounds."""
    assert limit_sums.medians([{"a": 1.0, "b": 7.0}, {"a": 3.0}, {"a": 2.0}]) == {"a": 2.0, "b": 7.0}
    assert math.isclose(Bound(1.0, 2.0, 3.0).practical_s, 6.0)
