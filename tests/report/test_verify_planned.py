from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from castbench import pipeline
from castbench.records import RunRecord
from castbench.report import claims_view, plan_limits
from castbench.report.verify import verify_run
from castbench.store import SCHEMA, RunWriter, read_run
from castbench.workload.spec import Demand, Economics, PriceChoice
from tests.cost.builder import CAST, NAIVE, SDPA, run_of

CHECK = "claims, limits of the plan and counts"


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A run on file in which CAST takes half of sdpa's time, with a demand and a price."""
    made = run_of(
        lambda label, batch, length, how: 1e-4 * length * {"sdpa": 1.0, "naive": 3.5, "cast-32": 0.5}[label],
        arms=(SDPA, NAIVE, CAST), rounds=16, noise=0.01,
    )  # fmt: skip
    money = Economics(demand=Demand(100.0), price_cpu=PriceChoice(2.0))
    with RunWriter.create(tmp_path / "run.jsonl", replace(made.header, schema=SCHEMA, economics=money)) as writer:
        for r in made.rounds:
            writer.append_round(r)
        for g in made.groups:
            writer.append_group(g)
    return read_run(tmp_path / "run.jsonl")


def differing(record: RunRecord) -> set[str]:
    """Names of what came out differently."""
    (check,) = [c for c in verify_run(record, pipeline.project(record), "") if c.what == CHECK]
    assert {"claims", "plan", "counts"} == {kind for kind, _ in check.numbers}
    return {difference.name for difference in check.differences}


def test_claims_limits_and_counts_agree_with_a_second_way(record: RunRecord) -> None:
    """Speed-ups, shares of memory, words of the claims, five limits and six counts come out the same."""
    assert differing(record) == set()


def test_a_mistake_in_any_of_them_shows(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong share of memory, another claim, other tolerances each show as a difference."""
    with monkeypatch.context() as broken:
        broken.setattr(claims_view, "memory_share", lambda mine, theirs: 0.5)
        assert differing(record) == {"claims.memory_share"}
    with monkeypatch.context() as broken:
        broken.setattr(claims_view, "CLAIMED_SPEED", 7.5)
        assert differing(record) == {"claims.speed"}
    with monkeypatch.context() as broken:
        broken.setattr(plan_limits, "REPEATED", 2.0)
        assert differing(record) == {"plan.p50", "plan.p99", "plan.tokens_cost"}
    with monkeypatch.context() as broken:
        broken.setattr(plan_limits, "MEMORY_MARGIN", 1.2)
        assert differing(record) == {"plan.memory"}
    monkeypatch.setattr(plan_limits, "MOST_ERRORS_PERCENT", 2.0)
    assert differing(record) == {"plan.errors"}
