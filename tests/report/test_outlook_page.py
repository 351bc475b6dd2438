from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.outlook_nouns import NextMeasurement, Wanted
from castbench.cost.spec import Price
from castbench.report import csv_table, energy_money_page, exporters, outlook_page, terminal, view
from castbench.report.blocks import Block, Chart, Table
from castbench.report.nouns import Report
from castbench.report.redact import redact
from castbench.stats import Estimate
from castbench.workload.spec import Currency, Demand, Economics, ElectricityTerms, OneOffCosts, OwnedHardware
from tests.cost import test_electricity as energetic
from tests.cost.ahead import SECONDS, ahead
from tests.cost.builder import DEMAND, PRICE, run_of, times

YEN = Currency("JPY", 155.0)
STATED = Economics(one_off=OneOffCosts(8000, 2000, 14, 0), currency=YEN)
GROWING = replace(DEMAND, growth_percent_per_year=50.0)
LISTED = replace(PRICE, contract=False)


def report(
    economics: Economics = STATED, price: Price | None = PRICE, demand: Demand | None = DEMAND,
    seconds: dict[str, float] = SECONDS, **run: Any,
) -> Report:  # fmt: skip
    """The report of the small contest, whose profile states this."""
    record = run_of(times(seconds), **run)
    record = replace(record, header=replace(record.header, economics=economics))
    return view.build(record, ahead(record, price, demand))


def shown(blocks: Sequence[Block], width: int = 400) -> str:
    """What a page says, on lines that are not broken."""
    return terminal.draw(tuple(blocks), width=width).decode()


def ahead_of(made: Report) -> str:
    """The section on what lies ahead."""
    return shown(tuple(outlook_page.outlook(made)))


def test_the_headlines_amounts_in_another_currency() -> None:
    """7 and 4 servers of 2 USD are 2,170 and 1,240 JPY an hour at 155; 930 an hour are 678,900 a month."""
    said = shown(tuple(outlook_page.in_currency(report())))
    assert said.strip() == (
        "In JPY at 155 per USD (stated by you): sdpa (batch 1, eager) costs 2,170 JPY per hour, cast-32 (batch 1, "
        "eager) 1,240; that saves 930 JPY per hour, 679,000 per month, 8,150,000 per year."
    )
    dearer = shown(tuple(outlook_page.in_currency(report(seconds={"sdpa": 0.022, "cast-32": 0.045}))))
    assert "that costs 930 JPY per hour more" in dearer
    alike = shown(tuple(outlook_page.in_currency(report(seconds={"sdpa": 0.045, "cast-32": 0.044}))))
    assert "sdpa (batch 1, eager) and cast-32 (batch 1, eager) both cost 2,170 JPY per hour." in alike


def test_no_currency_and_no_money_say_nothing_of_it() -> None:
    """Without a stated rate, a price or a demand there is no such sentence."""
    for made in (report(Economics()), report(price=None), report(demand=None)):
        assert tuple(outlook_page.in_currency(made)) == ()


def test_the_break_even_is_said_with_what_it_rests_on() -> None:
    """Costs, months, cash and probabilities stand in one paragraph."""
    said = ahead_of(report())
    assert "One-off costs, stated by you: 12,700 $ in all: retraining 8,000 $; validation 2,000 $;" in said
    assert "14 days in which both fleets run" in said
    assert "cast-32 pays that back after 2.90 months, by the cash it saves: 4,380 $ per month" in said
    assert "P(paid back within 12 months) > 99 %, within 24 months > 99 %; P(not within 120 months) < 1 %." in said


def test_never_is_said_plainly() -> None:
    """Reserved servers save no cash, and a cost beyond ten years of saving is not waited for."""
    never = ahead_of(report(price=replace(PRICE, plan="reserved", term_years=1)))
    assert "cast-32 never pays that back: it saves no cash (0.00 $ per month)." in never
    assert "P(paid back" not in never
    far = ahead_of(report(Economics(one_off=OneOffCosts(1e6))))
    assert "cast-32 pays that back not within 120 months, by the cash it saves" in far


def test_nobody_is_left_to_believe_that_a_new_model_is_free() -> None:
    """Where one-off costs are not stated the section says so, unless there is no money to speak of."""
    assert "so there is no break-even" in ahead_of(report(Economics()))
    assert "break-even" not in ahead_of(report(Economics(), price=None))


def test_training_says_how_many_more_steps_it_may_need() -> None:
    """In training the speed-up is the number of times the steps may grow at the same cost."""
    record = run_of(times(SECONDS))
    served = replace(record.header.plan.served, phase="training")
    record = replace(record, header=replace(record.header, plan=replace(record.header.plan, served=served)))
    said = ahead_of(view.build(record, ahead(record)))
    assert "It costs less than sdpa as long as it needs less than 2.05× the steps" in said
    assert "steps" not in ahead_of(report())


