"""Servers at the stated objective, from the capacity stage, for those mechanisms that a report's headline speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from castbench.cost.capacity_stage import ArmCapacity
from castbench.cost.selection import rival
from castbench.cost.spec import Projection
from castbench.report.nouns import AtObjective, SizedArm
from castbench.said import Quantity, Statement, Unit, statement

if TYPE_CHECKING:
    from castbench.report.capacity_page import CapacityReport


def spoken_of(projection: Projection) -> tuple[str, ...]:
    """Labels that the headline compares: what runs today, the baseline, and what might take its place."""
    subject = rival(projection.arms, projection.today, projection.baseline)
    kept = [used.label for used in (projection.today, projection.baseline) if used is not None]
    return tuple(dict.fromkeys([*kept, *([] if subject is None else [subject.arm.label])]))


def at_objective(found: CapacityReport, objective: str) -> AtObjective:
    """What a capacity report says, as a part of a report of the run."""
    traffic = found.traffic
    return AtObjective(
        objective, found.source, traffic.requests, traffic.rate_per_s,
        tuple(_sized(found, arm) for arm in found.arms), None,
    )  # fmt: skip


def too_many_servers(objective: str, most: int) -> AtObjective:
    """Not tested, since nobody waits for a replay of so many."""
    return _untested(objective, statement("objective.too_many", most=Quantity(most, Unit.COUNT)))


def too_long_a_trace(objective: str, requests: int) -> AtObjective:
    """Not tested here, since that takes longer than a report may."""
    return _untested(objective, statement("objective.too_long", requests=Quantity(requests, Unit.COUNT)))


def refused(objective: str, why: str) -> AtObjective:
    """Not tested, for the reason of an error, which is English."""
    return _untested(objective, statement("objective.refused", why=why.rstrip(".")))


def why_untested(found: AtObjective) -> Statement | None:
    """That the objective was not tested, with the reason; None where it was."""
    if found.untested is None:
        return None
    return statement("objective.untested", objective=found.objective, why=found.untested)


def sentences(found: AtObjective, baseline: str | None, subject: str | None) -> Iterator[Statement]:
    """What the headline says: the servers of what runs and of what might, or why nothing is known."""
    missing = why_untested(found)
    if missing is not None:
        yield missing
        return
    by_label = {arm.label: arm for arm in found.arms}
    kept, other = by_label.get(baseline or ""), by_label.get(subject or "")
    for arm in (kept, other):
        if arm is not None and arm.servers is None:
            yield statement("headline.objective_missed", subject=arm.label, objective=found.objective)
    known = [arm for arm in (kept, other) if arm is not None and arm.servers is not None]
    if known:
        yield _servers(found.objective, known)


def _servers(objective: str, known: Sequence[SizedArm]) -> Statement:
    """One sentence for one or two mechanisms, with their cost where a price is known."""
    last, first = known[-1], known[0]
    said = {"objective": objective, "subject": last.label, "servers": _count(last), "cost": _cost(last)}
    key = "headline.objective_one"
    if len(known) == 2:
        key = "headline.objective_pair"
        said |= {"baseline": first.label, "base_servers": _count(first), "base_cost": _cost(first)}
    if last.cost_usd_per_hour is not None:
        return statement(key, **said)
    unpriced = "headline.objective_pair_unpriced" if len(known) == 2 else "headline.objective_one_unpriced"
    return statement(unpriced, **{name: value for name, value in said.items() if not name.endswith("cost")})


def _untested(objective: str, why: Statement) -> AtObjective:
    return AtObjective(objective, None, None, None, (), why)


def _sized(found: CapacityReport, arm: ArmCapacity) -> SizedArm:
    """One mechanism: whole servers, their cost, and the latencies of the replay with them."""
    plan = arm.plan
    if plan is None or plan.units is None or plan.outcome is None or arm.way is None:
        return SizedArm(arm.arm.label, None, None, (), None, None, arm.why_none)
    price = None if found.price is None else found.price.usd_per_hour
    latencies_s = tuple((share, plan.outcome.seconds_at(share)) for share in (0.5, 0.95, 0.99))
    return SizedArm(
        arm.arm.label, plan.units.whole, None if price is None else plan.units.whole * price, latencies_s,
        plan.outcome.load, plan.formula, None,
    )  # fmt: skip


def _count(arm: SizedArm) -> Quantity | None:
    return None if arm.servers is None else Quantity(arm.servers, Unit.COUNT)


def _cost(arm: SizedArm) -> Quantity | None:
    return None if arm.cost_usd_per_hour is None else Quantity(arm.cost_usd_per_hour, Unit.USD_PER_HOUR)
