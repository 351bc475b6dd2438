from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from castbench.cost.spec import Price
from castbench.records import Environment, RunRecord
from castbench.report import exporters, savings_page, terminal, text, view
from castbench.report.blocks import Chart, Paragraph, Table
from castbench.report.nouns import Report
from castbench.report.redact import redact
from castbench.workload.spec import Batching, Observed, RunningToday
from tests.cost.builder import CAST, NAIVE, PRICE, SDPA, projected, run_of

GOLDEN = Path(__file__).parents[1] / "golden" / "report"
PADDED = RunningToday(4, "padded", "eager")
RESERVED = replace(PRICE, plan="reserved", term_years=3)
MS = {
    ("sdpa", 1, 512): 10, ("sdpa", 1, 2048): 90, ("sdpa", 4, 512): 32, ("sdpa", 4, 2048): 328,
    ("naive", 1, 512): 11, ("naive", 1, 2048): 99, ("naive", 4, 512): 36, ("naive", 4, 2048): 350,
    ("cast-32", 1, 512): 12, ("cast-32", 1, 2048): 38, ("cast-32", 4, 512): 40, ("cast-32", 4, 2048): 136,
}  # fmt: skip
"""Milliseconds per step by label, batch and length."""


def run(cast: float = 1.0, *, device: str = "cuda:0", rounds: int = 8, noise: float = 0.03) -> RunRecord:
    """A run of two exact mechanisms and CAST, whose times are `cast` times those above."""

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return MS[label, batch, length] / 1e3 * (cast if label == "cast-32" else 1.0)

    made = run_of(
        seconds, arms=(SDPA, NAIVE, CAST), batch_sizes=(1, 4), batching=("padded", "bucketed"), noise=noise,
        rounds=rounds,
    )  # fmt: skip
    machine = Environment(device, "a device", "host", "os", "3.11", "0", device_memory_bytes=48 << 30)
    return replace(made, header=replace(made.header, environment=machine))


def reported(record: RunRecord | None = None, price: Price | None = PRICE, **stated: Any) -> Report:
    """The report of a run with what its profile states."""
    record = record or run()
    return view.build(record, projected(record, price, **stated))


def drawn(report: Report) -> str:
    """The sections on savings as a terminal of 100 columns shows them, on one line."""
    blocks = (*savings_page.savings(report), *savings_page.headroom(report))
    return " ".join(terminal.draw(blocks, width=100, colour=False).decode().split())


def charts(report: Report) -> list[Chart]:
    """The charts of the section."""
    return [block for block in savings_page.savings(report) if isinstance(block, Chart)]