def test_growth_is_a_table_of_both_fleets() -> None:
    """A row for each of three years, with servers, costs and saving as they were computed by hand."""
    (table,) = (b for b in outlook_page.outlook(report(demand=GROWING)) if isinstance(b, Table) and len(b.columns) == 7)
    assert [column.heading for column in table.columns] == [
        "after years", "requests/s", "servers sdpa", "servers cast-32", "$/h sdpa", "$/h cast-32", "saving $/h",
    ]  # fmt: skip
    assert table.rows == (
        ("1", "150", "10", "5", "20.0", "10.0", "10.0"),
        ("2", "225", "15", "8", "30.0", "16.0", "14.0"),
        ("3", "338", "22", "11", "44.0", "22.0", "22.0"),
    )
    unpriced = outlook_page.outlook(report(price=None, demand=GROWING))
    assert [len(b.columns) for b in unpriced if isinstance(b, Table)] == [4]


def test_the_tornado_and_the_table_hold_the_same_factors() -> None:
    """In the same order, the chart with the saving around its value of now, the table with the flip."""
    blocks = tuple(outlook_page.outlook(report(noise=0.02)))
    (chart,) = (b for b in blocks if isinstance(b, Chart))
    (table,) = (b for b in blocks if isinstance(b, Table))
    assert chart.kind == "tornado"
    points = chart.series[0].points
    assert [point.x for point in points] == [row[0] for row in table.rows]
    assert all(point.low is not None and point.high is not None for point in points)
    assert all(point.low <= point.y <= point.high for point in points)  # type: ignore[operator]
    flips = {row[0]: row[-1] for row in table.rows}
    assert flips["price, $/h"] == "at no price"
    lengths = next(row for row in table.rows if row[0] == "lengths, ×")
    assert lengths[3].endswith("not covered")


@pytest.mark.parametrize("wanted", Wanted)
def test_every_next_measurement_is_one_sentence(wanted: Wanted) -> None:
    """Whatever is wanted, one sentence says it, and nothing of it is left unfilled."""
    made = report(Economics())
    assert made.outlook is not None
    group = made.groups[0].group
    asked = NextMeasurement(wanted, group, 12, 5400.0, 3.0)
    if wanted not in (Wanted.FIRST_ROUNDS, Wanted.ROUNDS, Wanted.ALL_ROUNDS, Wanted.LENGTHS):
        asked = NextMeasurement(wanted)
    *_, last = outlook_page.outlook(replace(made, outlook=replace(made.outlook, next_measurement=asked)))
    said = shown([last])
    assert "–" not in said.replace("one-off", "")
    assert said.strip().endswith(".")
    assert ("1.50 h on this machine, 3.00 $" in said) == (asked.seconds is not None)


def test_months_whose_range_is_open_say_so() -> None:
    """A range that reaches beyond ten years is told by its near end, on either side of the number."""
    made = report()
    assert made.outlook is not None
    assert made.outlook.break_even is not None
    for months, said in (
        (Estimate(30.0, 20.0, math.inf), "after 30.0 months, at the earliest 20.0 months, or not within 120 months"),
        (Estimate(math.inf, 90.0, math.inf), "not within 120 months, at the earliest after 90.0 months"),
    ):
        found = replace(made.outlook.break_even, months=months)
        assert said in ahead_of(replace(made, outlook=replace(made.outlook, break_even=found)))


def rows_of(made: Report) -> list[dict[str, str]]:
    """The CSV summary, read back."""
    return list(csv.DictReader(io.StringIO(csv_table.summary(made).decode())))


def test_csv_has_the_break_even_of_the_mechanism_it_is_of() -> None:
    """The headline's mechanism has it, the baseline has none; what never comes is empty beside its certainty."""
    base, cast = rows_of(report())
    assert float(cast["one_off_usd"]) == pytest.approx(12_688)
    assert float(cast["break_even_months"]) == pytest.approx(12_688 / 4380)
    assert (cast["probability_break_even_12_months"], cast["probability_no_break_even"]) == ("1.0", "0.0")
    assert (base["one_off_usd"], base["break_even_months"], base["probability_no_break_even"]) == ("", "", "")
    _, never = rows_of(report(price=replace(PRICE, plan="reserved", term_years=1)))
    assert (never["break_even_months"], never["probability_no_break_even"]) == ("", "1.0")


@given(rate=st.floats(1e-3, 1e5))
def test_every_dollar_column_is_repeated_in_the_currency_and_scaled_exactly(rate: float) -> None:
    """The dollars never change, the others are appended after all columns, and each is its dollars times the rate."""
    stated, bare = report(replace(STATED, currency=Currency("EUR", rate))), report(replace(STATED, currency=None))
    converted, plain = rows_of(stated), rows_of(bare)
    names, before = list(converted[0]), list(plain[0])
    assert names[: len(before)] == before
    dollars = [name for name in before if "usd" in name.split("_")]
    assert names[len(before) :] == [name.replace("usd", "eur") for name in dollars]
    assert "cost_eur_per_hour" in names
    for row, same in zip(converted, plain, strict=True):
        assert {name: row[name] for name in before} == same
        for name in dollars:
            amount = row[name.replace("usd", "eur")]
            assert amount == ("" if row[name] == "" else repr(float(row[name]) * rate))


