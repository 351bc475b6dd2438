"""Which winners of a measured run are confirmed on fresh rounds: what was picked as best looked better than it is.

the arm that the headline speaks of   ─▶ against the headline's baseline
the headline's baseline               ─▶ against the profile's, if that is another
each where the middle of its work lies: half of its time is spent on shorter requests
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from castbench.cost.demand import paid_lengths
from castbench.cost.spec import ArmProjection, Configuration, Projection, Recommendation
from castbench.cost.surface import configuration_of
from castbench.findings import CaseFinding, case_findings
from castbench.plan import Group, Plan
from castbench.records import RunRecord, Selected, Selection

RULE = (
    "the recommended mechanism, else the cheapest that could replace what runs today, in its best configuration, "
    "against the cheapest exact one; and that one against the profile's baseline if it is another; each at the "
    "measured length in the middle of its work"
)
ADOPTED = (Recommendation.PILOT, Recommendation.ROLL_OUT)
"""Recommendations to run something else than an exact mechanism."""


def rival(
    arms: Sequence[ArmProjection], today: Configuration | None, baseline: Configuration | None
) -> ArmProjection | None:
    """The arm that a headline is about: what is recommended, else the best of what could replace today's."""
    kept = {used.label for used in (today, baseline) if used is not None}
    others = [arm for arm in arms if arm.arm.label not in kept and arm.configuration is not None]
    adopted = [arm for arm in others if arm.recommendation in ADOPTED]
    return max(adopted or others, key=_merit, default=None)


def selection(record: RunRecord, projection: Projection) -> Selection | None:
    """What to confirm of a run; None where there is nothing to choose between."""
    findings = [f for f in case_findings(record) if f.mean_step_s is not None and not f.group.held_out]
    found = tuple(_selected(record.header.plan, findings, projection))
    return Selection(found, RULE) if found else None


def _merit(arm: ArmProjection) -> tuple[float, float]:
    """Orders arms by saving, then by speed."""
    unknown = float("-inf")
    saving = unknown if arm.saving_usd_per_hour is None else arm.saving_usd_per_hour.value
    return saving, unknown if arm.speedup is None else arm.speedup.value


def _selected(plan: Plan, findings: Sequence[CaseFinding], projection: Projection) -> Iterator[Selected]:
    """The winner against the headline's baseline; that against the profile's."""
    baseline = projection.baseline
    if baseline is None:
        return
    winner = rival(projection.arms, projection.today, baseline)
    if winner is not None and winner.configuration is not None:
        yield from _at_the_middle(plan, findings, winner.configuration, baseline.label)
    if baseline.label != plan.baseline:
        yield from _at_the_middle(plan, findings, baseline, plan.baseline)


def _at_the_middle(
    plan: Plan, findings: Sequence[CaseFinding], winner: Configuration, against: str
) -> Iterator[Selected]:
    """The winner's group that holds the middle of its work, of those at which the other arm was measured too."""
    there = {f.group for f in findings if f.arm.label == against}
    cases = [f for f in findings if f.group in there and configuration_of(f.group, f.arm.label) == winner]
    if cases:
        yield Selected(_middle(plan, winner, cases).key, winner.label, against)


def _middle(plan: Plan, winner: Configuration, cases: Sequence[CaseFinding]) -> Group:
    """The first group, by length, up to which half of the winner's time is spent."""
    ordered = sorted(cases, key=lambda case: case.group.shape.seq_len)
    paid = paid_lengths(winner, plan.mix)
    reached = (0.0, *(paid.share_up_to(case.group.shape.seq_len) for case in ordered))
    work = [
        (case.mean_step_s or 0.0) * (here - shorter)
        for case, (shorter, here) in zip(ordered, pairwise(reached), strict=True)
    ]
    half = sum(work) / 2
    return next(case.group for case, passed in zip(ordered, accumulate(work), strict=True) if passed >= half)
