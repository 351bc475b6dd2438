"""Which winners of a measured run are confirmed on fresh rounds: what was picked as best looked better than it is.

the cheapest mechanism that would replace the baseline   ─▶ against the headline's baseline
the headline's baseline, if the profile names another    ─▶ against the one the profile names
each at the measured length in the middle of its work
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from castbench.cost.spec import Configuration, Projection
from castbench.findings import CaseFinding, case_findings
from castbench.plan import Plan
from castbench.records import RunRecord, Selected, Selection

RULE = (
    "the cheapest mechanism in its best configuration against the cheapest exact one, and that one against the "
    "profile's baseline if it is another; each at the measured length in the middle of its work"
)


def selection(record: RunRecord, projection: Projection) -> Selection | None:
    """What to confirm of a run; None where there is nothing to choose between."""
    findings = [f for f in case_findings(record) if f.mean_step_s is not None and not f.group.held_out]
    found = tuple(_selected(record.header.plan, findings, projection))
    return Selection(found, RULE) if found else None


def _selected(plan: Plan, findings: Sequence[CaseFinding], projection: Projection) -> Iterable[Selected]:
    """The winner against the headline's baseline; that against the profile's."""
    headline = projection.baseline
    if headline is None:
        return
    winner = _cheapest_other(projection, headline.label)
    if winner is not None:
        yield from _at_the_middle(plan, findings, winner, headline.label)
    if headline.label != plan.baseline:
        yield from _at_the_middle(plan, findings, headline, plan.baseline)


def _cheapest_other(projection: Projection, baseline: str) -> Configuration | None:
    """The best configuration of all arms but the baseline."""
    others = [
        (arm.seconds_per_request.value, arm.configuration)
        for arm in projection.arms
        if arm.arm.label != baseline and arm.configuration is not None and arm.seconds_per_request is not None
    ]
    return min(others, key=lambda pair: pair[0])[1] if others else None


def _at_the_middle(
    plan: Plan, findings: Sequence[CaseFinding], winner: Configuration, against: str
) -> Iterable[Selected]:
    """The winner's group that holds the middle of its work, if the other arm was measured there too."""
    cases = [f for f in findings if f.arm.label == winner.label and _is_of(f, winner)]
    both = [f for f in cases if any(g.group == f.group and g.arm.label == against for g in findings)]
    if not both:
        return
    work = [(f.group.shape.seq_len, (f.mean_step_s or 0.0) * _share_near(plan, both, f)) for f in both]
    half, passed = sum(w for _, w in work) / 2, 0.0
    for case, (_, amount) in sorted(zip(both, work, strict=True), key=lambda pair: pair[1][0]):
        passed += amount
        if passed >= half:
            yield Selected(case.group.key, winner.label, against)
            return


def _is_of(finding: CaseFinding, configuration: Configuration) -> bool:
    """Whether a case was measured in that configuration."""
    group = finding.group
    return (group.shape.batch_size, group.batching, group.regime) == (
        configuration.batch_size, configuration.batching, configuration.regime,
    )  # fmt: skip


def _share_near(plan: Plan, cases: Sequence[CaseFinding], case: CaseFinding) -> float:
    """Share of the requests that this measured length is the shortest one to hold."""
    lengths = sorted(f.group.shape.seq_len for f in cases)
    here = case.group.shape.seq_len
    shorter = max((n for n in lengths if n < here), default=0)
    return plan.mix.share_up_to(here) - plan.mix.share_up_to(shorter)
