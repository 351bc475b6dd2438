from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from castbench.cost.spec import ArmProjection, Configuration, Projection
from castbench.workload.spec import Batching
from tests.cost.builder import projected, run_of

GUIDE = Path(__file__).parents[2] / "docs" / "cost.md"


def _block(name: str) -> list[dict[str, str]]:
    """The csv block of the guide that follows the marker of this name."""
    match = re.search(rf"<!-- example: {name} -->\n```csv\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert match is not None
    return list(csv.DictReader(match[1].splitlines()))


@pytest.fixture(scope="module")
def example() -> Projection:
    """The guide's worked example through the whole stage."""
    rows = {(r["label"], int(r["batch"]), int(r["tokens"])): r for r in _block("times")}

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return float(rows[label, batch, length][how]) / 1e3

    return projected(run_of(seconds, batch_sizes=(1, 4), batching=("padded", "bucketed")))


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
