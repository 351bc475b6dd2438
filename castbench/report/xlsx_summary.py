"""The first sheet of a workbook: headline, the price to try others in, money and speed by mechanism, chart of costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from castbench.report import csv_table, page, text, xlsx_charts
from castbench.report.blocks import Axis, Chart
from castbench.report.csv_table import SummaryRow
from castbench.report.nouns import Report
from castbench.report.xlsx_book import Cell, Field, Formula, Sheet, at
from castbench.report.xlsx_money import MONEY, OF_MONEY, PRICE, PRICE_OF_RUN, RATE, Pricing, converted, money_rows
from castbench.report.xlsx_words import COLUMNS, IN_CURRENCY, WORDS, fields
from castbench.said import Unit

_ADVISED = ("PILOT", "ROLL-OUT")
"""Words whose rows are stressed."""
_WIDTHS, _COLUMN_WIDTH = (30, 26, 20), 12
_INPUTS = 3
"""Column of the cells that can be changed; the words for them reach over the three before it."""
_RUNNING: dict[str, Unit | None] = {
    "label": None, "configuration": None, "quality_status": None, "verdict": None, "replicas_low": Unit.COUNT,
    "replicas_high": Unit.COUNT, "utilization": Unit.PROBABILITY, "speedup_vs_baseline": Unit.TIMES,
    "speedup_low": Unit.TIMES, "speedup_high": Unit.TIMES, "peak_memory_mib": Unit.MIB,
    "crossover_tokens": Unit.TOKENS, "confirmation": None, "confirmed_speedup": Unit.TIMES, "reason": None,
}  # fmt: skip
"""Second table: how each mechanism runs."""


@dataclass(frozen=True, slots=True)
class _Money:
    """The table of money as it stands: columns, cells, and the row of the first mechanism."""

    columns: list[str]
    cells: list[list[Cell]]
    top: int

    def place(self, index: int, name: str) -> str:
        """Where a figure of a mechanism stands."""
        return at(self.top + index, self.columns.index(name))


def write(sheet: Sheet, charts: Sheet, report: Report, title: str, alt: str) -> None:
    """The sheet, top to bottom; the numbers of its chart, which `alt` describes, stand on `charts`."""
    pricing = Pricing.of(report)
    columns = {name: unit for name, unit in MONEY.items() if pricing or unit not in (*OF_MONEY, Unit.PROBABILITY)}
    width = max(len(columns), len(_RUNNING))
    sheet.widths(*_WIDTHS, *[_COLUMN_WIDTH] * (width - len(_WIDTHS)))
    _headline(sheet, report, title, width)
    _inputs(sheet, report, pricing)
    marked = [i for i, arm in enumerate(report.mechanisms) if arm.recommendation.value in _ADVISED]
    sheet.line(text.HEADINGS["summary" if pricing else "summary.speed"], "heading")
    money = _Money(list(columns), list(_advised(report, pricing, list(columns), sheet.row + 1)), sheet.row + 1)
    sheet.table(fields(columns), money.cells, marked=marked)
    if pricing is not None:
        sheet.line(WORDS["formulas"], "note", columns=width)
    sheet.row += 1
    _in_currency(sheet, report, money, marked)
    sheet.line(WORDS["how"], "heading")
    sheet.table(fields(_RUNNING), [_running(SummaryRow(report, arm)) for arm in report.mechanisms], marked=marked)
    sheet.row += 1
    bars = list(_bars(sheet, report, money)) if pricing else []
    if bars:
        axis = Axis(COLUMNS["cost_usd_per_hour"], unit=Unit.USD_PER_HOUR)
        chart = Chart(xlsx_charts.COSTS, WORDS["costs"], alt, "bars", Axis(""), axis, ())
        xlsx_charts.costs(charts, sheet, chart, bars)


def _headline(sheet: Sheet, report: Report, title: str, width: int) -> None:
    """Title, run, warnings and the sentences for the meeting."""
    run = report.run
    sheet.line(title, "title", columns=width)
    sheet.line(f"{run.run_id} · {run.created_at} · {run.environment.device_name}", "note", columns=width)
    for warning in report.warnings:
        sheet.line(text.say(warning), "warning", columns=width)
    for sentence in report.headline:
        sheet.line(text.say(sentence), "lead", columns=width)
    sheet.row += 1


def _inputs(sheet: Sheet, report: Report, pricing: Pricing | None) -> None:
    """The cells that a reader may change, and the price that the report was made with."""
    if pricing is None:
        return
    _input(sheet, PRICE, WORDS["price"], pricing.usd_per_hour, "input")
    _input(sheet, PRICE_OF_RUN, WORDS["price_of_report"], pricing.usd_per_hour, "cell")
    if report.money.currency is not None:
        words = WORDS["rate"].format(code=report.money.currency.code)
        _input(sheet, RATE, words, report.money.currency.per_usd, "input")
    sheet.row += 1


def _input(sheet: Sheet, name: str, words: str, number: float, look: str) -> None:
    """One named cell with its words."""
    sheet.write(sheet.row, _INPUTS, number, sheet.book.look(look, "#,##0.00####"))
    sheet.book.workbook.define_name(name, f"={sheet.name}!{at(sheet.row, _INPUTS, fixed=True)}")
    sheet.line(words, "cell")


def _advised(report: Report, pricing: Pricing | None, columns: list[str], top: int) -> Iterator[list[Cell]]:
    """Rows of money, the advice in them as the other formats give it."""
    rows = [SummaryRow(report, arm) for arm in report.mechanisms]
    stays = page.kept_label(report.mechanisms, report.money)
    for row, cells in zip(rows, money_rows(rows, pricing, columns, top), strict=True):
        cells[columns.index("recommendation")] = page.advice(row.arm, row.arm.arm.label == stays)
        yield cells


def _in_currency(sheet: Sheet, report: Report, money: _Money, marked: Sequence[int]) -> None:
    """The same amounts in the currency that the profile states; nothing without one."""
    currency = report.money.currency
    kept = [name for name in money.columns if MONEY[name] in OF_MONEY]
    if currency is None or not kept:
        return
    headings = [Field(IN_CURRENCY[name].format(code=currency.code), MONEY[name]) for name in kept]
    rows = [
        [row[0], *(converted(row[money.columns.index(n)], money.place(i, n), currency.per_usd) for n in kept)]
        for i, row in enumerate(money.cells)
    ]
    # Amounts begin in the fourth column, below dollars: the two columns of words between them stay empty.
    sheet.line(WORDS["in_currency"].format(code=currency.code), "heading")
    empty: list[Cell] = [None, None]
    blank = [Field("", text=True)] * 2
    sheet.table(
        [*fields({"label": None}), *blank, *headings], [[row[0], *empty, *row[1:]] for row in rows], marked=marked
    )
    sheet.row += 1


def _running(row: SummaryRow) -> list[Cell]:
    """How one mechanism runs."""
    said = {
        "configuration": None if row.arm.configuration is None else text.say(row.arm.configuration.manner),
        "quality_status": text.QUALITY[row.arm.quality_status],
        "reason": None if row.arm.reason is None else text.say(row.arm.reason),
    }
    return [said[name] if name in said else csv_table.SUMMARY[name](row) for name in _RUNNING]


def _bars(sheet: Sheet, report: Report, money: _Money) -> Iterator[xlsx_charts.Bar]:
    """Costs of the table as bars, their ranges as what is below and above."""
    for index, arm in enumerate(report.mechanisms):
        cost = arm.cost_usd_per_hour
        if cost is None:
            continue
        here, low, high = (
            f"{sheet.name}!{money.place(index, f'cost_{end}usd_per_hour')}" for end in ("", "low_", "high_")
        )
        yield xlsx_charts.Bar(
            arm.arm.label, Formula(f"={here}", cost.value),
            None if cost.low is None else Formula(f"={here}-{low}", cost.value - cost.low),
            None if cost.high is None else Formula(f"={high}-{here}", cost.high - cost.value),
        )  # fmt: skip
