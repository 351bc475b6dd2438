"""The section on energy and CO2 of serving, and on servers of one's own beside rented ones."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.cost.outlook_nouns import ArmEnergy, Electricity, Rented
from castbench.cost.owned import PLAN as OWNED
from castbench.cost.spec import Price
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.catalogue import Section
from castbench.report.nouns import Report
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Estimate

_COLUMNS = Section("electricity_columns")


def electricity(report: Report) -> Iterator[Block]:
    """Energy by mechanism with what was stated of it, and rent beside one's own; nothing where neither is known."""
    if report.electricity is None and report.rented is None:
        return
    yield Heading(text.HEADINGS["electricity"])
    if report.electricity is not None:
        yield from _energy(report.electricity, report.money.price)
    if report.rented is not None:
        yield Paragraph(text.WORDS["space"].join(map(text.say, _beside(report.rented))))


def _energy(found: Electricity, price: Price | None) -> Iterator[Block]:
    """The table, where anything was measured, and what it rests on."""
    known = [arm for arm in found.arms if arm.kwh_per_million_tokens is not None]
    if known:
        yield from _tables(known)
        yield Paragraph(text.WORDS["space"].join(map(text.say, _notes(found, known, price))), "note")
    missing = [arm for arm in found.arms if arm.missing is not None]
    if missing:
        yield Bullets(tuple(map(text.say, _missing(missing))))


def _tables(known: list[ArmEnergy]) -> Iterator[Block]:
    """A row per mechanism, of a million tokens and of a month; columns that nobody has a figure for are left out."""
    yield from _table("electricity.tokens", known, {
        "per_million": [_cell(arm.kwh_per_million_tokens, Unit.KWH) for arm in known],
        "co2_per_million": [_cell(arm.kg_co2_per_million_tokens, Unit.KG) for arm in known],
    })  # fmt: skip
    yield from _table("electricity.month", known, {
        "working": [_cell(arm.kwh_per_month, Unit.KWH) for arm in known],
        "waiting": [_cell(_exact(arm.idle_kwh_per_month), Unit.KWH) for arm in known],
        "usd": [_cell(arm.usd_per_month, Unit.USD) for arm in known],
        "co2": [_cell(arm.kg_co2_per_month, Unit.KG) for arm in known],
    })  # fmt: skip


def _table(heading: str, known: list[ArmEnergy], cells: dict[str, list[str]]) -> Iterator[Block]:
    """One of the tables under its heading, of columns with a figure in them; nothing where none has."""
    shown = [name for name, column in cells.items() if any(cell != fmt.NOTHING for cell in column)]
    if shown:
        columns = (Column(_COLUMNS["label"], numeric=False, flexible=True), *(Column(_COLUMNS[name]) for name in shown))
        rows = zip((arm.label for arm in known), *(cells[name] for name in shown), strict=True)
        yield Heading(text.HEADINGS[heading], 3)
        yield Table(columns, tuple(rows))


def _exact(number: float | None) -> Estimate | None:
    """A number as an estimate without a range."""
    return None if number is None else Estimate(number)


def _cell(estimate: Estimate | None, unit: Unit) -> str:
    """A figure with its range, without its unit, which stands in the heading."""
    return fmt.spread(Quantity.of(estimate, unit), unit=False)


def _notes(found: Electricity, known: list[ArmEnergy], price: Price | None) -> Iterator[Statement]:
    """What was stated, what the joules cover, and who pays for them."""
    stated = tuple(_terms(found))
    if stated:
        yield statement("electricity.terms", terms=stated)
    if found.terms.pue is None:
        yield statement("electricity.no_pue")
    for source, scope in dict.fromkeys((arm.source or "", arm.scope or "") for arm in known):
        yield statement(
            "electricity.scope", source=text.ENERGY_SOURCES.get(source, source),
            scope=text.ENERGY_SCOPES.get(scope, scope),
        )  # fmt: skip
    if price is not None:
        yield _billed(price)


def _terms(found: Electricity) -> Iterator[Statement]:
    """PUE, price and CO2, as far as they were stated."""
    if found.terms.pue is not None:
        yield statement("electricity.pue", pue=Quantity(found.terms.pue, Unit.GIVEN))
    if found.terms.usd_per_kwh is not None:
        yield statement("electricity.price", usd=Quantity(found.terms.usd_per_kwh, Unit.GIVEN))
    if found.terms.kg_co2_per_kwh is not None:
        yield statement("electricity.co2", kg=Quantity(found.terms.kg_co2_per_kwh, Unit.GIVEN))


def _billed(price: Price) -> Statement:
    """Whether the price of the servers has the electricity in it."""
    if price.plan != OWNED:
        return statement("electricity.rented")
    if price.electricity_usd_per_hour is None:
        return statement("electricity.owned_excluded")
    return statement(
        "electricity.owned_included", usd=Quantity(price.electricity_usd_per_hour, Unit.USD_PER_HOUR)
    )  # fmt: skip


def _missing(arms: list[ArmEnergy]) -> Iterator[Statement]:
    """Mechanisms without energy, by reason."""
    by_reason: dict[Statement, list[str]] = {}
    for arm in arms:
        if arm.missing is not None:
            by_reason.setdefault(arm.missing, []).append(arm.label)
    for why, labels in by_reason.items():
        yield statement("electricity.missing", label=text.named(labels), why=why)


def _beside(rented: Rented) -> Iterator[Statement]:
    """What an hour of the GPU costs either way, and from which use on one's own costs less."""
    yield statement(
        "owned.rented" if rented.as_of is None else "owned.rented_dated", gpu=rented.gpu, name=rented.name,
        source=rented.source, date=rented.as_of,
        owned=Quantity(rented.owned_usd_per_gpu_hour, Unit.USD_PER_HOUR),
        rented=Quantity(rented.rented_usd_per_gpu_hour, Unit.USD_PER_HOUR),
    )  # fmt: skip
    if rented.even_at_share is None:
        yield statement("owned.never")
    else:
        yield statement("owned.even", share=Quantity(rented.even_at_share * 100, Unit.PERCENT))
