"""What lies beyond the saving of today: one-off costs, growth, sensitivity, the next measurement, energy; pure."""

from __future__ import annotations

from dataclasses import replace

from castbench.cost.bills import Bills
from castbench.cost.break_even import break_even, growth
from castbench.cost.contest import Contest, contest_of
from castbench.cost.electricity import electricity
from castbench.cost.next_measurement import next_measurement
from castbench.cost.outlook_nouns import Outlook
from castbench.cost.sensitivity import sensitivity
from castbench.cost.spec import Projection
from castbench.cost.surface import Surfaces
from castbench.records import RunRecord
from castbench.workload.spec import OneOffCosts


def with_outlook(
    projection: Projection, record: RunRecord, bills: Bills, surfaces: Surfaces, attention_share: float | None
) -> Projection:
    """The projection with its outlook and energy, from the draws that it was made of.

    `attention_share` is that of a run in which only attention modules were timed. One-off costs and the terms of
    electricity are those of the run's profile.
    """
    plan, stated = record.header.plan, record.header.economics
    is_part = plan.served.scope == "attention"
    contest = contest_of(record, projection, bills, surfaces, attention_share if is_part else None)
    return replace(
        projection, outlook=None if contest is None else _outlook(contest, stated.one_off),
        electricity=electricity(projection, surfaces, stated.energy, whole_requests=not is_part),
    )  # fmt: skip


def _outlook(contest: Contest, one_off: OneOffCosts | None) -> Outlook:
    """What lies ahead of a contest's subject."""
    factors = sensitivity(contest)
    is_training = contest.record.header.plan.served.phase == "training"
    return Outlook(
        contest.subject.arm.label, break_even(contest, one_off), growth(contest), factors,
        next_measurement(contest, factors), contest.subject.speedup if is_training else None,
    )  # fmt: skip
