"""The CSV tables: fixed columns, plain numbers at full precision, text that no spreadsheet runs as a formula.

Every column is explained in docs/csv.md; new columns are only ever appended.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from castbench.cost.outlook_nouns import BreakEven
from castbench.cost.spec import ArmProjection
from castbench.plan import Arm, Group
from castbench.report import text
from castbench.report.catalogue import speaking
from castbench.report.nouns import CaseRow, Confirmed, Discards, Report
from castbench.report.view import replicas_estimate
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH, HOURS_PER_YEAR, mib
from castbench.workload.spec import Currency

Cell = str | float | int | None
_USD = "usd"
"""What names of columns of US dollars hold."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """What a row of the summary is made of."""

    report: Report
    arm: ArmProjection


@dataclass(frozen=True, slots=True)
class CasesRow:
    """What a row of the cases is made of."""

    report: Report
    group: Group
    case: CaseRow
    discards: tuple[Discards, ...]


def write(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """Rows as UTF-8 CSV with a heading; None is an empty cell."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    return sink.getvalue().encode("utf-8", "replace")


@speaking("en")
def summary(report: Report) -> bytes:
    """One row per mechanism; ceilings are no mechanisms and have none. Amounts in a stated currency come last."""
    rows = [SummaryRow(report, arm) for arm in report.mechanisms]
    currency = report.money.currency
    converted = [{} if currency is None else in_currency(row, currency) for row in rows]
    added = [] if currency is None else [_converted_name(name, currency) for name in _amounts()]
    dollars = ([cell(row) for cell in SUMMARY.values()] for row in rows)
    cells = ([*row, *more.values()] for row, more in zip(dollars, converted, strict=True))
    return write([*SUMMARY, *added], cells)


def in_currency(row: SummaryRow, currency: Currency) -> dict[str, float | None]:
    """Every amount of a row of the summary in another currency, under its column's name there."""
    amounts = {name: SUMMARY[name](row) for name in _amounts()}
    return {
        _converted_name(name, currency): usd * currency.per_usd if isinstance(usd, (int, float)) else None
        for name, usd in amounts.items()
    }


def _amounts() -> list[str]:
    """Columns of the summary that hold US dollars."""
    return [name for name in SUMMARY if _USD in name.split("_")]


def _converted_name(column: str, currency: Currency) -> str:
    """The name of a column of dollars with another currency in it."""
    return "_".join(currency.code.lower() if part == _USD else part for part in column.split("_"))


@speaking("en")
def cases(report: Report) -> bytes:
    """One row per case, ceilings included."""
    rows = (CasesRow(report, table.group, case, table.discards) for table in report.groups for case in table.rows)
    return write(list(CASES), ([cell(row) for cell in CASES.values()] for row in rows))


def _plain(cell: Cell) -> str:
    """A cell as text: numbers as Python spells them, foreign formulas made harmless by an apostrophe."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, Enum):
        cell = str(cell.value)
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
    return repr(cell)


def _parameters(arm: Arm) -> str:
    """Parameters as compact JSON."""
    return json.dumps(dict(arm.params), separators=(",", ":"), ensure_ascii=False)


def _value(estimate: Estimate | None, factor: float = 1.0) -> float | None:
    return None if estimate is None else estimate.value * factor


def _low(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.low


def _high(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.high


def _energy(case: CaseRow, name: str) -> Any:
    """A figure of a case's energy; None where there is none."""
    return None if case.energy is None else getattr(case.energy, name)


def _joules(case: CaseRow, name: str, end: Callable[[Estimate | None], float | None]) -> float | None:
    """One number of an energy with its interval."""
    return end(_energy(case, name))


def _confirmed(row: SummaryRow) -> Confirmed | None:
    """What fresh rounds say of a mechanism; None where it was not selected for any."""
    return next((found for found in row.report.confirmations if found.label == row.arm.arm.label), None)