SHOWN = {
    "savings.txt": lambda: reported(today=PADDED, observed=Observed(17520, 2.6e8, 400)),
    "savings-reserved.txt": lambda: reported(run(3.0), RESERVED),
    "savings-unpriced.txt": lambda: reported(price=None, today=PADDED),
    "savings-rough.txt": lambda: reported(run(rounds=3), today=PADDED),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_printed_is_what_was_looked_at(name: str) -> None:
    """Every byte of the sections is known; CASTBENCH_UPDATE_GOLDEN=1 writes them anew, to be read in the diff."""
    report, path = SHOWN[name](), GOLDEN / name
    made = terminal.draw((*savings_page.savings(report), *savings_page.headroom(report)), width=80, colour=False)
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        path.write_bytes(made)
    assert made.decode() == path.read_text(encoding="utf-8")


def test_the_chart_holds_the_tables_numbers_and_adds_up() -> None:
    """The waterfall's first bar and its changes add up to the last; steps that change nothing are no bars."""
    (chart,) = charts(reported(today=PADDED))
    (series,) = chart.series
    first, *changes, last = series.points
    assert first.y + sum(point.y for point in changes) == pytest.approx(last.y)
    assert [point.x for point in changes] == [text.Section("moves")[move] for move in ("batching", "new_model")]
    assert all(point.low is not None and point.low <= point.y <= (point.high or 0.0) for point in changes)


def test_a_loss_rises_and_is_told() -> None:
    """Where CAST costs more, its bar rises, the sentence names what is cheapest without it, and by how much."""
    report = reported(run(4.0))
    (chart,) = charts(report)
    assert chart.series[0].points[-2].y > 0
    said = drawn(report)
    assert "The cheapest answer measured is sdpa (batch 4, bucketed, eager), and it needs no new model" in said
    assert "would cost" in said
    assert "CAST at its best" not in said


def test_cast_is_placed_where_another_new_model_is_cheaper() -> None:
    """Where another mechanism with a new model is cheaper, that one is last, and a sentence says what CAST costs."""
    other = replace(CAST, label="fnet", mechanism="fnet")
    made = run_of(
        lambda label, batch, length, how: {"sdpa": 0.05, "cast-32": 0.03, "fnet": 0.01}[label] * batch,
        arms=(SDPA, CAST, other),
    )  # fmt: skip
    report = reported(made)
    assert report.money.waterfall is not None
    assert report.money.waterfall.steps[-1].to.configuration.label == "fnet"
    assert "CAST at its best, cast-32 (batch 1, eager), would cost 10.0 $/h: 6.00 $/h more than fnet" in drawn(report)


def test_cash_has_a_column_only_where_it_is_another_amount() -> None:
    """On demand the saving is cash; under a reservation a column of zeros is beside it, and the headline says so."""
    spent, held = reported(today=PADDED), reported(price=RESERVED, today=PADDED)
    widths = [
        next(len(block.columns) for block in savings_page.savings(report) if isinstance(block, Table))
        for report in (spent, held)
    ]
    assert widths == [5, 6]
    assert [said.key for said in held.headline if "cash" in said.key] == ["headline.cash_reserved"]
    assert not [said.key for said in spent.headline if "cash" in said.key]


@pytest.mark.parametrize(
    ("price", "key"),
    [
        (replace(PRICE, plan="owned"), "headline.cash_bought"),
        (replace(PRICE, plan="owned", electricity_usd_per_hour=0.2), "headline.cash_owned"),
    ],
)
def test_an_owned_server_saves_its_electricity(price: Price, key: str) -> None:
    """The headline says what of a saving is cash where servers are bought, with and without electricity stated."""
    assert key in [said.key for said in reported(price=price).headline]


def test_the_headline_counts_from_what_runs_today() -> None:
    """Padded batches today cost 24 $/h and bucketed ones 14: tuning alone saves 10, and KEEP has the cost of today."""
    tuned = next(said for said in reported(run(noise=0.0), today=PADDED).headline if said.key == "headline.tune")
    assert dict(tuned.values)["saving"].value == 10.0  # type: ignore[union-attr]
    kept = reported(run(4.0, noise=0.0), today=RunningToday(4, "bucketed", "eager")).headline[0]
    assert kept.key == "headline.keep"
    assert dict(kept.values)["cost"].value == 14.0  # type: ignore[union-attr]


def test_a_bill_that_is_too_small_is_a_contradiction_above_everything() -> None:
    """12 servers all month are 8760 hours: paying for 5000 is a warning above the headline; no saving is counted."""
    report = reported(observed=Observed(gpu_hours_per_month=5000, p50_ms=400), today=PADDED)
    assert [said.key for said in report.warnings][-1] == "warning.bill"
    said = drawn(report)
    assert "that cannot be, and no saving is counted against this bill" in said
    assert "A saving applies" not in said


def test_a_latency_below_the_models_is_a_contradiction() -> None:
    """The model alone takes 328 ms in the middle; an observed 100 ms cannot be."""
    report = reported(observed=Observed(p50_ms=100), today=PADDED)
    assert [said.key for said in report.warnings][-1] == "warning.latency"


def test_servers_to_switch_off_are_told_apart() -> None:
    """24 servers paid for and 12 needed: 12 could go, which stands apart from the steps and in none of them."""
    report = reported(run(noise=0.0), observed=Observed(gpu_hours_per_month=17520), today=PADDED)
    assert "SWITCH OFF FIRST (no part of the steps above): by this model 12 servers of 24 paid for" in drawn(report)
    assert report.money.waterfall is not None
    assert report.money.waterfall.today.replicas == 12


def test_a_demand_off_by_more_than_a_tenth_is_said() -> None:
    """100 requests per second are 262.8 million a month: 200 million observed are pointed out, 250 million agree."""
    assert "The demand is 131 %" in drawn(reported(observed=Observed(requests_per_month=2e8)))
    assert "The demand agrees" in drawn(reported(observed=Observed(requests_per_month=2.5e8)))


def test_a_contract_price_takes_the_bill_and_every_amount_with_it() -> None:
    """Redacted, nothing of the observed bill is left and the steps have no cost, in any format."""
    report = redact(reported(price=replace(RESERVED, usd_per_hour=2.345), today=PADDED,
                             observed=Observed(17520.5, 2.6e8, 30)))  # fmt: skip
    savings = report.money.savings
    assert savings is not None
    assert savings.observed is None
    assert savings.range_parts is None
    assert not {"warning.bill", "warning.latency"} & {said.key for said in report.warnings}
    for fmt in ("terminal", "csv", "json", "md"):
        made = exporters.render(report, fmt).decode()
        assert not [amount for amount in ("2.345", "28.14", "16.415", "17520", "$/h") if amount in made]


def test_nothing_is_said_where_nothing_is_known() -> None:
    """Without a measurement of today there is no section, and why stands among the assumptions."""
    report = reported(today=RunningToday(8, "padded", "eager"))
    assert list(savings_page.savings(report)) == []
    assert "assumption.today_unmeasured" in [said.key for said in report.assumptions]


def test_every_sentence_fills_its_template() -> None:
    """No section of any of the examples says None or keeps a placeholder."""
    for report in (made() for made in SHOWN.values()):
        for block in savings_page.savings(report):
            if isinstance(block, Paragraph):
                assert "None" not in block.words
                assert "{" not in block.words


def test_a_saving_is_told_as_a_share_of_the_whole_bill() -> None:
    """16 $/h of 48 paid: 11,680 $ a month of 35,040, a third; under a reservation none of it leaves the invoice."""
    for price, cash in ((PRICE, "11,700"), (RESERVED, "0.00")):
        report = reported(run(noise=0.0), price, observed=Observed(gpu_hours_per_month=17520), today=PADDED)
        assert f"is worth 11,700 $ per month, 33 % of the bill of 35,000 $; {cash} $ of it leaves" in drawn(report)
