"""What a plan would measure, said before it is measured: groups, cases, the time budget added up, warnings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from castbench.pipeline import describe_plan

if TYPE_CHECKING:
    from castbench.measure.estimate import GroupEstimate, PlanEstimate
    from castbench.plan import Group, Plan
    from castbench.workload.spec import WorkloadProfile

GROUPS_NAMED = 3
"""Groups that a warning names before it only counts them."""


def plan_values(profile: WorkloadProfile, plan: Plan, device: str = "cpu") -> dict[str, Any]:
    """Everything there is to say of a plan, as plain values; times in seconds, for `device` at rough rates."""
    estimate = describe_plan(plan, device)
    return {
        "profile": profile.name,
        "source": profile.source,
        "baseline": plan.baseline,
        "lengths": profile.lengths.source,
        "mean_tokens": profile.lengths.mean_tokens,
        "mechanisms": [
            {"label": arm.label, "mechanism": arm.mechanism, "role": arm.role, "parameters": dict(arm.params)}
            for arm in plan.arms
        ],
        "groups": [_group(plan, group.group, group) for group in estimate.groups],
        "cases": sum(len(plan.arms_of(group)) for group in plan.groups),
        "unsupported": [asdict(case) for case in plan.unsupported],
        "rates": estimate.rates.name,
        "expected_s": estimate.expected_s,
        "at_most_s": estimate.cap_s,
        "confirm_rounds": plan.analysis.confirm_rounds if plan.sampling.confirm else 0,
        "warnings": [
            *_money_warnings(profile),
            *_plan_warnings(profile, plan),
            *_regime_warnings(profile, device),
            *_time_warnings(plan, estimate),
        ],
    }


def plan_text(profile: WorkloadProfile, plan: Plan, device: str = "cpu", width: int = 80) -> str:
    """The same for people, wrapped to `width` columns but for the table, which needs 80."""
    values = plan_values(profile, plan, device)
    parts = (
        wrapped(_arm_lines(values), width, indent=12),
        [*_table_lines(values), *wrapped(_gap_lines(values), width)],
        wrapped(_budget_lines(values), width),
    )
    return "\n\n".join("\n".join(lines) for lines in parts)


def wrapped(lines: Iterable[str], width: int, indent: int = 2) -> Iterable[str]:
    """The lines broken between words at `width` columns, what follows a break indented; a longer word stays whole."""
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip
    for line in lines:
        yield from wrapper.wrap(line)


def _group(plan: Plan, group: Group, estimate: GroupEstimate) -> dict[str, Any]:
    """One group as plain values."""
    return {
        "group": group.key,
        "batch_size": group.shape.batch_size,
        "seq_len": group.shape.seq_len,
        "batching": group.batching,
        "regime": group.regime,
        "held_out": group.held_out,
        "labels": [arm.label for arm in plan.arms_of(group)],
        "expected_s": estimate.expected_s,
        "at_most_s": estimate.cap_s,
    }


def _arm_lines(values: dict[str, Any]) -> Iterable[str]:
    """The documents, and what is compared."""
    yield f"documents   {values['mean_tokens']:.0f} tokens on average ({values['lengths']})"
    for arm in values["mechanisms"]:
        parameters = ", ".join(f"{key}={value}" for key, value in arm["parameters"].items() if value is not None)
        yield f"{arm['role']:<11} {arm['label']}{f' ({parameters})' if parameters else ''}"


def _table_lines(values: dict[str, Any]) -> Iterable[str]:
    """A table of the groups; how a batch is formed stands in a group's name."""
    wide = max(len(group["group"]) for group in values["groups"])
    yield f"{'group':<{wide}} {'batch':>5} {'tokens':>8}  {'regime':<8} {'mechanisms':>10} {'about':>8}"
    for group in values["groups"]:
        shape = f"{group['batch_size']:>5} {group['seq_len']:>8}  {group['regime']:<8}"
        yield f"{group['group']:<{wide}} {shape} {len(group['labels']):>10} {group['expected_s']:>6.0f} s"


