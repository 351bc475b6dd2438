from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castbench.cost.cash import cash_usd_per_hour
from castbench.cost.spec import ArmProjection, Change, Configuration, Price, Projection, Savings
from castbench.stats import Estimate
from castbench.workload.spec import Batching, Observed, RunningToday
from tests.cost.builder import PRICE, projected, run_of

TODAY = RunningToday(4, "padded", "eager")
PRICES = {
    "on_demand": PRICE,
    "reserved": replace(PRICE, plan="reserved", term_years=3),
    "owned": replace(PRICE, plan="owned", electricity_usd_per_hour=0.2),
}
GUIDE = Path(__file__).parents[2] / "docs" / "cost.md"


def _block(name: str) -> list[dict[str, str]]:
    """The csv block of the guide that follows the marker of this name."""
    match = re.search(rf"<!-- example: {name} -->\n```csv\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert match is not None
    return list(csv.DictReader(match[1].splitlines()))


def _example(price: Price = PRICE, **stated: Any) -> Projection:
    """The guide's worked example through the whole stage, with what a profile states beside it."""
    rows = {(r["label"], int(r["batch"]), int(r["tokens"])): r for r in _block("times")}

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return float(rows[label, batch, length][how]) / 1e3

    return projected(run_of(seconds, batch_sizes=(1, 4), batching=("padded", "bucketed")), price, **stated)


@pytest.fixture(scope="module")
def example() -> Projection:
    """The worked example without anything stated."""
    return _example()


def _value(arm: ArmProjection, quantity: str) -> float:
    """The projected number that a row of the guide's results names."""
    estimates = {
        "milliseconds per request": arm.seconds_per_request, "fractional units": arm.replicas_fractional,
        "USD per hour": arm.cost_usd_per_hour, "saving in USD per hour": arm.saving_usd_per_hour,
        "capacity released in units": arm.capacity_released_units_per_hour,
        "USD per million tokens": arm.usd_per_million_tokens, "speed-up": arm.speedup,
    }  # fmt: skip
    plain = {"units": arm.replicas, "utilization": arm.utilization, "saving in per cent": arm.saving_percent}
    if quantity in plain:
        found = plain[quantity]
        assert found is not None
        return float(found)
    estimate = estimates[quantity]
    assert estimate is not None
    return estimate.value * (1e3 if quantity.startswith("milliseconds") else 1)


@pytest.mark.parametrize("row", _block("results"), ids=lambda row: row["quantity"])
def test_the_guides_worked_example_is_what_the_code_computes(row: dict[str, str], example: Projection) -> None:
    """Every result printed in docs/cost.md follows from the times printed there."""
    for label in ("sdpa", "cast-32"):
        assert _value(example.arm(label), row["quantity"]) == pytest.approx(float(row[label]), rel=1e-4, abs=1e-9)


def test_each_arm_is_costed_in_its_own_cheapest_configuration(example: Projection) -> None:
    """In the worked example bucketed batches of 4 are the cheapest for both, and the baseline is today's label."""
    assert example.arm("cast-32").configuration == Configuration("cast-32", 4, "bucketed")
    assert example.baseline == example.today == Configuration("sdpa", 4, "bucketed")


def _savings(found: Projection) -> Savings:
    """What is saved step by step; it must be there."""
    assert found.savings is not None
    assert found.savings.waterfall is not None
    return found.savings


def _number(estimate: Estimate | None) -> float:
    """The value of an estimate that must be there."""
    assert estimate is not None
    return estimate.value


def test_the_guides_steps_are_what_the_code_computes() -> None:
    """Every row of the waterfall in docs/cost.md: what runs, its time, its servers, its cost, and what it saves."""
    found = _savings(_example(today=TODAY)).waterfall
    assert found is not None
    steps = [("today", found.today, None), *((step.move, step.to, step.change) for step in found.steps)]
    for row, (move, to, change) in zip(_block("waterfall"), steps, strict=True):
        used = to.configuration
        assert (row["step"], row["label"], row["batch"], row["batching"]) == (
            move, used.label, str(used.batch_size), used.batching,
        )  # fmt: skip
        assert to.seconds_per_request.value * 1e3 == pytest.approx(float(row["milliseconds per request"]))
        assert (to.replicas, _number(to.cost_usd_per_hour)) == (int(row["units"]), float(row["USD per hour"]))
        saved = row["saving in USD per hour"]
        assert (_number(change.saving_usd_per_hour) if change else None) == (float(saved) if saved else None)


@pytest.mark.parametrize("row", _block("cash"), ids=lambda row: row["price"])
def test_the_guides_cash_is_what_the_code_computes(row: dict[str, str]) -> None:
    """Cash by the kind of price: of both stages, of their sum, and of more servers than today's."""
    price = PRICES[row["price"]]
    found = _savings(_example(price, today=TODAY)).waterfall
    assert found is not None
    changes: dict[str, Change] = {
        "without a new model": found.tuned, "the new model": found.steps[-1].change, "both": found.total,
    }  # fmt: skip
    for name, change in changes.items():
        assert _number(change.cash_saving_usd_per_hour) == pytest.approx(float(row[name]))
    held = np.array([12.0])
    more = cash_usd_per_hour(held, held, price) - cash_usd_per_hour(np.array([15.0]), held, price)
    assert more[0] == pytest.approx(float(row["from 12 to 15 servers"]))


def test_the_guides_bill_is_what_the_code_computes() -> None:
    """What of the observed bill and latency the model explains, what could be switched off, and the saving's share."""
    found = _savings(_example(today=TODAY, observed=Observed(gpu_hours_per_month=17520, p50_ms=400)))
    values = {row["quantity"]: float(row["value"]) for row in _block("observed")}
    held, steps = found.observed, found.waterfall
    assert held is not None
    assert steps is not None
    assert held.bill_usd_per_hour is not None
    assert _number(held.bill_explained) == pytest.approx(values["bill explained"])
    assert _number(held.latency_explained) == pytest.approx(values["latency explained"])
    assert held.spare_units == values["servers to switch off"]
    share = 100 * _number(steps.total.saving_usd_per_hour) / held.bill_usd_per_hour
    assert share == pytest.approx(values["saving in per cent of the bill"], rel=1e-4)
