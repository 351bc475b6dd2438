"""What a report says, pulled apart into names and values, to be held against what was worked out anew."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from castbench.plain import to_plain
from castbench.report import csv_table
from castbench.report.nouns import Report
from castbench.report.verify.ahead import Ahead
from castbench.report.verify.money import Recount
from castbench.report.verify.numbers import Pair, agree, leaves, pairs
from castbench.report.verify.raw import key_of
from castbench.report.verify.steps import Steps
from castbench.said import Quantity, Statement

STATED = (
    "arm", "reason", "ran_as", "caveats", "configuration.label", "configuration.batching", "configuration.regime",
    "energy_reason", "group", "label", "against",
)  # fmt: skip
"""Parts of a row that are no result: names, what the plan states, sentences."""
_ENERGY_CELLS = {
    "energy_j_per_seq": "gross_j_per_sequence.value", "energy_low_j_per_seq": "gross_j_per_sequence.low",
    "energy_high_j_per_seq": "gross_j_per_sequence.high", "energy_net_j_per_seq": "net_j_per_sequence.value",
    "energy_net_low_j_per_seq": "net_j_per_sequence.low", "energy_net_high_j_per_seq": "net_j_per_sequence.high",
    "energy_j_per_1k_tokens": "gross_j_per_1k_tokens.value", "mean_power_w": "mean_power_w", "idle_power_w": "idle_w",
    "energy_disagreement": "disagreement",
}  # fmt: skip
_SEARCHED = re.compile(r"\.(flips_at|searched(\.\d)?|stated(\..*)?|missing(\..*)?|source|scope)$")
"""Parts of what lies ahead that are searched for, stated, or no result."""
HOURS = {"month": 730, "year": 8760}


def row_pairs(report: Report, recount: Recount) -> Iterator[Pair]:
    """Every number and every word of judgement of the cases, mechanisms and ceilings."""
    for table in report.groups:
        key = key_of(to_plain(table.group))
        for case in table.rows:
            anew = recount.cases[key, case.arm.label].row
            yield from pairs(f"{key} {case.arm.label}", _said(case), anew)
        yield from pairs(key, dict(leaves({"discards": to_plain(table.discards)})), recount.discards(key))
    for arm in report.mechanisms:
        yield from pairs(arm.arm.label, _said(arm), dict(leaves(recount.mechanism(to_plain(arm.arm)))))
    for said, (where, row) in zip(report.confirmations, recount.confirmations, strict=True):
        yield from pairs(where, _said(said), row)
    yield from _savings_pairs(report, recount)
    yield from _ahead_pairs(report, recount)
    ceilings = {"ceiling": report.money.ceiling, "module_ceiling": report.money.module_ceiling}
    yield from pairs("the run", dict(leaves(to_plain(ceilings))), recount.ceilings)


def _ahead(report: Report, recount: Recount) -> Ahead:
    """What is worked out anew of what lies ahead."""
    return Ahead(recount, [to_plain(arm.arm) for arm in report.mechanisms])


def _ahead_pairs(report: Report, recount: Recount) -> Iterator[Pair]:
    """Break-even, growth, sensitivity and energy; where a decision flips is not searched for: both sides are tried."""
    said, anew = report.outlook, _ahead(report, recount)
    names = ("subject", "break_even", "growth", "steps_break_even")
    held = {name: to_plain(getattr(said, name)) for name in names if said is not None}
    held["sensitivity"] = {factor.moved.value: to_plain(factor) for factor in (said.sensitivity if said else ())}
    held["electricity"] = None if report.electricity is None else to_plain(report.electricity.arms)
    found = dict(leaves({"ahead": held}))
    yield from pairs(
        "ahead", {name: value for name, value in found.items() if not _SEARCHED.search(name)},
        dict(leaves({"ahead": anew.rows()})),
    )  # fmt: skip
    for factor in said.sensitivity if said is not None else ():
        if factor.flips_at is not None:
            yield Pair(factor.moved.value, "ahead.flips", True, anew.flips(factor.moved.value, factor.flips_at))


def _savings_pairs(report: Report, recount: Recount) -> Iterator[Pair]:
    """Every step from today, what of the bill is explained, the parts of the range, and the memory needed."""
    said = report.money.savings
    if said is None:
        return
    anew = _steps(report, recount)
    held = {name: to_plain(getattr(said, name)) for name in ("waterfall", "range_parts", "observed")}
    held["headroom"] = [needs.needed_bytes for needs in said.headroom]
    yield from pairs("savings", dict(leaves(held)), dict(leaves(anew)))


def _steps(report: Report, recount: Recount) -> dict[str, Any]:
    """What is worked out anew of the savings."""
    observed = report.money.savings.observed if report.money.savings else None
    stated = None if observed is None else to_plain(observed.stated)
    return Steps(recount, [to_plain(arm.arm) for arm in report.mechanisms], stated).rows()


def sentence_pairs(report: Report, known: Sequence[float]) -> Iterator[Pair]:
    """Every quantity of a sentence: it must be one of the known numbers, up to its sign and hours."""
    for said in (*report.warnings, *report.headline, *report.ceilings, *report.assumptions):
        for name, quantity in _quantities(said):
            for end in (quantity.value, quantity.low, quantity.high):
                if end is not None:
                    yield Pair(said.key, f"sentence.{name}", end, _one_of(end / HOURS.get(name, 1), known, end))


def _quantities(said: Statement) -> Iterator[tuple[str, Quantity]]:
    """Every quantity of a sentence and of its parts, with its name there."""
    for name, value in said.values:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Quantity):
                yield name, one
            elif isinstance(one, Statement):
                yield from _quantities(one)


def cell_pairs(report: Report, recount: Recount) -> Iterator[Pair]:
    """Every number of both CSV tables, read back from their bytes."""
    ahead, today_cost = _ahead(report, recount), recount.today_cost
    for cells in csv.DictReader(io.StringIO(csv_table.summary(report).decode())):
        arm = next(arm for arm in report.mechanisms if csv_safe(arm.arm.label) == cells["label"])
        wanted = summary_cells(recount.mechanism(to_plain(arm.arm)), recount.confirmed(arm.arm.label))
        wanted |= ahead.cells(arm.arm.label) | {"today_cost_usd_per_hour": today_cost}
        wanted |= _converted(wanted, recount.economics.get("currency"))
        yield from _cells(f"summary {cells['label']}", cells, wanted)
    rows = [(key_of(to_plain(table.group)), row) for table in report.groups for row in table.rows]
    for cells, (key, row) in zip(csv.DictReader(io.StringIO(csv_table.cases(report).decode())), rows, strict=True):
        wanted = case_cells(recount.cases[key, row.arm.label].row, recount.discarded(key))
        yield from _cells(f"cases {key} {row.arm.label}", cells, wanted)


def _converted(cells: Mapping[str, Any], currency: Mapping[str, Any] | None) -> dict[str, Any]:
    """The dollars of a row in the currency that is stated; nothing without one."""
    if currency is None:
        return {}
    dollars = {name: usd for name, usd in cells.items() if "usd" in name.split("_")}
    return {
        name.replace("usd", currency["code"].lower()): None if usd is None else usd * currency["per_usd"]
        for name, usd in dollars.items()
    }


def summary_cells(row: Mapping[str, Any], confirmed: Mapping[str, Any]) -> dict[str, Any]:
    """A mechanism's numbers under the names of the CSV summary."""
    cost, saving = row["cost_usd_per_hour.value"], row["saving_usd_per_hour.value"]
    low, high = _servers_range(row["replicas"], row["replicas_shares"])
    peak = row["peak_memory_bytes"]
    return {
        "replicas": row["replicas"], "replicas_fractional": row["replicas_fractional.value"],
        "utilization": row["utilization"], "cost_usd_per_hour": cost, "saving_usd_per_hour": saving,
        "saving_low_usd_per_hour": row["saving_usd_per_hour.low"],
        "saving_high_usd_per_hour": row["saving_usd_per_hour.high"], "saving_percent": row["saving_percent"],
        "probability_saving_positive": row["probability_saving_positive"],
        "cash_saving_usd_per_hour": row["cash_saving_usd_per_hour.value"],
        "cost_usd_per_million_tokens": row["usd_per_million_tokens.value"],
        "cost_usd_per_million_tokens_full_load": row["usd_per_million_tokens_full_load.value"],
        "cash_saving_low_usd_per_hour": row["cash_saving_usd_per_hour.low"],
        "cash_saving_high_usd_per_hour": row["cash_saving_usd_per_hour.high"],
        "speedup_vs_baseline": row["speedup.value"], "peak_memory_mib": None if peak is None else peak / 1024**2,
        "crossover_tokens": row["crossover.1"], "crossover_above_tokens": row["crossover.0"],
        "cost_low_usd_per_hour": row["cost_usd_per_hour.low"], "cost_high_usd_per_hour": row["cost_usd_per_hour.high"],
        "replicas_low": low, "replicas_high": high,
        "speedup_low": row["speedup.low"], "speedup_high": row["speedup.high"],
        "cost_usd_per_month": None if cost is None else cost * HOURS["month"],
        "saving_usd_per_month": None if saving is None else saving * HOURS["month"],
        "saving_usd_per_year": None if saving is None else saving * HOURS["year"],
        "capacity_released_units_per_hour": row["capacity_released_units_per_hour.value"],
        "interpolation_error": row["interpolation_error"], "batch_size_used": row["configuration.batch_size"],
        "confirmed_rounds": confirmed.get("rounds"), "confirmed_speedup": confirmed.get("speedup_fresh.value"),
        "confirmed_speedup_low": confirmed.get("speedup_fresh.low"),
        "confirmed_speedup_high": confirmed.get("speedup_fresh.high"),
    }  # fmt: skip


