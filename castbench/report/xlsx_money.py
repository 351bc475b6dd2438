"""The money table of a workbook: figures as formulas of one price cell, each with the number of the report in it.

servers × price = cost       baseline's cost − cost = saving       other figures: the report's × price ÷ its price

A formula of servers is used only where it gives the report's own number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from castbench.report import csv_table
from castbench.report.csv_table import SummaryRow
from castbench.report.nouns import Report
from castbench.report.xlsx_book import Cell, Formula, at
from castbench.said import Unit
from castbench.units import HOURS_PER_MONTH, HOURS_PER_YEAR

MONEY: dict[str, Unit | None] = {
    "label": None, "recommendation": None, "replicas": Unit.COUNT, "cost_usd_per_hour": Unit.USD_PER_HOUR,
    "cost_low_usd_per_hour": Unit.USD_PER_HOUR, "cost_high_usd_per_hour": Unit.USD_PER_HOUR,
    "cost_usd_per_month": Unit.USD, "saving_usd_per_hour": Unit.USD_PER_HOUR,
    "saving_low_usd_per_hour": Unit.USD_PER_HOUR, "saving_high_usd_per_hour": Unit.USD_PER_HOUR,
    "saving_usd_per_month": Unit.USD, "saving_usd_per_year": Unit.USD, "saving_percent": Unit.PERCENT,
    "probability_saving_positive": Unit.PROBABILITY, "cash_saving_usd_per_hour": Unit.USD_PER_HOUR,
    "cost_usd_per_million_tokens": Unit.USD_PER_MILLION_TOKENS,
}  # fmt: skip
"""Columns of the first table by mechanism."""
OF_MONEY = (Unit.USD, Unit.USD_PER_HOUR, Unit.USD_PER_MILLION_TOKENS)

PRICE, PRICE_OF_RUN, RATE = "server_price", "server_price_of_report", "currency_rate"
"""Names of the cells with the price to try, the one the report was made with, and what a dollar buys."""

_COST, _SAVING = "cost_usd_per_hour", "saving_usd_per_hour"
_PER_HOUR = {
    "cost_usd_per_month": (_COST, HOURS_PER_MONTH),
    "saving_usd_per_month": (_SAVING, HOURS_PER_MONTH),
    "saving_usd_per_year": (_SAVING, HOURS_PER_YEAR),
}
"""Figures that are another column's, times hours."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """What money figures are computed from: the price, and whether all of the invoice moves with it."""

    usd_per_hour: float
    cash_follows: bool

    @classmethod
    def of(cls, report: Report) -> Pricing | None:
        """None where there is no money."""
        price = report.money.price
        if price is None or report.money.missing is not None or not price.usd_per_hour > 0:
            return None
        # What switched-off servers of one's own save is electricity, whose price is another.
        return cls(price.usd_per_hour, price.electricity_usd_per_hour is None)


def money_rows(
    rows: Sequence[SummaryRow], pricing: Pricing | None, columns: Sequence[str], top: int
) -> list[list[Cell]]:
    """The table's cells, of which the first row is row `top` of the sheet, counted from 0."""
    values = [{name: csv_table.SUMMARY[name](row) for name in columns} for row in rows]
    if pricing is None:
        return [list(row.values()) for row in values]
    base = next((i for i, row in enumerate(rows) if row.arm.configuration == row.report.money.baseline), None)
    made = _Table(values, list(columns), top, base, pricing)
    return [[made.cell(index, name) for name in columns] for index in range(len(values))]


def converted(cell: Cell, place: str, per_usd: float) -> Cell:
    """An amount, which stands at `place`, times the rate, as a formula; what is not known stays empty."""
    usd = cell.value if isinstance(cell, Formula) else cell
    return Formula(f"={place}*{RATE}", usd * per_usd) if isinstance(usd, float) else None


@dataclass(frozen=True, slots=True)
class _Table:
    """Values by row and column, and where they stand; `base` is the row that savings are counted against."""

    values: list[dict[str, csv_table.Cell]]
    columns: list[str]
    top: int
    base: int | None
    pricing: Pricing

    def cell(self, index: int, name: str) -> Cell:
        """A cell: money as a formula, everything else as it is."""
        value = self.values[index][name]
        if MONEY[name] not in OF_MONEY or not isinstance(value, float) or not math.isfinite(value):
            return value
        if name == "cash_saving_usd_per_hour" and not self.pricing.cash_follows:
            return value
        return Formula("=" + self._formula(index, name, value), value)

    def _formula(self, index: int, name: str, value: float) -> str:
        """The plainest formula that gives the value at the report's price."""
        row = self.values[index]
        if name in _PER_HOUR:
            source, hours = _PER_HOUR[name]
            return f"{self._at(index, source)}*{int(hours)}"
        servers = row["replicas"]
        if name == _COST and isinstance(servers, int) and _same(servers * self.pricing.usd_per_hour, value):
            return f"{self._at(index, 'replicas')}*{PRICE}"
        if name == _SAVING and self.base is not None:
            ends = (self.values[self.base][_COST], row[_COST])
            if all(isinstance(end, float) for end in ends) and _same(ends[0] - ends[1], value):  # type: ignore[operator]
                return f"{self._at(self.base, _COST)}-{self._at(index, _COST)}"
        return f"{value!r}*{PRICE}/{PRICE_OF_RUN}"

    def _at(self, index: int, name: str) -> str:
        """Where a figure stands."""
        return at(self.top + index, self.columns.index(name))


def _same(one: float, other: float) -> bool:
    """Whether two amounts differ by no more than how they were added up."""
    return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
