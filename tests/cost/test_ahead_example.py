from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from castbench.cost.outlook_nouns import Moved
from castbench.workload.spec import Batching, Economics, OneOffCosts
from tests.cost import test_electricity as energetic
from tests.cost.ahead import ahead, outlook_of
from tests.cost.builder import DEMAND, run_of

GUIDE = Path(__file__).parents[2] / "docs" / "cost.md"


def _block(name: str) -> list[dict[str, str]]:
    """The csv block of the guide that follows the marker of this name."""
    match = re.search(rf"<!-- example: {name} -->\n```csv\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert match is not None
    return list(csv.DictReader(match[1].splitlines()))


def test_the_guides_example_of_what_lies_ahead_is_what_the_code_computes() -> None:
    """Every number printed there follows from the times of the worked example and from what is stated."""
    rows = {(r["label"], int(r["batch"]), int(r["tokens"])): r for r in _block("times")}

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return float(rows[label, batch, length][how]) / 1e3

    record = run_of(seconds, batch_sizes=(1, 4), batching=("padded", "bucketed"))
    demand = replace(DEMAND, growth_percent_per_year=50.0)
    outlook = outlook_of(ahead(record, demand=demand, economics=Economics(one_off=OneOffCosts(8000, 2000, 14))))
    moved = {factor.moved: factor for factor in outlook.sensitivity}
    assert outlook.break_even is not None
    assert outlook.growth is not None
    last = outlook.growth.years[-1]
    assert last.saving_usd_per_hour is not None
    found = {
        "one-off USD": outlook.break_even.one_off_usd.value,
        "cash saved in USD per month": outlook.break_even.cash_usd_per_month.value,
        "break-even in months": outlook.break_even.months.value,
        "servers sdpa after 3 years": last.baseline_replicas.value,
        "servers cast-32 after 3 years": last.replicas.value,
        "saving in USD per hour after 3 years": last.saving_usd_per_hour.value,
        "saving in USD per hour at 75 requests/s": moved[Moved.RATE].at_lower,
        "saving in USD per hour at 125 requests/s": moved[Moved.RATE].at_upper,
        "time over the baseline's at which nothing is saved": moved[Moved.TIMES].flips_at,
    }
    stated = {row["quantity"]: float(row["value"]) for row in _block("ahead")}
    assert found == pytest.approx(stated, rel=1e-4)


def test_the_guides_example_of_energy_is_what_the_code_computes() -> None:
    """Every number printed there follows from joules per step, the stated terms and the fleet of the example."""
    found = energetic.energy_of()
    assert found.kwh_per_million_tokens is not None
    assert found.kwh_per_month is not None
    assert found.usd_per_month is not None
    assert found.kg_co2_per_month is not None
    computed = [
        found.kwh_per_million_tokens.value / 1.5 * 3.6e6 * 1280 / 1e6, found.kwh_per_million_tokens.value,
        found.kwh_per_month.value, found.idle_kwh_per_month, found.usd_per_month.value, found.kg_co2_per_month.value,
    ]  # fmt: skip
    assert computed == pytest.approx([float(row["value"]) for row in _block("energy")], rel=1e-4)