def case_cells(row: Mapping[str, Any], discarded: int) -> dict[str, Any]:
    """A case's numbers under the names of the CSV cases."""
    return {
        "latency_p50_ms": row["latency_ms.value"], "latency_low_ms": row["latency_ms.low"],
        "latency_high_ms": row["latency_ms.high"], "latency_mean_ms": row["mean_ms"],
        "step_p95_ms": row["step_p95_ms"], "step_p99_ms": row["step_p99_ms"],
        "throughput_seq_per_s": row["sequences_per_s"], "throughput_tokens_per_s": row["tokens_per_s"],
        "peak_memory_mib": row["peak_memory_mib"], "weights_mib": row["weights_mib"],
        "speedup_vs_baseline": row["speedup.value"], "speedup_low": row["speedup.low"],
        "speedup_high": row["speedup.high"], "rounds": row["rounds"], "parity_error": row["parity_error"],
        "reserved_memory_mib": row["reserved_memory_mib"], "largest_batch": row["largest_batch.fits"],
        "largest_batch_fails": row["largest_batch.fails"], "discarded_rounds": discarded,
        **{column: row.get(f"energy.{name}") for column, name in _ENERGY_CELLS.items()},
    }  # fmt: skip


def csv_safe(label: str) -> str:
    """A label as a cell: what a spreadsheet would run has an apostrophe before it."""
    return f"'{label}" if label[:1] in set("=+-@\t\r\n") else label


