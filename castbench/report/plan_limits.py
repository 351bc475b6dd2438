"""Limits for a service of one mechanism, each a number from a run: latency, errors, memory, cost of tokens.

An interval's far end alone would be passed by every other repeat of the same work; so a limit lies REPEATED half widths
from the value, and a repeat stays within it in all but 2.5 % of cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from castbench.cost.change import REPEATED
from castbench.cost.spec import ArmProjection
from castbench.cost.surface import configuration_of
from castbench.report.nouns import CaseRow, Report, SizedArm
from castbench.said import Quantity, Unit

MEMORY_MARGIN = 1.1
"""Over the memory that was needed: measured once, it has no interval."""
UNSEEN = 3.0
"""Without a failure in n trials the failure rate is at most 3/n with 95 % (rule of three)."""
MOST_ERRORS_PERCENT = 1.0
"""Where too few batches ran to show less."""

_ROUNDING = 1e-9
"""Shares that add up to 1 are this near it."""

LimitName = Literal["p50", "p99", "errors", "memory", "tokens_cost"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that the service must stay within.

    measured   what it comes from, with its interval
    origin     objective (stated), replay (with the queue), measured (the model alone), median (likewise, but too few
               steps for a percentile), margin
    """

    name: LimitName
    limit: Quantity
    measured: Quantity | None
    origin: Literal["objective", "replay", "measured", "median", "margin"]


def limits_of(report: Report, arm: ArmProjection) -> Iterator[Limit]:
    """What a service in this configuration must stay within, from this run."""
    cases = cases_at_best(report, arm)
    for latency in (_latency(report, arm, "p50", 0.5), _latency(report, arm, "p99", 0.99)):
        if latency is not None:
            yield latency
    steps = dict(report.how.steps_at_best).get(arm.arm.label) if report.how is not None else None
    if steps:
        errors = min(100 * UNSEEN / steps, MOST_ERRORS_PERCENT)
        yield Limit("errors", Quantity(errors, Unit.PERCENT), Quantity(steps, Unit.COUNT), "measured")
    needed = needed_mib(cases)
    if needed is not None:
        yield Limit("memory", Quantity(needed * MEMORY_MARGIN, Unit.MIB), Quantity(needed, Unit.MIB), "margin")
    cost = Quantity.of(arm.usd_per_million_tokens, Unit.USD_PER_MILLION_TOKENS)
    if cost is not None:
        top = cost.value if cost.high is None else cost.value + REPEATED * (cost.high - cost.value)
        yield Limit("tokens_cost", Quantity(top, cost.unit), cost, "measured")


def needed_mib(cases: Sequence[CaseRow]) -> float | None:
    """The most memory of the cases: peak and weights, or what the allocator took, whichever is more."""
    needs = [
        max(case.peak_memory_mib + (case.weights_mib or 0.0), case.reserved_memory_mib or 0.0)
        for case in cases
        if case.peak_memory_mib is not None
    ]
    return max(needs, default=None)


def cases_at_best(report: Report, arm: ArmProjection) -> list[CaseRow]:
    """What was measured of an arm's best configuration, ascending in length."""
    return [row for _, row in _by_length(report, arm)]


def _by_length(report: Report, arm: ArmProjection) -> list[tuple[int, CaseRow]]:
    """The cases of an arm's best configuration with their lengths, ascending."""
    label = arm.arm.label
    found = [
        (table.group.shape.seq_len, row)
        for table in report.groups
        for row in table.rows
        if not table.group.held_out and row.arm.label == label and row.rounds
        and configuration_of(table.group, label) == arm.configuration
    ]  # fmt: skip
    return sorted(found, key=lambda pair: pair[0])


def _latency(report: Report, arm: ArmProjection, name: Literal["p50", "p99"], share: float) -> Limit | None:
    """The objective where one is stated; else the replay's latency; else that of the model alone, with its tolerance.

    Of the model alone: the step at the length that this share of the requests does not exceed.
    """
    found = _at_share(report, arm, share)
    measured = None if found is None else _step(found, name)
    demand = report.money.demand
    objective = None if demand is None or demand.objective is None else getattr(demand.objective, f"{name}_ms")
    if objective is not None:
        return Limit(name, Quantity(objective, Unit.MS), measured, "objective")
    served = sized(report, arm.arm.label)
    replayed = None if served is None else dict(served.latencies_s).get(share)
    if replayed is not None:
        return Limit(name, Quantity(replayed * 1e3, Unit.MS), measured, "replay")
    if measured is None:
        return None
    top = measured.value if measured.high is None else measured.value + REPEATED * (measured.high - measured.value)
    is_median = name == "p99" and found is not None and found.step_p99_ms is None
    return Limit(name, Quantity(top, Unit.MS), measured, "median" if is_median else "measured")


def _at_share(report: Report, arm: ArmProjection, share: float) -> CaseRow | None:
    """The case of the shortest measured length that this share of the requests does not exceed."""
    reached = (
        row for length, row in _by_length(report, arm) if report.money.mix.share_up_to(length) >= share - _ROUNDING
    )
    return next(reached, None)


def _step(row: CaseRow, name: str) -> Quantity | None:
    """Median or 99th percentile of a step; the median where there are too few steps for the latter."""
    if name == "p99" and row.step_p99_ms is not None:
        return Quantity(row.step_p99_ms, Unit.MS)
    return Quantity.of(row.latency_ms, Unit.MS)


def sized(report: Report, label: str) -> SizedArm | None:
    """What the replay at the objective says of a mechanism."""
    arms = report.at_objective.arms if report.at_objective is not None else ()
    return next((arm for arm in arms if arm.label == label), None)
