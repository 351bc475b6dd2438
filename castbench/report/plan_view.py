"""The introduction plan of a report: what to do next in three phases, with gates whose numbers come from the run.

Report ─▶ what is advised ─▶ limits of the configuration that would serve ─▶ phases with entry, exit, watch, roll back

A PILOT or ROLL-OUT introduces a new model; TUNE-FIRST changes a configuration and needs none; KEEP introduces nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from castbench.cost.selection import ADOPTED, rival
from castbench.cost.spec import ArmProjection, Configuration, QualityStatus, Recommendation
from castbench.records import Caveat
from castbench.report import text
from castbench.report.nouns import Confirmed, Report
from castbench.report.plan_limits import (
    MEMORY_MARGIN,
    UNSEEN,
    Limit,
    LimitName,
    cases_at_best,
    limits_of,
    needed_mib,
    sized,
)
from castbench.said import Quantity, Statement, Unit, Value, statement
from castbench.stats import Estimate

SHARE_PERCENT = 5.0
"""Share of the traffic in phase 2."""
STEPS_PERCENT = (25.0, 50.0, 100.0)
"""Shares of the traffic in phase 3."""

Kind = Literal["introduce", "tune", "keep"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: what must hold to begin it, what to do, what must hold to leave it, and when to go back."""

    name: Literal["benchmark", "limited", "rollout"]
    entry: tuple[Statement, ...] = ()
    doing: tuple[Statement, ...] = ()
    exit: tuple[Statement, ...] = ()
    rollback: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Introduction:
    """The plan; `phases` is empty for KEEP. `change`: what would change a KEEP, or what comes after tuning."""

    kind: Kind
    configuration: Configuration | None
    against: Configuration | None
    opening: tuple[Statement, ...]
    limits: tuple[Limit, ...]
    phases: tuple[Phase, ...]
    change: tuple[Statement, ...]


def introduction_of(report: Report) -> Introduction | None:
    """The plan that follows from a report; None where nothing was measured that could stay or go."""
    money = report.money
    kept = money.today or money.baseline
    if kept is None or money.baseline is None:
        return None
    by_label = {arm.arm.label: arm for arm in report.mechanisms}
    base = by_label.get(money.baseline.label)
    subject = rival(report.mechanisms, money.today, money.baseline)
    if base is not None and base.recommendation is Recommendation.TUNE_FIRST and money.today != money.baseline:
        after = (statement("plan.after_tuning", label=subject.arm.label),) if _is_adopted(subject) and subject else ()
        return _phased(report, "tune", base, kept, after)
    if subject is not None and _is_adopted(subject):
        return _phased(report, "introduce", subject, kept, ())
    opening = (statement("plan.keep", today=kept.said),)
    return Introduction("keep", None, kept, opening, (), (), tuple(_what_would_change(report, subject, base)))


def _is_adopted(subject: ArmProjection | None) -> bool:
    """Whether something else than an exact mechanism is recommended."""
    return subject is not None and subject.recommendation in ADOPTED and subject.configuration is not None


def _phased(
    report: Report, kind: Kind, arm: ArmProjection, kept: Configuration, after: tuple[Statement, ...]
) -> Introduction:
    """Three phases for one configuration."""
    assert arm.configuration is not None
    limits = tuple(limits_of(report, arm))
    opening = statement("plan.tune" if kind == "tune" else "plan.introduce", to=arm.configuration.said, today=kept.said)
    benchmark = Phase("benchmark", exit=tuple(_shown(report, arm, kept)))
    limited = Phase(
        "limited", tuple(_entry(report, kind, arm)), tuple(_limited(limits)),
        (*_within(limits), _quality_exit(kind, arm)), tuple(_back(report, kept, limits)),
    )  # fmt: skip
    rollout = Phase(
        "rollout", (statement("plan.rollout_entry", share=_percent(SHARE_PERCENT)),),
        (statement("plan.steps", shares=tuple(map(_percent, STEPS_PERCENT))),),
        tuple(_rollout_exit(report, arm)), tuple(_back_again(report, arm, kept)),
    )  # fmt: skip
    phases = (benchmark, limited, rollout)
    return Introduction(kind, arm.configuration, kept, (opening, *_how_limited(limits)), limits, phases, after)


def _how_limited(limits: Sequence[Limit]) -> Iterator[Statement]:
    """How far from what was measured the limits lie that are not stated or replayed."""
    if any(limit.origin in ("measured", "median", "margin") for limit in limits):
        yield statement("plan.how_limited", margin=Quantity(100 * (MEMORY_MARGIN - 1), Unit.PERCENT))