def known_numbers(report: Report, recount: Recount) -> tuple[float, ...]:
    """Every number that a sentence may state: worked out anew, or given in the plan."""
    plan, steps = recount.plan, _steps(report, recount)
    rows = [
        *(case.row for case in recount.cases.values()), recount.ceilings, *(row for _, row in recount.confirmations),
        *(recount.mechanism(to_plain(arm.arm)) for arm in report.mechanisms), steps,
    ]  # fmt: skip
    error = sum(plan["analysis"]["look_errors"])
    judged = sum(
        case.row["speedup.value"] is not None and case.rounds >= plan["analysis"]["looks"][0]
        for case in recount.cases.values()
    )
    stated = [
        100 * plan["sampling"]["same_within"], judged, 100 * error, judged * error,
        *(group["shape"][side] for group in plan["groups"] for side in ("seq_len", "batch_size")), *recount.stated,
    ]  # fmt: skip
    worked_out = [value for row in rows for _, value in leaves(row) if isinstance(value, (int, float))]
    observed = [v * factor for _, v in leaves(steps["observed"]) if isinstance(v, float) for factor in (100, 1e3)]
    return tuple(abs(value) for value in (*stated, *worked_out, *observed))


def _one_of(value: float, known: Sequence[float], said: float) -> float | None:
    """What was said, if it is one of the known numbers."""
    return said if any(agree(abs(value), number) for number in known) else None


def _said(row: Any) -> dict[str, Any]:
    """A row's results by dotted name."""
    return {name: value for name, value in leaves(to_plain(row)) if not _is_stated(name)}


def _is_stated(name: str) -> bool:
    """Whether a part of a row is no result."""
    return any(name == stated or name.startswith(f"{stated}.") for stated in STATED)


def _cells(where: str, cells: Mapping[str, str], wanted: Mapping[str, Any]) -> Iterator[Pair]:
    """The cells of a table row that hold results."""
    for column, value in wanted.items():
        yield Pair(where, f"cell.{column}", None if cells[column] == "" else float(cells[column]), value)


def _servers_range(replicas: int | None, shares: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    """Whole servers that 2.5 and 97.5 % of the draws do not exceed, stretched to the number itself."""
    if replicas is None or not shares:
        return None, None
    ends = []
    for reach in (0.025, 0.975):
        reached = 0.0
        ends.append(next((n for n, share in shares if (reached := reached + share) >= reach), shares[-1][0]))
    return min(ends[0], replicas), max(ends[1], replicas)
