"""What was measured, in the units of a report: a row per case, a table per shape, fresh rounds, discarded rounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from castbench.energy import EnergyFinding
from castbench.findings import CaseFinding, Confirmation, case_findings, confirmations, expected_tokens
from castbench.plan import Group
from castbench.records import Outcome, Purpose, RunRecord
from castbench.report.nouns import CaseRow, Confirmed, Discards, EnergyRow, GroupTable
from castbench.stats import Estimate
from castbench.units import mib, ms
from castbench.workload.spec import LengthDistribution

_PURPOSES: tuple[Purpose, ...] = ("compare", "confirm")


def group_tables(record: RunRecord) -> tuple[GroupTable, ...]:
    """A table per shape, arms in the plan's order."""
    by_group: dict[Group, list[CaseRow]] = {}
    for finding in case_findings(record):
        by_group.setdefault(finding.group, []).append(_case_row(finding, record.header.plan.mix))
    return tuple(
        GroupTable(group, tuple(rows), tuple(_discards(record, group.key))) for group, rows in by_group.items()
    )


def confirmed_rows(record: RunRecord) -> tuple[Confirmed, ...]:
    """What fresh rounds say of everything that was selected."""
    return tuple(_confirmed(found, record.header.plan.analysis.confirm_rounds) for found in confirmations(record))


def _case_row(found: CaseFinding, mix: LengthDistribution) -> CaseRow:
    """A finding in the units of a report."""
    mean_s = found.mean_step_s
    said = found.outcome or Outcome(found.arm.label, found.status)
    return CaseRow(
        arm=found.arm, status=found.status, reason=found.reason,
        latency_ms=_scaled(found.latency_s, 1e3),
        mean_ms=None if mean_s is None else ms(mean_s),
        step_p95_ms=None if found.step_p95_s is None else ms(found.step_p95_s),
        step_p99_ms=None if found.step_p99_s is None else ms(found.step_p99_s),
        sequences_per_s=None if mean_s is None else found.group.shape.batch_size / mean_s,
        tokens_per_s=None if mean_s is None else expected_tokens(found.group, mix) / mean_s,
        peak_memory_mib=_mib(said.peak_bytes), weights_mib=_mib(said.weights_bytes),
        parity_error=said.parity_error, ran_as=said.ran_as,
        speedup=found.speedup, verdict=found.verdict, rounds=found.rounds, stopped_by=found.stopped_by,
        reserved_memory_mib=_mib(said.reserved_bytes), largest_batch=said.largest_batch,
        energy=_energy_row(found.energy), energy_reason=said.energy_reason, caveats=found.caveats,
    )  # fmt: skip


def _energy_row(found: EnergyFinding | None) -> EnergyRow | None:
    """Energy per step, sequence and token."""
    if found is None:
        return None
    return EnergyRow(
        found.source, found.scope, found.gross_j_per_step, found.net_j_per_step,
        found.gross_j_per_sequence, found.net_j_per_sequence,
        found.gross_j_per_1k_tokens, found.net_j_per_1k_tokens,
        found.idle_w, found.idle_drift, found.mean_power_w, found.disagreement, found.blocks, found.dropped,
    )  # fmt: skip


def _discards(record: RunRecord, key: str) -> Iterator[Discards]:
    """What was discarded of a group, by purpose; nothing where nothing was."""
    for purpose in _PURPOSES:
        tried = [r for r in record.rounds if r.group == key and r.purpose == purpose]
        reasons = Counter(r.invalid_reason for r in tried if r.invalid_reason is not None)
        if reasons:
            yield Discards(purpose, len(tried), tuple(reasons.most_common()))


def _confirmed(found: Confirmation, wanted: int) -> Confirmed:
    """A confirmation with speed-ups in place of logarithms of time ratios."""
    return Confirmed(
        found.group, found.arm.label, found.against.label, found.claim, _as_speedup(found.selected),
        _as_speedup(found.fresh), found.rounds, wanted, found.p_value, found.adjusted_p, found.holds,
    )  # fmt: skip


def _as_speedup(log_ratio: Estimate | None) -> Estimate | None:
    """The other's time over this one's, from the log of the ratio of this one's to the other's."""
    if log_ratio is None:
        return None
    low, high = (None if end is None else math.exp(-end) for end in (log_ratio.high, log_ratio.low))
    return Estimate(math.exp(-log_ratio.value), low, high)


def _mib(size: int | None) -> float | None:
    """Bytes as MiB; None stays None."""
    return None if size is None else mib(size)


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    """An estimate in another unit."""
    if estimate is None:
        return None
    ends = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    return Estimate(estimate.value * factor, *ends)
