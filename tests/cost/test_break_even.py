from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.break_even import HORIZON_MONTHS, months_to_repay
from castbench.cost.outlook_nouns import BreakEven, Growth
from castbench.cost.spec import Price
from castbench.workload.spec import Demand, Economics, OneOffCosts
from tests.cost.ahead import ahead, outlook_of
from tests.cost.builder import DEMAND, NAIVE, PRICE, SDPA, run_of, times

STATED = OneOffCosts(retraining_usd=8000, validation_usd=2000, dual_running_days=14)
RESERVED = replace(PRICE, plan="reserved", term_years=1)
GROWING = replace(DEMAND, growth_percent_per_year=50.0)


def break_even(stated: OneOffCosts = STATED, demand: Demand = DEMAND, price: Price = PRICE, **run: float) -> BreakEven:
    """The break-even of the small contest."""
    record = run_of(times({"sdpa": 0.045, "cast-32": 0.022}), **run)  # type: ignore[arg-type]
    found = outlook_of(ahead(record, price, demand, Economics(one_off=stated))).break_even
    assert found is not None
    return found


def grown(demand: Demand) -> Growth:
    """The growth of the small contest."""
    found = outlook_of(ahead(demand=demand)).growth
    assert found is not None
    return found


def test_the_break_even_by_hand() -> None:
    """8000 + 2000 + 14 days · 24 h · 4 servers · 2 USD = 12,688 USD, at 3 servers · 2 USD · 730 h = 4380 USD."""
    found = break_even()
    assert found.one_off_usd.value == pytest.approx(12_688)
    assert found.cash_usd_per_month.value == pytest.approx(4380)
    assert found.months.value == pytest.approx(12_688 / 4380)
    assert found.months.low == found.months.high == pytest.approx(found.months.value)
    assert (found.within, found.never_probability) == (((12, 1.0), (24, 1.0)), 0.0)


def test_the_cash_is_that_of_the_mechanism() -> None:
    """A month of the cash that the money stage says is saved, whatever is committed."""
    for price in (PRICE, RESERVED, replace(PRICE, plan="owned", electricity_usd_per_hour=0.5)):
        projection = ahead(price=price, economics=Economics(one_off=STATED))
        found, cash = outlook_of(projection).break_even, projection.arm("cast-32").cash_saving_usd_per_hour
        assert found is not None
        assert cash is not None
        assert found.cash_usd_per_month.value == pytest.approx(cash.value * 730)


def test_what_saves_no_cash_never_pays_back() -> None:
    """Reserved servers are paid for whether or not they are used: no month ever comes, and that is certain."""
    found = break_even(price=RESERVED)
    assert math.isinf(found.months.value)
    assert (found.within, found.never_probability) == (((12, 0.0), (24, 0.0)), 1.0)


def test_what_takes_more_than_ten_years_is_not_waited_for() -> None:
    """4380 USD a month pay back 525,000 USD within ten years, and not 526,000."""
    assert break_even(OneOffCosts(retraining_usd=525_000)).months.value == pytest.approx(525_000 / 4380)
    assert math.isinf(break_even(OneOffCosts(retraining_usd=526_000)).months.value)


def test_nothing_stated_gives_no_break_even() -> None:
    """Without one-off costs, a price or a demand there is none, rather than one of zero months."""
    assert outlook_of(ahead()).break_even is None
    assert outlook_of(ahead(price=None, economics=Economics(one_off=STATED))).break_even is None
    assert outlook_of(ahead(demand=None, economics=Economics(one_off=STATED))).break_even is None
    assert break_even(OneOffCosts(engineering_usd=0)).months.value == 0


def test_what_needs_no_new_model_costs_nothing_once() -> None:
    """An exact rival is a setting: one-off costs of a new model are not laid to it."""
    run = run_of(times({"sdpa": 0.045, "naive": 0.050}), arms=(SDPA, NAIVE))
    outlook = outlook_of(ahead(run, economics=Economics(one_off=STATED)))
    assert (outlook.subject, outlook.break_even) == ("naive", None)


def test_the_fleets_in_years_to_come_by_hand() -> None:
    """At 50 % a year: 150, 225 and 337.5 requests/s need ceil(rate · s / 0.7) servers at 2 USD."""
    found = [(y.years, y.baseline_replicas.value, y.replicas.value) for y in grown(GROWING).years]
    assert found == [(1, 10, 5), (2, 15, 8), (3, 22, 11)]
    last = grown(GROWING).years[-1]
    assert last.saving_usd_per_hour is not None
    assert last.cost_usd_per_hour is not None
    assert (last.cost_usd_per_hour.value, last.saving_usd_per_hour.value) == (22, 22)
    assert outlook_of(ahead()).growth is None


def test_growth_brings_the_break_even_forward_month_by_month() -> None:
    """Added up by hand: each month's whole servers at the rate of that month, until the costs have come back."""
    found = break_even(OneOffCosts(retraining_usd=50_000), GROWING)
    left, month = 50_000.0, 0
    while True:
        rate = 100 * 1.5 ** (month / 12)
        cash = (math.ceil(rate * 0.045 / 0.7) - math.ceil(rate * 0.022 / 0.7)) * 2 * 730
        if cash >= left:
            break
        left, month = left - cash, month + 1
    assert found.months_growing is not None
    assert found.months_growing.value == pytest.approx(month + left / cash)
    assert found.months_growing.value < found.months.value == pytest.approx(50_000 / 4380)


def test_traffic_that_shrinks_may_never_pay_back() -> None:
    """When it shrinks to a quarter every year, the saving ends before 50,000 USD have come back."""
    found = break_even(OneOffCosts(retraining_usd=50_000), replace(DEMAND, growth_percent_per_year=-75.0))
    assert found.months_growing is not None
    assert math.isinf(found.months_growing.value)
    assert found.never_probability == 1.0


@given(retraining=st.floats(0, 1e6), days=st.floats(0, 100))
def test_no_growth_leaves_all_as_it_is(retraining: float, days: float) -> None:
    """Growth of 0 % a year gives the same months, servers and probabilities as none stated."""
    stated = OneOffCosts(retraining_usd=retraining, dual_running_days=days)
    flat, still = break_even(stated), break_even(stated, replace(DEMAND, growth_percent_per_year=0.0))
    assert still.months_growing == flat.months == still.months
    assert still.within == flat.within
    years = grown(replace(DEMAND, growth_percent_per_year=0.0)).years
    assert {(y.baseline_replicas.value, y.replicas.value) for y in years} == {(7.0, 4.0)}


@given(
    one_off=st.floats(0, 1e6), cash=st.lists(st.floats(-1e4, 1e4), min_size=5, max_size=5), more=st.floats(0, 1e4)
)  # fmt: skip
def test_a_larger_saving_never_pays_back_later(one_off: float, cash: list[float], more: float) -> None:
    """Of any five draws, each with constant cash, more cash in every month never comes later."""
    monthly = np.broadcast_to(np.array(cash), (HORIZON_MONTHS, 5))
    costs = np.full(5, one_off)
    assert (months_to_repay(costs, monthly + more) <= months_to_repay(costs, monthly) * (1 + 1e-12)).all()


def test_noise_gives_months_a_range() -> None:
    """With noise the point lies in its range, and the probabilities lie within 0 and 1."""
    found = break_even(OneOffCosts(retraining_usd=50_000), GROWING, noise=0.1)
    for months in (found.months, found.months_growing):
        assert months is not None
        assert months.low is not None
        assert months.high is not None
        assert months.low <= months.value <= months.high
    first, second = (share for _, share in found.within)
    assert first is not None
    assert second is not None
    assert 0 <= first <= second <= 1