def test_json_has_the_outlook_and_the_amounts_in_the_currency() -> None:
    """Months, factors and the converted columns by mechanism, at full precision."""
    found = json.loads(exporters.render(report(), "json"))["projected"]
    assert found["outlook"]["break_even"]["months"]["value"] == pytest.approx(12_688 / 4380)
    assert {factor["moved"] for factor in found["outlook"]["sensitivity"]} >= {"price", "rate", "times"}
    yen = found["in_currency"]
    assert (yen["code"], yen["per_usd"]) == ("JPY", 155)
    assert yen["mechanisms"]["cast-32"]["cost_jpy_per_hour"] == 8 * 155
    assert json.loads(exporters.render(report(Economics()), "json"))["projected"]["in_currency"] is None


def test_energy_stands_with_its_terms_and_who_pays_for_it() -> None:
    """Figures by hand (1,971 kWh working, 164 waiting), what was stated, what is missing, and that rent has it in."""
    record = energetic.run()
    stated = Economics(energy=energetic.TERMS)
    record = replace(record, header=replace(record.header, economics=stated))
    said = shown(tuple(energy_money_page.electricity(view.build(record, ahead(record)))))
    assert "Energy and CO2" in said
    assert "164" in said
    assert "Stated by you: PUE 1.5; 0.2 $ per kWh; 0.4 kg CO2 per kWh." in said
    assert "it is reported here, and billed there" in said
    assert "cast-32: not available, because energy was not measured at every length." in said
    assert "| 0" not in said


@pytest.mark.parametrize(("electricity_usd", "said"), [(1.8, "has 1.80 $/h of electricity in it already"),
                                                       (None, "has no electricity in it")])  # fmt: skip
def test_electricity_is_not_billed_twice_on_servers_of_ones_own(electricity_usd: float | None, said: str) -> None:
    """Whether the price has the electricity in it is said either way."""
    record = energetic.run()
    record = replace(record, header=replace(record.header, economics=Economics(energy=energetic.TERMS)))
    price = replace(PRICE, plan="owned", electricity_usd_per_hour=electricity_usd)
    assert said in shown(tuple(energy_money_page.electricity(view.build(record, ahead(record, price)))))


def test_a_server_of_ones_own_stands_beside_a_rented_one() -> None:
    """The pipeline finds the GPU that the profile names in the price list, and only for a price of one's own."""
    from castbench import pipeline
    from castbench.workload.spec import PriceChoice

    owned = OwnedHardware(280_320, 4, 0.5, 6000, 1.5, 0.2, 0.05)
    run = run_of(times(SECONDS))
    stated = Economics(DEMAND, PriceChoice(gpus=8, owned=owned), gpu="H100-SXM")
    environment = replace(run.header.environment, device="cuda:0")
    run = replace(run, header=replace(run.header, economics=stated, environment=environment))
    made = view.build(run, pipeline.project(run))
    said = shown(tuple(energy_money_page.electricity(made)))
    assert "An hour of one H100-SXM costs 2.62 $/h on your own servers and" in said
    assert made.rented is not None
    assert f"({made.rented.name}; {made.rented.source}, {made.rented.as_of})" in said
    assert "Your own cost less from" in said
    assert pipeline.project(run, price_usd_per_hour=20.0).rented is None


def test_a_redacted_report_gives_no_contract_away_by_what_lies_ahead() -> None:
    """No amount, month or price of electricity is left; servers and kilowatt-hours stay."""
    record = energetic.run()
    stated = replace(STATED, energy=energetic.TERMS)
    record = replace(record, header=replace(record.header, economics=stated))
    clean = redact(view.build(record, ahead(record, demand=GROWING)))
    found = json.loads(exporters.render(clean, "json"))["projected"]
    assert found["outlook"]["break_even"] is None
    assert found["outlook"]["sensitivity"] == []
    assert [year["cost_usd_per_hour"] for year in found["outlook"]["growth"]["years"]] == [None] * 3
    assert [year["replicas"]["value"] for year in found["outlook"]["growth"]["years"]] == [5, 8, 11]
    assert found["electricity"]["terms"]["usd_per_kwh"] is None
    assert found["electricity"]["arms"][0]["usd_per_month"] is None
    assert found["electricity"]["arms"][0]["kwh_per_month"]["value"] == pytest.approx(1971)
    for row in rows_of(clean):
        assert {row[name] for name in row if "usd" in name.split("_") or "jpy" in name.split("_")} == {""}
    assert "$" not in ahead_of(clean)
    assert tuple(outlook_page.in_currency(clean)) == ()


def test_a_listed_price_leaves_all_but_the_price_of_electricity() -> None:
    """What is public stays in a redacted report; electricity is bought by contract."""
    record = energetic.run()
    record = replace(record, header=replace(record.header, economics=replace(STATED, energy=energetic.TERMS)))
    clean = redact(view.build(record, ahead(record, LISTED)))
    assert clean.outlook is not None
    assert clean.outlook.break_even is not None
    assert clean.electricity is not None
    assert clean.electricity.terms == ElectricityTerms(1.5, None, 0.4)
