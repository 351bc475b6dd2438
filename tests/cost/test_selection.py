from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.cost.selection import rival, selection
from castbench.plan import Arm
from castbench.records import RunRecord, Selected
from castbench.workload.spec import LengthDistribution
from tests.cost.builder import CAST, NAIVE, SDPA, projected, run_of, times

OTHER = Arm("cast-64", "cast", (), "candidate", False)


def chosen(record: RunRecord) -> tuple[Selected, ...]:
    """What is selected of a run."""
    found = selection(record, projected(record))
    return found.selected if found else ()


def test_the_cheapest_mechanism_is_confirmed_against_the_cheapest_exact_one() -> None:
    """Of two that could replace sdpa the faster one is selected, once, with what it is held against."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05, "cast-64": 0.06}), arms=(SDPA, CAST, OTHER))
    assert [(s.label, s.against) for s in chosen(record)] == [("cast-32", "sdpa")]


def test_a_baseline_that_is_not_the_profiles_is_confirmed_too() -> None:
    """Where the profile runs naive and sdpa is cheaper, both steps of the advice are confirmed, and naive itself,
    though cheaper than CAST, is nobody's rival.
    """
    slow_cast = run_of(times({"sdpa": 0.05, "naive": 0.1, "cast-32": 0.2}), arms=(SDPA, NAIVE, CAST), baseline="naive")
    assert [(s.label, s.against) for s in chosen(slow_cast)] == [("cast-32", "sdpa"), ("sdpa", "naive")]


def test_nothing_is_selected_where_there_is_nothing_to_choose() -> None:
    """A baseline alone has no winner."""
    record = run_of(times({"sdpa": 0.1}), arms=(SDPA,))
    assert selection(record, projected(record)) is None


def test_what_is_recommended_is_confirmed_before_what_only_looks_cheaper() -> None:
    """An arm without a verdict does not take the place of the recommended one, whatever its times look like."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05, "cast-64": 0.04}), arms=(SDPA, CAST, OTHER))
    made = projected(record)
    doubted = tuple(replace(a, recommendation="KEEP") if a.arm == OTHER else a for a in made.arms)
    found = rival(doubted, made.today, made.baseline)
    assert found is not None
    assert found.arm == CAST


@pytest.mark.parametrize(
    ("shares", "middle"), [((0.2, 0.3, 0.5), 4096), ((0.9, 0.09, 0.01), 512), ((0.6, 0.3, 0.1), 2048)]
)
def test_the_group_holds_the_middle_of_the_work(shares: tuple[float, float, float], middle: int) -> None:
    """Times go with the length: 512, 2048 and 4096 tokens weigh share times length, and half of that is passed at
    the length selected: 102+614+2048, 461+184+41 and 307+614+410.
    """
    mix = LengthDistribution((512, 2048, 4096), shares, True, "shares")
    speed = {"sdpa": 1e-4, "cast-32": 5e-5}
    record = run_of(lambda label, batch, length, how: speed[label] * length, mix=mix)
    assert [s.group for s in chosen(record)] == [f"b1-n{middle}-bucketed"]


def test_a_padded_batch_works_on_its_longest_request() -> None:
    """With half of the requests short, 15 of 16 batches of four are long: where every step takes as long, the middle
    of a padded winner's work lies at the long length, and that of a bucketed one at the short.
    """
    for batching, middle in (("padded", 2048), ("bucketed", 512)):
        record = run_of(times({"sdpa": 0.1, "cast-32": 0.05}), batch_sizes=(4,), batching=(batching,))  # type: ignore[arg-type]  # a literal of two
        assert [s.group for s in chosen(record)] == [f"b4-n{middle}-{batching}"]


def test_the_winner_is_confirmed_in_its_own_best_configuration() -> None:
    """CAST is best compiled and sdpa eager: the fresh rounds are CAST's, compiled."""
    record = run_of(
        times({"sdpa": 0.1, "cast-32": 0.06}), regimes=("eager", "compiled"),
        speedup_in=lambda label, regime: {"cast-32": 1.5, "sdpa": 0.5}[label] if regime == "compiled" else 1.0,
    )  # fmt: skip
    assert [s.group for s in chosen(record)] == ["b1-n512-bucketed-compiled"]


def test_the_held_out_point_is_not_selected() -> None:
    """The held-out point is measured for the interpolation alone: requests near it count to the next longer shape."""
    continuous = LengthDistribution((256, 512, 1024), (0.2, 0.6, 0.2), False, "quantiles")
    speed = {"sdpa": 1e-4, "cast-32": 5e-5}
    record = run_of(
        lambda label, batch, length, how: speed[label] * length, mix=continuous, lengths=(256, 1024), held_out=512
    )  # fmt: skip
    assert [s.group for s in chosen(record)] == ["b1-n1024-bucketed"]