def _confirmation(row: SummaryRow, name: str) -> Any:
    """A figure of a mechanism's fresh rounds; None where there are none."""
    found = _confirmed(row)
    return None if found is None else getattr(found, name)


def _break_even(row: SummaryRow) -> BreakEven | None:
    """The break-even of the mechanism that the outlook is about; None for the others."""
    outlook = row.report.outlook
    return outlook.break_even if outlook is not None and outlook.subject == row.arm.arm.label else None


def _repaid(row: SummaryRow) -> Estimate | None:
    """Months until one-off costs have come back, with growth where it is stated."""
    found = _break_even(row)
    return None if found is None else found.months_growing or found.months


def _probability_within(row: SummaryRow, months: int) -> float | None:
    """Probability that they have come back by then."""
    found = _break_even(row)
    return None if found is None else dict(found.within)[months]


def _electricity(row: SummaryRow, name: str) -> Any:
    """A figure of a mechanism's energy in service; None where it is not known."""
    found = None if row.report.electricity is None else row.report.electricity.of(row.arm.arm.label)
    return None if found is None else getattr(found, name)


def _today_cost(row: SummaryRow) -> Estimate | None:
    """Cost of what runs today, the same in every row."""
    return row.report.money.waterfall.today.cost_usd_per_hour if row.report.money.waterfall else None


def _used(arm: ArmProjection, name: str) -> Any:
    return None if arm.configuration is None else getattr(arm.configuration, name)


def _caveats(row: ArmProjection | CaseRow) -> str:
    return "; ".join(caveat.value for caveat in row.caveats)


