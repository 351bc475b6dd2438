from __future__ import annotations

import json
from dataclasses import replace

import pytest

from castbench.report import exporters
from castbench.stats import Estimate
from tests.report import builder

TOP = [
    "schema", "kind", "run", "warnings", "headline", "projected", "ceilings", "measured", "assumptions", "caveats",
    "introduction", "claims", "risks", "how_measured", "reproduce",
]  # fmt: skip


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_every_report_is_json_with_the_same_keys(name: str) -> None:
    """The top-level keys stand in one order whatever the situation, and the schema has a number."""
    data = json.loads(exporters.render(builder.SITUATIONS[name](), "json"), parse_constant=pytest.fail)
    assert list(data) == TOP
    assert data["schema"] == 1


def test_numbers_are_at_full_precision() -> None:
    """Measured and projected numbers are exactly the report's."""
    report = builder.win()
    data = json.loads(exporters.render(report, "json"))
    row = report.groups[0].rows[2]
    assert row.latency_ms is not None
    assert data["measured"]["groups"][0]["rows"][2]["latency_ms"]["low"] == row.latency_ms.low
    assert data["projected"]["mechanisms"][2]["saving_usd_per_hour"] == {"value": 7.346, "low": 3.673, "high": 7.346}


def test_confirmations_and_energy_are_among_what_was_measured() -> None:
    """Fresh rounds with their ends, energy per sequence, discarded rounds and why nothing was confirmed."""
    report = builder.on_a_gpu()
    data = json.loads(exporters.render(report, "json"))
    (fresh,) = data["measured"]["confirmations"]
    found = report.confirmations[0].speedup_fresh
    assert found is not None
    assert fresh["speedup_fresh"] == {"value": found.value, "low": found.low, "high": found.high}
    energy = report.groups[0].rows[0].energy
    assert energy is not None
    group = data["measured"]["groups"][0]
    assert group["rows"][0]["energy"]["gross_j_per_sequence"]["value"] == energy.gross_j_per_sequence.value
    assert group["rows"][1]["energy"] is None
    assert group["discards"][0]["reasons"] == [[builder.APPEARED, 2]]
    assert json.loads(exporters.render(builder.loss(), "json"))["run"]["unconfirmed"] == "not-asked"


def test_a_sentence_comes_with_its_unrounded_values() -> None:
    """Machines need not parse the sentence."""
    said = json.loads(exporters.render(builder.win(), "json"))["headline"][1]
    assert said["says"] == "headline.saves"
    assert said["values"]["month"]["value"] == 7.346 * 730
    assert said["text"].startswith("That is 3.67–7.35 $/h less")


def test_numbers_that_json_does_not_have_are_null() -> None:
    """NaN and infinities do not make the file unreadable."""
    report = builder.win()
    broken = replace(
        report, mechanisms=(replace(report.mechanisms[0], speedup=Estimate(float("nan"), None, float("inf"))),)
    )
    data = json.loads(exporters.render(broken, "json"), parse_constant=pytest.fail)
    assert data["projected"]["mechanisms"][0]["speedup"] == {"value": None, "low": None, "high": None}