def _shown(report: Report, arm: ArmProjection, kept: Configuration) -> Iterator[Statement]:
    """Phase 1 is done: what it showed."""
    assert arm.configuration is not None
    assert report.money.baseline is not None
    said: dict[str, Value] = {"to": arm.configuration.said, "verdict": arm.verdict.value}
    if arm.configuration == report.money.baseline:
        yield from _shown_of_tuning(report, arm, kept)
    else:
        yield statement(
            "plan.speed", baseline=report.money.baseline.said, speedup=Quantity.of(arm.speedup, Unit.TIMES), **said
        )
    cost = Quantity.of(arm.cost_usd_per_hour, Unit.USD_PER_HOUR)
    if cost is not None and arm.configuration == report.money.baseline:
        yield statement("plan.cost_alone", cost=cost)
    elif cost is not None and arm.probability_saving_positive is not None:
        yield statement(
            "plan.cost", cost=cost, saving=Quantity.of(arm.saving_usd_per_hour, Unit.USD_PER_HOUR),
            baseline=report.money.baseline.said,
            probability=Quantity(arm.probability_saving_positive, Unit.PROBABILITY),
        )  # fmt: skip
    fresh = next((c for c in report.confirmations if c.label == arm.arm.label), None)
    yield _confirmed(fresh, arm.arm.label)


def _shown_of_tuning(report: Report, arm: ArmProjection, kept: Configuration) -> Iterator[Statement]:
    """How much faster the tuned configuration is than today's."""
    today = next((other for other in report.mechanisms if other.configuration == kept), None)
    speedup = None if today is None or today.speedup is None else _inverse(today.speedup)
    yield statement("plan.tuned_speed", to=arm.arm.label, today=kept.said, speedup=Quantity.of(speedup, Unit.TIMES))


def _inverse(ratio: Estimate) -> Estimate:
    """One over a ratio, ends turned round."""
    low, high = (None if end is None else 1 / end for end in (ratio.high, ratio.low))
    return Estimate(1 / ratio.value, low, high)


def _confirmed(fresh: Confirmed | None, label: str) -> Statement:
    """Whether the winner was borne out on fresh rounds."""
    if fresh is None or fresh.speedup_fresh is None:
        return statement("plan.unconfirmed", label=label)
    key = "plan.confirmed" if fresh.holds else "plan.refuted"
    return statement(
        key, label=label, rounds=Quantity(fresh.rounds, Unit.COUNT), against=fresh.against,
        speedup=Quantity.of(fresh.speedup_fresh, Unit.TIMES), length=Quantity(fresh.group.shape.seq_len, Unit.TOKENS),
    )  # fmt: skip


def _entry(report: Report, kind: Kind, arm: ArmProjection) -> Iterator[Statement]:
    """What must hold before any user is served by it."""
    if kind == "tune":
        yield statement("plan.same_function", label=arm.arm.label)
    elif arm.quality_status is QualityStatus.NOT_MEASURED:
        yield statement("plan.quality_missing", model=text.model_name(arm.arm.mechanism, arm.arm.label))
    else:
        yield statement("plan.quality_known", label=arm.arm.label, status=arm.quality_status.value)
    if not any(c.label == arm.arm.label and c.holds for c in report.confirmations):
        yield statement("plan.confirm_first", label=arm.arm.label)
    needed, device = needed_mib(cases_at_best(report, arm)), report.run.environment.device_memory_bytes
    if needed is not None and device is not None:
        yield statement(
            "plan.fits", needed=Quantity(needed, Unit.MIB), device=Quantity(device / 2**20, Unit.MIB),
            left=Quantity(100 * (1 - needed * 2**20 / device), Unit.PERCENT),
        )  # fmt: skip
    if Caveat.OBJECTIVE_NOT_TESTED in arm.caveats and sized(report, arm.arm.label) is None:
        yield statement("plan.test_objective")
    yield from _effort(report, arm)


def _effort(report: Report, arm: ArmProjection) -> Iterator[Statement]:
    """What the change costs once, where that is stated and this is the mechanism it was stated for."""
    if report.outlook is None or report.outlook.break_even is None or report.outlook.subject != arm.arm.label:
        return
    found = report.outlook.break_even
    yield statement("plan.effort", cost=Quantity.of(found.one_off_usd, Unit.USD))


def _limited(limits: Sequence[Limit]) -> Iterator[Statement]:
    """How phase 2 is run, and how much traffic it takes to see what was not seen."""
    yield statement("plan.limited", share=_percent(SHARE_PERCENT))
    errors = _limit(limits, "errors")
    if errors is not None:
        batches = Quantity(100 * UNSEEN / errors.value, Unit.COUNT)
        yield statement("plan.enough", batches=batches, errors=errors)
    yield statement("plan.watch")