SUMMARY: dict[str, Callable[[SummaryRow], Cell]] = {
    "label": lambda row: row.arm.arm.label,
    "mechanism": lambda row: row.arm.arm.mechanism,
    "parameters": lambda row: _parameters(row.arm.arm),
    "recommendation": lambda row: row.arm.recommendation.value,
    "quality_status": lambda row: row.arm.quality_status.value,
    "baseline_config": lambda row: None if row.report.money.baseline is None else str(row.report.money.baseline),
    "regime": lambda row: _used(row.arm, "regime"),
    "batch_size_used": lambda row: _used(row.arm, "batch_size"),
    "replicas": lambda row: row.arm.replicas,
    "replicas_fractional": lambda row: _value(row.arm.replicas_fractional),
    "utilization": lambda row: row.arm.utilization,
    "cost_usd_per_hour": lambda row: _value(row.arm.cost_usd_per_hour),
    "saving_usd_per_hour": lambda row: _value(row.arm.saving_usd_per_hour),
    "saving_low_usd_per_hour": lambda row: _low(row.arm.saving_usd_per_hour),
    "saving_high_usd_per_hour": lambda row: _high(row.arm.saving_usd_per_hour),
    "saving_percent": lambda row: row.arm.saving_percent,
    "probability_saving_positive": lambda row: row.arm.probability_saving_positive,
    "cash_saving_usd_per_hour": lambda row: _value(row.arm.cash_saving_usd_per_hour),
    "cost_usd_per_million_tokens": lambda row: _value(row.arm.usd_per_million_tokens),
    "speedup_vs_baseline": lambda row: _value(row.arm.speedup),
    "peak_memory_mib": lambda row: None if row.arm.peak_memory_bytes is None else mib(row.arm.peak_memory_bytes),
    "crossover_tokens": lambda row: row.arm.crossover[1],
    "verdict": lambda row: row.arm.verdict.value,
    "caveats": lambda row: _caveats(row.arm),
    "batching_used": lambda row: _used(row.arm, "batching"),
    "crossover_above_tokens": lambda row: row.arm.crossover[0],
    "cost_low_usd_per_hour": lambda row: _low(row.arm.cost_usd_per_hour),
    "cost_high_usd_per_hour": lambda row: _high(row.arm.cost_usd_per_hour),
    "replicas_low": lambda row: _low(replicas_estimate(row.arm)),
    "replicas_high": lambda row: _high(replicas_estimate(row.arm)),
    "speedup_low": lambda row: _low(row.arm.speedup),
    "speedup_high": lambda row: _high(row.arm.speedup),
    "cost_usd_per_month": lambda row: _value(row.arm.cost_usd_per_hour, HOURS_PER_MONTH),
    "saving_usd_per_month": lambda row: _value(row.arm.saving_usd_per_hour, HOURS_PER_MONTH),
    "saving_usd_per_year": lambda row: _value(row.arm.saving_usd_per_hour, HOURS_PER_YEAR),
    "capacity_released_units_per_hour": lambda row: _value(row.arm.capacity_released_units_per_hour),
    "interpolation_error": lambda row: row.arm.interpolation_error,
    "price_usd_per_hour": lambda row: None if row.report.money.price is None else row.report.money.price.usd_per_hour,
    "price_source": lambda row: None if row.report.money.price is None else row.report.money.price.source,
    "price_as_of": lambda row: None if row.report.money.price is None else row.report.money.price.as_of,
    "requests_per_second": lambda row: (
        None if row.report.money.demand is None else row.report.money.demand.requests_per_second
    ),
    "reason": lambda row: text.in_english(row.arm.reason or row.report.money.missing),
    "device_name": lambda row: row.report.run.environment.device_name,
    "run_id": lambda row: row.report.run.run_id,
    "crossover_regime": lambda row: None if row.report.money.baseline is None else row.report.money.baseline.regime,
    "confirmation": lambda row: _confirmation(row, "outcome"),
    "confirmed_against": lambda row: _confirmation(row, "against"),
    "confirmed_at": lambda row: None if (found := _confirmed(row)) is None else found.group.key,
    "confirmed_rounds": lambda row: _confirmation(row, "rounds"),
    "confirmed_speedup": lambda row: _value(_confirmation(row, "speedup_fresh")),
    "confirmed_speedup_low": lambda row: _low(_confirmation(row, "speedup_fresh")),
    "confirmed_speedup_high": lambda row: _high(_confirmation(row, "speedup_fresh")),
    "one_off_usd": lambda row: None if (found := _break_even(row)) is None else found.one_off_usd.value,
    "break_even_months": lambda row: _value(_repaid(row)),
    "break_even_low_months": lambda row: _low(_repaid(row)),
    "break_even_high_months": lambda row: _high(_repaid(row)),
    "probability_break_even_12_months": lambda row: _probability_within(row, 12),
    "probability_break_even_24_months": lambda row: _probability_within(row, 24),
    "probability_no_break_even": lambda row: None if (found := _break_even(row)) is None else found.never_probability,
    "kwh_per_million_tokens": lambda row: _value(_electricity(row, "kwh_per_million_tokens")),
    "kwh_low_per_million_tokens": lambda row: _low(_electricity(row, "kwh_per_million_tokens")),
    "kwh_high_per_million_tokens": lambda row: _high(_electricity(row, "kwh_per_million_tokens")),
    "kg_co2_per_million_tokens": lambda row: _value(_electricity(row, "kg_co2_per_million_tokens")),
    "kwh_per_month": lambda row: _value(_electricity(row, "kwh_per_month")),
    "idle_kwh_per_month": lambda row: _electricity(row, "idle_kwh_per_month"),
    "electricity_usd_per_month": lambda row: _value(_electricity(row, "usd_per_month")),
    "kg_co2_per_month": lambda row: _value(_electricity(row, "kg_co2_per_month")),
    "cost_usd_per_million_tokens_full_load": lambda row: _value(row.arm.usd_per_million_tokens_full_load),
    "cash_saving_low_usd_per_hour": lambda row: _low(row.arm.cash_saving_usd_per_hour),
    "cash_saving_high_usd_per_hour": lambda row: _high(row.arm.cash_saving_usd_per_hour),
    "today_config": lambda row: None if row.report.money.today is None else str(row.report.money.today),
    "today_cost_usd_per_hour": lambda row: _value(_today_cost(row)),
}
"""Columns of the summary, in order."""

