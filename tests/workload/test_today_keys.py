from __future__ import annotations

from pathlib import Path

import pytest

from castbench.plain import from_plain, to_plain
from castbench.workload.profile import parse_profile
from castbench.workload.spec import Demand, Economics, Observed, RunningToday, WorkloadProfile

PROFILE = """
name: small
model: {layers: 2, embed_dim: 64, num_heads: 4}
lengths: [{tokens: 256, share: 1}]
batch_sizes: [4, 1]
batching: [padded, bucketed]
regimes: [eager, compiled]
mechanisms: [sdpa]
"""


def read(keys: str) -> tuple[WorkloadProfile | None, list[str]]:
    """The profile with further keys, and what is wrong with it."""
    found = parse_profile(PROFILE + keys, "small", Path())
    return found.profile, [str(problem) for problem in found.problems]


@pytest.mark.parametrize(
    ("keys", "today"),
    [
        ("", None),
        ("today: {}", RunningToday(1, "bucketed", "eager")),
        ("today: {batch_size: 4}", RunningToday(4, "padded", "eager")),
        ("today: {batch_size: 4, batching: bucketed, regime: compiled}", RunningToday(4, "bucketed", "compiled")),
        ("today: {batching: padded}", RunningToday(1, "bucketed", "eager")),
    ],
)
def test_what_is_left_out_of_today_is_the_simplest(keys: str, today: RunningToday | None) -> None:
    """Each key by itself: the smallest batch, the first way of batching, eager; a batch of one is never padded."""
    profile, problems = read(keys)
    assert problems == []
    assert profile is not None
    assert (profile.today, profile.economics.today) == (today, today)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("today: {batch_size: 8}", "today.batch_size: expected one of the batch_sizes that are measured (4, 1), got 8"),
        ("today: {regime: graph}", "today.regime: expected one of the regimes that are measured (eager, compiled)"),
        ("today: 3", "today: expected a mapping of keys"),
        ("today: {batch: 4}", "today.batch: unknown key; there are batch_size, batching, regime"),
        ("observed: {}", "observed: expected at least one of gpu_hours_per_month, requests_per_month, p50_ms"),
        ("observed: {gpu_hours_per_month: 0}", "observed.gpu_hours_per_month: expected a number of hours above 0"),
        ("observed: {p50_ms: -3}", "observed.p50_ms: expected a number above 0"),
        ("observed: {requests_per_month: .nan}", "observed.requests_per_month: expected"),
        ("demand: {requests_per_second: 1, zones: 0}", "demand.zones: expected"),
        ("demand: {requests_per_second: 1, spare: -1}", "demand.spare: expected"),
        ("demand: {requests_per_second: 1, min_replicas: 1.5}", "demand.min_replicas: expected"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(keys: str, problem: str) -> None:
    """One sentence: where, what was expected and what was found."""
    profile, problems = read(keys)
    assert profile is None
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_regime_that_is_not_measured_is_refused_though_nobody_wrote_it() -> None:
    """Where only compiled steps are measured, eager can not be what runs today, and that is said."""
    found = parse_profile(PROFILE.replace("[eager, compiled]", "[compiled]") + "today: {}", "small", Path())
    assert [str(p) for p in found.problems] == [
        "today.regime: expected one of the regimes that are measured (compiled), got eager; add it to regimes"
    ]


def test_the_keys_reach_the_run_file_and_older_files_are_read() -> None:
    """Economics survives being written and read; a file of schema 3 has none of the keys and reads as before."""
    profile, _ = read(
        "today: {batch_size: 4}\nobserved: {p50_ms: 80, gpu_hours_per_month: 730}\n"
        "demand: {requests_per_second: 3, min_replicas: 2, zones: 3, spare: 1}"
    )
    assert profile is not None
    plain = to_plain(profile.economics)
    assert from_plain(Economics, plain) == profile.economics
    assert profile.economics.observed == Observed(730, None, 80)
    assert profile.demand == Demand(3.0, None, 0.7, None, 2, 3, 1)
    for key in ("today", "observed"):
        del plain[key]
    for key in ("min_replicas", "zones", "spare"):
        del plain["demand"][key]
    older = from_plain(Economics, plain)
    assert (older.today, older.observed, older.demand) == (None, None, Demand(3.0))


@pytest.mark.parametrize(
    "keys", ["observed: {p50_ms: 1.0e-320}", "demand: {requests_per_second: 5, max_utilization: 1.0e-320}"]
)
def test_numbers_that_would_divide_to_infinity_are_refused_before_anything_is_measured(keys: str) -> None:
    """Nothing anybody means is that near to 0; servers would be infinitely many after the whole measurement."""
    profile, [problem] = read(keys)
    assert profile is None
    assert "not this near to 0" in problem
