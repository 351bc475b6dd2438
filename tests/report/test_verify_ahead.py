from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from castbench.cost import break_even, electricity, savings, sensitivity
from castbench.cost.outlook_nouns import Moved
from castbench.records import RunRecord
from castbench.report.verify import verify_run
from castbench.workload.spec import Currency, Economics, OneOffCosts
from tests.cost import test_electricity as energetic
from tests.cost.ahead import SECONDS
from tests.cost.builder import DEMAND, PRICE, run_of, times
from tests.report.test_verify import written

GROWING = replace(DEMAND, growth_percent_per_year=30.0)
STATED = Economics(
    GROWING, one_off=OneOffCosts(50_000, 2000, 14, 500), energy=energetic.TERMS, currency=Currency("JPY", 155.0)
)
SITUATIONS: dict[str, Callable[[], tuple[RunRecord, dict[str, Any]]]] = {
    "noisy": lambda: (run_of(times(SECONDS), noise=0.1), {}),
    "one round": lambda: (run_of(times(SECONDS), rounds=1), {}),
    "energy": lambda: (energetic.run(), {}),
    "attention": lambda: (run_of(times(SECONDS), scope="attention", noise=0.05), {"attention_share": 0.5}),
    "reserved": lambda: (run_of(times(SECONDS), noise=0.1), {"price": replace(PRICE, plan="reserved", term_years=1)}),
    "longer than the requests": lambda: (run_of(times(SECONDS), lengths=(128, 512, 2048, 4096), noise=0.05), {}),
    "no price": lambda: (energetic.run(), {"price": None}),
    "no demand": lambda: (energetic.run(), {"demand": None}),
}  # fmt: skip


def problems(record: RunRecord, path: Path, **terms: Any) -> list[str]:
    """What differs between a report and the recount of its file."""
    asked = {"price": PRICE, "demand": GROWING, **terms}
    shared = Economics(**{name: getattr(STATED, name) for name in ("one_off", "energy", "currency")},
                       demand=asked["demand"], attention_share=asked.get("attention_share"))  # fmt: skip
    record = replace(record, header=replace(record.header, economics=shared))
    read = written(record, path)
    projection = savings.project(read, money_missing=None, seed=read.header.plan.served.seed, **asked)
    return [str(d) for check in verify_run(read, projection, "") for d in check.differences]


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_lies_ahead_comes_out_the_same_from_the_raw_rounds(name: str, tmp_path: Path) -> None:
    """Break-even, growth, sensitivity, energy and the converted columns agree with an independent recount."""
    record, terms = SITUATIONS[name]()
    assert problems(record, tmp_path / "run.jsonl", **terms) == []


def test_an_error_in_what_lies_ahead_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong horizon of growth, share, joule or flip shows as a difference, each in its place."""
    record = energetic.run()

    def found() -> str:
        return "; ".join(problems(record, tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"))

    with monkeypatch.context() as patch:
        patch.setattr(break_even, "HOURS_PER_MONTH", 720.0)
        assert "ahead.break_even.cash_usd_per_month.value" in found()
    with monkeypatch.context() as patch:
        patch.setattr(break_even, "grown", lambda percent, years: 1 + percent / 100 * years)
        assert "ahead.growth.years.1.requests_per_second" in found()
    with monkeypatch.context() as patch:
        patch.setattr(sensitivity, "RATE_MOVES", 0.3)
        assert f"ahead.sensitivity.{Moved.RATE}.lower" in found()
    with monkeypatch.context() as patch:
        patch.setattr(electricity, "J_PER_KWH", 3.7e6)
        assert "ahead.electricity.0.kwh_per_million_tokens.value" in found()
        assert "cell.kwh_per_month" in found()
    with monkeypatch.context() as patch:
        patch.setattr(sensitivity, "flip", lambda saving, base, searched: base * 1.001)
        assert "ahead.flips" in found()