CASES: dict[str, Callable[[CasesRow], Cell]] = {
    "label": lambda row: row.case.arm.label,
    "mechanism": lambda row: row.case.arm.mechanism,
    "parameters": lambda row: _parameters(row.case.arm),
    "phase": lambda row: row.report.run.phase,
    "dtype": lambda row: row.report.run.dtype,
    "regime": lambda row: row.group.regime,
    "batch_size": lambda row: row.group.shape.batch_size,
    "seq_len": lambda row: row.group.shape.seq_len,
    "status": lambda row: row.case.status.value,
    "reason": lambda row: row.case.reason,
    "latency_p50_ms": lambda row: _value(row.case.latency_ms),
    "latency_low_ms": lambda row: _low(row.case.latency_ms),
    "latency_high_ms": lambda row: _high(row.case.latency_ms),
    "latency_mean_ms": lambda row: row.case.mean_ms,
    "step_p95_ms": lambda row: row.case.step_p95_ms,
    "step_p99_ms": lambda row: row.case.step_p99_ms,
    "throughput_seq_per_s": lambda row: row.case.sequences_per_s,
    "throughput_tokens_per_s": lambda row: row.case.tokens_per_s,
    "peak_memory_mib": lambda row: row.case.peak_memory_mib,
    "energy_j_per_seq": lambda row: _joules(row.case, "gross_j_per_sequence", _value),
    "speedup_vs_baseline": lambda row: _value(row.case.speedup),
    "speedup_low": lambda row: _low(row.case.speedup),
    "speedup_high": lambda row: _high(row.case.speedup),
    "verdict": lambda row: None if row.case.verdict is None else row.case.verdict.value,
    "rounds": lambda row: row.case.rounds,
    "stopped_by": lambda row: row.case.stopped_by,
    "caveats": lambda row: _caveats(row.case),
    "batching": lambda row: row.group.batching,
    "held_out": lambda row: row.group.held_out,
    "ran_as": lambda row: row.case.ran_as,
    "parity_error": lambda row: row.case.parity_error,
    "weights_mib": lambda row: row.case.weights_mib,
    "device_name": lambda row: row.report.run.environment.device_name,
    "run_id": lambda row: row.report.run.run_id,
    "reserved_memory_mib": lambda row: row.case.reserved_memory_mib,
    "largest_batch": lambda row: None if row.case.largest_batch is None else row.case.largest_batch.fits,
    "largest_batch_fails": lambda row: None if row.case.largest_batch is None else row.case.largest_batch.fails,
    "energy_low_j_per_seq": lambda row: _joules(row.case, "gross_j_per_sequence", _low),
    "energy_high_j_per_seq": lambda row: _joules(row.case, "gross_j_per_sequence", _high),
    "energy_net_j_per_seq": lambda row: _joules(row.case, "net_j_per_sequence", _value),
    "energy_net_low_j_per_seq": lambda row: _joules(row.case, "net_j_per_sequence", _low),
    "energy_net_high_j_per_seq": lambda row: _joules(row.case, "net_j_per_sequence", _high),
    "energy_j_per_1k_tokens": lambda row: _joules(row.case, "gross_j_per_1k_tokens", _value),
    "mean_power_w": lambda row: _energy(row.case, "mean_power_w"),
    "idle_power_w": lambda row: _energy(row.case, "idle_w"),
    "energy_disagreement": lambda row: _energy(row.case, "disagreement"),
    "energy_source": lambda row: _energy(row.case, "source"),
    "energy_scope": lambda row: _energy(row.case, "scope"),
    "energy_reason": lambda row: row.case.energy_reason,
    "discarded_rounds": lambda row: sum(found.count for found in row.discards if found.purpose == "compare"),
}
"""Columns of the cases, in order."""
