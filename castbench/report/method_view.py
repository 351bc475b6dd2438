"""How a run was measured, in numbers: rounds, worker processes, windows, discarded rounds, what a repeat would show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from castbench.cost.change import over_traffic, repeat_limit
from castbench.cost.spec import ArmProjection
from castbench.cost.surface import configuration_of
from castbench.findings import sample_of
from castbench.records import RunRecord
from castbench.report.nouns import HowMeasured

COVERAGE = "coverage"
"""Fact of an outcome: share of real tokens in at least one cluster."""


def how_measured(record: RunRecord, mechanisms: Sequence[ArmProjection]) -> HowMeasured | None:
    """The numbers of a run; None where no round was finished."""
    plan = record.header.plan
    valid = [r for group in plan.groups for r in record.rounds_of(group.key)]
    if not valid:
        return None
    samples = [s for r in valid for s in r.samples if s.valid]
    processes = [len({r.epoch for r in record.rounds_of(g.key)}) for g in plan.groups if record.rounds_of(g.key)]
    attempts = [r for r in record.rounds if r.purpose == "compare"]
    return HowMeasured(
        processes=(min(processes), max(processes)), windows=len(samples), steps=sum(s.steps for s in samples),
        discarded=sum(not r.valid for r in attempts), attempts=len(attempts),
        looks=plan.analysis.looks, error=plan.analysis.total_error, confirm_rounds=plan.analysis.confirm_rounds,
        steps_at_best=tuple((arm.arm.label, steps) for arm in mechanisms if (steps := _steps_at_best(record, arm))),
        repeat_percent=tuple(
            (arm.arm.label, 100 * math.expm1(limit)) for arm in mechanisms if (limit := _limit(record, arm)) is not None
        ),
        coverage=tuple(_coverage(record)),
    )  # fmt: skip


def _steps_at_best(record: RunRecord, arm: ArmProjection) -> int:
    """Steps of an arm's valid windows in its best configuration."""
    label, groups = arm.arm.label, record.header.plan.groups
    best = [g for g in groups if configuration_of(g, label) == arm.configuration and not g.held_out]
    samples = (sample_of(r, label) for g in best for r in record.rounds_of(g.key))
    return sum(sample.steps for sample in samples if sample is not None)


def _limit(record: RunRecord, arm: ArmProjection) -> float | None:
    """Log of the slowdown that a repeat could show."""
    known = over_traffic(record, arm)
    return None if known is None else repeat_limit(known)


def _coverage(record: RunRecord) -> Iterator[tuple[str, float]]:
    """The least share of tokens in a cluster of each arm whose outcomes have it."""
    least: dict[str, float] = {}
    for outcome in (outcome for group in record.groups for outcome in group.outcomes):
        for name, share in outcome.facts:
            if name == COVERAGE:
                least[outcome.label] = min(share, least.get(outcome.label, 1.0))
    yield from least.items()
