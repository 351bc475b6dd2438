"""The model of today against what is observed: how much of the bill and of the latency it explains, as blocks."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.cost.cash import avoidable_usd_per_hour
from castbench.cost.observed import is_contradicted, is_off
from castbench.cost.spec import Price, Reconciled
from castbench.report import text
from castbench.report.blocks import Block, Heading, Paragraph
from castbench.report.nouns import Report
from castbench.report.waterfall_page import Path, path_of
from castbench.said import Quantity, Statement, Unit, statement
from castbench.units import HOURS_PER_MONTH, ms


def observed(report: Report) -> Iterator[Block]:
    """Nothing where nothing was observed; contradictions stand as warnings above the headline, too."""
    found = report.money.savings.observed if report.money.savings else None
    if found is None:
        return
    yield Heading(text.HEADINGS["observed"])
    said = [*_bill(found, path_of(report)), *_latency(found), *_demand(found), *_spare(found, report.money.price)]
    yield from (Paragraph(text.say(one)) for one in said)


def _bill(found: Reconciled, path: Path | None) -> Iterator[Statement]:
    """Which share of the hours paid for the model needs, and what a saving then is of the bill."""
    hours = found.stated.gpu_hours_per_month
    if hours is None or found.bill_explained is None:
        return
    explained = Quantity.of(found.bill_explained, Unit.PERCENT, 100.0)
    contradicted = is_contradicted(found.bill_explained)
    key = "observed.bill_too_much" if contradicted else "observed.bill"
    yield statement(key, hours=Quantity(hours, Unit.GIVEN), explained=explained)
    if path is None or found.bill_usd_per_hour is None or contradicted:
        return
    is_new = path.new is not None and path.best == path.new.to.configuration
    change = path.waterfall.total if is_new else path.waterfall.tuned
    saving, cash = change.saving_usd_per_hour, change.cash_saving_usd_per_hour
    if path.best != path.waterfall.today.configuration and saving is not None:
        yield statement(
            "observed.saving", configuration=path.best.said, month=Quantity.of(saving, Unit.USD, HOURS_PER_MONTH),
            cash=Quantity.of(cash, Unit.USD, HOURS_PER_MONTH),
            percent=Quantity.of(saving, Unit.PERCENT, 100 / found.bill_usd_per_hour),
            bill=Quantity(found.bill_usd_per_hour * HOURS_PER_MONTH, Unit.USD),
        )  # fmt: skip


def _latency(found: Reconciled) -> Iterator[Statement]:
    """Which share of the latency is the model's."""
    if found.latency_explained is not None and found.stated.p50_ms is not None:
        yield statement(
            "observed.latency_too_much" if is_contradicted(found.latency_explained) else "observed.latency",
            explained=Quantity.of(found.latency_explained, Unit.PERCENT, 100.0),
            model=Quantity.of(found.p50_s, Unit.MS, ms(1.0)), observed=Quantity(found.stated.p50_ms, Unit.MS),
        )  # fmt: skip


def _demand(found: Reconciled) -> Iterator[Statement]:
    """Whether the demand is what is observed."""
    requests = found.stated.requests_per_month
    if found.demand_ratio is None or requests is None:
        return
    if is_off(found):
        ratio = Quantity(found.demand_ratio * 100, Unit.PERCENT)
        yield statement("observed.demand", ratio=ratio, requests=Quantity(requests, Unit.GIVEN))
    else:
        yield statement("observed.demand_agrees")


def _spare(found: Reconciled, price: Price | None) -> Iterator[Statement]:
    """Servers that could be switched off already: no step of the waterfall."""
    if not found.spare_units or found.units_paid is None:
        return
    spare, paid = Quantity(found.spare_units, Unit.COUNT), Quantity(found.units_paid, Unit.EXPECTED)
    yield statement("observed.spare", spare=spare, paid=paid)
    if price is not None:
        yield statement(
            "observed.spare_worth", worth=Quantity(found.spare_units * price.usd_per_hour, Unit.USD_PER_HOUR),
            cash=Quantity(found.spare_units * avoidable_usd_per_hour(price), Unit.USD_PER_HOUR),
        )  # fmt: skip