def _gap_lines(values: dict[str, Any]) -> Iterable[str]:
    """What cannot run, and why."""
    for case in values["unsupported"]:
        yield f"not run: {case['label']} on {case['group']}: {case['reason']}"


def _budget_lines(values: dict[str, Any]) -> Iterable[str]:
    """The whole in one line, then the warnings."""
    yield (
        f"{len(values['groups'])} groups, {values['cases']} cases: about {_minutes(values['expected_s'])} "
        f"({values['rates']}), at most {_minutes(values['at_most_s'])} of rounds"
    )
    if values["confirm_rounds"] and len([arm for arm in values["mechanisms"] if arm["role"] != "ceiling"]) > 1:
        yield f"then {values['confirm_rounds']} fresh rounds of what comes out cheapest"
    yield from (f"warning: {warning}" for warning in values["warnings"])


def _minutes(duration_s: float) -> str:
    """Seconds below two minutes, minutes below two hours, then hours."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min")):
        if duration_s < limit_s:
            return f"{duration_s / unit_s:.0f} {unit}"
    return f"{duration_s / 3600:.1f} h"


def _money_warnings(profile: WorkloadProfile) -> Iterable[str]:
    """Why there will be no cost per hour, or not on every device."""
    if profile.scope == "attention" and profile.attention_share is None:
        yield "attention_share is missing: an attention module alone gives no cost per hour"
        return
    if profile.demand is None:
        yield "demand is missing: times and memory are reported, but no servers and no cost per hour"
    if profile.price is None and profile.price_cpu is None:
        yield "price and price_cpu are missing: there will be no money figures"
    elif profile.price is None:
        yield "price is missing: a run on a GPU gives no money figures"
    elif profile.price_cpu is None:
        yield "price_cpu is missing: a run on the CPU gives no money figures, because a GPU's price says nothing of it"
    if profile.price is not None and profile.gpu is None:
        yield "gpu is missing: a run cannot say whether it is on the GPU that the price is for"


def _plan_warnings(profile: WorkloadProfile, plan: Plan) -> Iterable[str]:
    """What the reader may be surprised by in the report."""
    exact = ", ".join(arm.label for arm in plan.arms if arm.exact)
    if not plan.arm(plan.baseline).exact:
        against = f"the cheapest of {exact}" if exact else "nothing, because no mechanism here is"
        yield f"baseline {plan.baseline} is not exact softmax attention; savings are counted against {against}"
    if len([arm for arm in plan.arms if arm.role != "ceiling"]) == 1:
        yield "there is only one mechanism, so nothing will be compared"
    if profile.dtype == "fp16":
        yield "dtype fp16 is refused on CPUs"


def _regime_warnings(profile: WorkloadProfile, device: str) -> Iterable[str]:
    """Regimes that cannot run here."""
    if "graph" not in profile.regimes:
        return
    if profile.phase == "training":
        yield "regime graph is measured for inference only: none of its cases will have a number"
    elif device == "cpu":
        yield "regime graph needs a CUDA device: on the CPU none of its cases will have a number"


def _time_warnings(plan: Plan, estimate: PlanEstimate) -> Iterable[str]:
    """Which mechanisms will hardly finish the rounds an interval needs."""
    rounds, limit_s = plan.analysis.looks[0], plan.sampling.max_seconds_per_case
    slow = [f"{group.group.key} ({', '.join(group.too_slow)})" for group in estimate.groups if group.too_slow]
    if slow:
        more = f" and {len(slow) - GROUPS_NAMED} more groups" if len(slow) > GROUPS_NAMED else ""
        yield (
            f"{rounds} rounds will probably not fit into max_seconds_per_case ({limit_s:g}), so there would be no "
            f"interval, in {', '.join(slow[:GROUPS_NAMED])}{more}"
        )
