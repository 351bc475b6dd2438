"""What gates are held against: the figures of a Diff that a gate's metric, mechanism and length name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from castbench.cost.gates import EVERY, MEMORY, MONEY, Figure, Gate, JudgedGate, Metric, judge
from castbench.cost.spec import ArmProjection
from castbench.errors import InputError
from castbench.plan import Group
from castbench.records import Caveat
from castbench.report.diff_view import Diff, DiffRow
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Estimate, Verdict


def with_gates(diff: Diff, gates: Sequence[Gate]) -> Diff:
    """The difference with every gate judged; InputError for one that nothing can be held against."""
    return replace(diff, gates=tuple(_judged(diff, gate) for gate in gates))


def _judged(diff: Diff, gate: Gate) -> JudgedGate:
    """One gate with its figures."""
    if gate.metric is Metric.TIME_CHANGE and diff.floor_percent is None:
        raise InputError(
            f"{gate.text}: {gate.metric} is an absolute change of time; give --absolute with --noise or "
            "--noise-percent, or use slowdown_percent"
        )
    figures = tuple(_figures(diff, gate))
    if not figures:
        raise InputError(f"{gate.text}: {_nothing(diff, gate)}")
    return judge(gate, figures)


def _nothing(diff: Diff, gate: Gate) -> str:
    """Why there is no figure for a gate, in words."""
    if gate.tokens is not None:
        lengths = sorted({row.group.shape.seq_len for row in diff.cases if row.group is not None})
        if gate.tokens not in lengths:
            return f"no case of {gate.tokens} tokens was measured; lengths are {', '.join(map(str, lengths)) or 'none'}"
    return f"{gate.label} is the baseline, whose ratio to itself says nothing; name another mechanism"


def _figures(diff: Diff, gate: Gate) -> Iterator[Figure]:
    """What a gate names: money of NEW; else rows over the traffic, or with a length every case of that length.

    Absolute times have no row over the traffic: without a length every case counts.
    """
    if gate.metric in MONEY:
        arms = [arm for arm in diff.new_money.arms if gate.label in (EVERY, arm.arm.label)]
        yield from (_of_money(diff, arm, gate.metric) for arm in arms)
        return
    by_length = diff.traffic if gate.tokens is None else diff.cases
    for row in diff.absolute if gate.metric is Metric.TIME_CHANGE else by_length:
        if _is_named(row, gate) and (row.verdict is not Verdict.BASELINE or gate.metric in MEMORY):
            yield _of_row(row, gate.metric)


def _is_named(row: DiffRow, gate: Gate) -> bool:
    """Whether a row has the gate's label and length."""
    length = None if row.group is None else row.group.shape.seq_len
    return gate.label in (EVERY, row.label) and gate.tokens in (None, length)


def _of_row(row: DiffRow, metric: Metric) -> Figure:
    """A row's figure for a metric."""
    case = row.group
    if metric is Metric.SPEEDUP:
        no_range = statement("diff.no_range", run="NEW")
        is_known = row.new.figure is not None and row.new.figure.low is not None
        return Figure(row.label, case, row.new.figure, None if is_known else _why(row, "NEW") or no_range)
    if metric is Metric.MEMORY:
        return _of_memory(row.label, row.new.peak_mib, case)
    if metric is Metric.MEMORY_CHANGE:
        return _of_memory(row.label, memory_change(row), case, Unit.PERCENT)
    return Figure(row.label, case, row.change, row.why)


def _why(row: DiffRow, run: str) -> Statement | None:
    """Why a row has nothing, if that is because of this run."""
    return row.why if row.why is not None and ("run", run) in row.why.values else None


def memory_change(row: DiffRow) -> float | None:
    """Percent by which peak memory rose."""
    if row.base.peak_mib is None or row.new.peak_mib is None or row.base.peak_mib == 0:
        return None
    return 100 * (row.new.peak_mib / row.base.peak_mib - 1)


def _of_memory(label: str, number: float | None, case: Group | None, unit: Unit = Unit.MIB) -> Figure:
    """Memory is counted, so that it has no range."""
    if number is None:
        return Figure(label, case, None, statement("gate.no_memory"))
    return Figure(label, case, Quantity(number, unit, number, number), None)


def _of_money(diff: Diff, arm: ArmProjection, metric: Metric) -> Figure:
    """Cost or saving per hour of NEW."""
    estimate: Estimate | None = arm.cost_usd_per_hour if metric is Metric.COST else arm.saving_usd_per_hour
    why: Statement | None = None
    if estimate is None:
        missing = diff.new_money.money_missing
        why = statement("gate.no_configuration") if missing is None else statement("gate.no_money", why=missing)
    elif Caveat.FEW_ROUNDS in arm.caveats:
        why = statement("diff.no_range", run="NEW")
    return Figure(arm.arm.label, None, Quantity.of(estimate, Unit.USD_PER_HOUR), why)