def _within(limits: Sequence[Limit]) -> Iterator[Statement]:
    """The limits as gates, each with where its number comes from."""
    keys = {
        ("p50", "stated"): "plan.p50_stated", ("p99", "stated"): "plan.p99_stated",
        ("p50", "objective"): "plan.p50_objective", ("p50", "replay"): "plan.p50_replay",
        ("p50", "measured"): "plan.p50_measured", ("p99", "objective"): "plan.p99_objective",
        ("p99", "replay"): "plan.p99_replay", ("p99", "measured"): "plan.p99_measured",
        ("p99", "median"): "plan.p99_median",
        ("errors", "measured"): "plan.errors", ("memory", "margin"): "plan.memory",
        ("tokens_cost", "measured"): "plan.tokens_cost",
    }  # fmt: skip
    for limit in limits:
        origin = "stated" if limit.origin == "objective" and limit.measured is None else limit.origin
        if (limit.name, origin) in keys:
            yield statement(keys[limit.name, origin], limit=limit.limit, measured=limit.measured)


def _quality_exit(kind: Kind, arm: ArmProjection) -> Statement:
    """Quality in production; an exact mechanism answers as today's does."""
    return statement("plan.quality_same" if kind == "tune" or arm.arm.exact else "plan.quality_exit")


def _back(report: Report, kept: Configuration, limits: Sequence[Limit]) -> Iterator[Statement]:
    """When to go back in phase 2, and to what."""
    p99, errors = _limit(limits, "p99"), _limit(limits, "errors")
    if p99 is None or errors is None:
        yield statement("plan.back", today=kept.said)
    else:
        yield statement("plan.back_above", today=kept.said, p99=p99, errors=errors)
    today = next((arm for arm in report.mechanisms if arm.configuration == kept), None)
    if today is not None and today.replicas is not None:
        yield statement("plan.keep_servers", servers=Quantity(today.replicas, Unit.COUNT))


def _limit(limits: Sequence[Limit], name: LimitName) -> Quantity | None:
    """The number of a limit."""
    return next((limit.limit for limit in limits if limit.name == name), None)


def _rollout_exit(report: Report, arm: ArmProjection) -> Iterator[Statement]:
    """What must hold once it serves everything."""
    replayed = sized(report, arm.arm.label)
    servers = arm.replicas if replayed is None or replayed.servers is None else replayed.servers
    if servers is not None:
        is_known = arm.utilization is not None and replayed is None
        busy = Quantity(100 * (arm.utilization or 0.0), Unit.PERCENT) if is_known else None
        key = "plan.servers" if busy is None else "plan.servers_busy"
        yield statement(key, servers=Quantity(servers, Unit.COUNT), busy=busy)
    if arm.cost_usd_per_hour is not None:
        top = arm.cost_usd_per_hour.high or arm.cost_usd_per_hour.value
        yield statement("plan.bill", cost=Quantity(top, Unit.USD_PER_HOUR))
    yield statement("plan.same_limits")


def _back_again(report: Report, arm: ArmProjection, kept: Configuration) -> Iterator[Statement]:
    """When to go back in phase 3, and what keeping the way back costs."""
    yield statement("plan.back_a_step", today=kept.said)
    today = next((other for other in report.mechanisms if other.configuration == kept), None)
    costs = (arm.cost_usd_per_hour, None if today is None else today.cost_usd_per_hour)
    if costs[0] is not None and costs[1] is not None and today is not arm:
        both = Quantity(math.fsum(cost.value for cost in costs if cost is not None), Unit.USD_PER_HOUR)
        yield statement("plan.both_fleets", cost=both)


def _what_would_change(
    report: Report, subject: ArmProjection | None, base: ArmProjection | None
) -> Iterator[Statement]:
    """What would turn a KEEP: a speed, more traffic, longer documents, or more rounds."""
    if subject is None:
        yield statement("plan.nothing_else")
        return
    label = subject.arm.label
    if Caveat.FEW_ROUNDS in subject.caveats:
        yield statement("plan.more_rounds", label=label)
        return
    yield from _speed_needed(subject, base, report)
    last, first = subject.crossover
    if first is not None and last is not None and report.money.baseline is not None:
        yield statement(
            "plan.longer", label=label, first=Quantity(first, Unit.TOKENS), baseline=report.money.baseline.label
        )


def _speed_needed(subject: ArmProjection, base: ArmProjection | None, report: Report) -> Iterator[Statement]:
    """The speed-up from which a whole server is saved, or the rate from which there is one to save."""
    if base is None or base.configuration is None or subject.speedup is None:
        return
    speedup, label = Quantity.of(subject.speedup, Unit.TIMES), subject.arm.label
    if base.replicas is None or base.replicas_fractional is None:
        yield statement(
            "plan.faster_needed", label=label, baseline=base.configuration.said, speedup=speedup,
            verdict=subject.verdict.value,
        )  # fmt: skip
    elif base.replicas > 1:
        needed = base.replicas_fractional.value / (base.replicas - 1)
        yield statement("plan.speed_needed", label=label, needed=Quantity(needed, Unit.TIMES), speedup=speedup)
    elif report.money.demand is not None:
        rate = report.money.demand.requests_per_second / base.replicas_fractional.value
        yield statement("plan.rate_needed", rate=Quantity(rate, Unit.RATE))


def _percent(share: float) -> Quantity:
    """A stated share."""
    return Quantity(share, Unit.GIVEN)
