"""What the drawn numbers allow to be said: verdicts over the traffic, the crossover bracket, what to do next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from castbench.cost.draws import share
from castbench.cost.spec import QualityStatus, Recommendation
from castbench.findings import CaseFinding, paired_log_ratio
from castbench.plan import Arm, Plan
from castbench.records import RunRecord
from castbench.stats import Verdict, holm, judge

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

CREDIBLE = 0.95
"""Probability from which a gain counts as one."""


def verdicts(
    seconds: Mapping[str, Drawn], baseline: str | None, unproven: Collection[str], plan: Plan, error: float
) -> dict[str, Verdict]:
    """A verdict per label on its seconds per request against the baseline's, with Holm's correction over the arms.

    An arm's p-value is twice the share of draws outside its likeliest answer (beyond the margin `same_within` on one
    side, or within it), so that without the correction a verdict would be the answer that the interval of level
    1 - `error` lies wholly in. `error` is what the look that stopped the rounds may spend, since a rule that looks
    several times must not spend everything each time. `unproven` labels (too few rounds) and arms without draws are
    UNCLEAR.
    """
    if baseline is None or baseline not in seconds:
        return dict.fromkeys(seconds, Verdict.UNCLEAR)
    rivals = [label for label in seconds if label != baseline]
    answers = [_likeliest(seconds[label], seconds[baseline], plan.sampling.same_within) for label in rivals]
    adjusted = holm([p for _, p in answers])
    found = {
        label: verdict if p <= error and label not in unproven else Verdict.UNCLEAR
        for label, (verdict, _), p in zip(rivals, answers, adjusted, strict=True)
    }
    return {**found, baseline: Verdict.BASELINE}


def crossover(
    record: RunRecord, findings: Sequence[CaseFinding], label: str, baseline: str | None
) -> tuple[int | None, int | None]:
    """At batch 1: the last length at which `label` is not FASTER than `baseline`, and the first from which it always
    is; a None says that there is none. A length that `label` failed at counts as not FASTER.
    """
    lengths: list[tuple[int, bool]] = []
    for finding in findings:
        alone = finding.group.shape.batch_size == 1 and not finding.group.held_out and finding.arm.label == label
        if alone and baseline is not None and label != baseline:
            faster = _faster(record, findings, finding, baseline)
            lengths += [] if faster is None else [(finding.group.shape.seq_len, faster)]
    lengths.sort()
    lost = [place for place, (_, faster) in enumerate(lengths) if not faster]
    first = lost[-1] + 1 if lost else 0
    return (
        lengths[first - 1][0] if first else None,
        lengths[first][0] if first < len(lengths) else None,
    )


def quality_of(plan: Plan, arm: Arm) -> QualityStatus:
    """Exact mechanisms equal an exact baseline by construction; nothing is known of the others."""
    same = arm.label == plan.baseline or (arm.exact and plan.arm(plan.baseline).exact)
    return QualityStatus.EQUAL if same else QualityStatus.NOT_MEASURED


def recommend(
    quality: QualityStatus, verdict: Verdict, saving_probability: float | None, beats_today: float | None
) -> Recommendation:
    """What to do with an arm; the first row that holds. The same table stands in docs/cost.md.

    =========================================================================================  ==========
    needs no new model (quality equal), and is beyond the margin faster than today (P >= 95 %)  TUNE-FIRST
    quality not measured, FASTER than the baseline, and P(saving > 0) >= 95 %                   PILOT
    anything else: no credible saving, too few rounds, not runnable, or what runs today         KEEP
    =========================================================================================  ==========

    ROLL-OUT needs a quality result, which no run holds yet. Where no demand is stated, `saving_probability` is of
    device seconds instead of money. None is "not known", and not enough.
    """
    if quality is QualityStatus.EQUAL:
        return Recommendation.TUNE_FIRST if (beats_today or 0.0) >= CREDIBLE else Recommendation.KEEP
    if verdict is Verdict.FASTER and (saving_probability or 0.0) >= CREDIBLE:
        return Recommendation.PILOT
    return Recommendation.KEEP


def probability_faster(seconds: Drawn, than: Drawn, margin: float) -> float | None:
    """Probability that the log of the time ratio is below minus the margin."""
    import numpy as np

    ratio = np.log(seconds / than)
    return share(ratio < -margin, ratio)


def _likeliest(seconds: Drawn, baseline: Drawn, margin: float) -> tuple[Verdict, float]:
    """The answer with the smallest p-value, and that p-value."""
    import numpy as np

    ratio = np.log(seconds[1:] / baseline[1:])
    if np.isnan(ratio).any():
        return Verdict.UNCLEAR, 1.0
    below, above = int((ratio < -margin).sum()), int((ratio > margin).sum())
    outside = {
        Verdict.FASTER: ratio.size - below,
        Verdict.SLOWER: ratio.size - above,
        Verdict.SAME: max(below, above),
    }
    verdict = min(outside, key=outside.__getitem__)
    return verdict, min(1.0, 2 * (outside[verdict] + 1) / (ratio.size + 1))


def _faster(record: RunRecord, findings: Sequence[CaseFinding], finding: CaseFinding, baseline: str) -> bool | None:
    """Whether a case is FASTER than that baseline's on the same shape; None where the baseline was not measured."""
    plan = record.header.plan
    group = finding.group
    rival = next(f for f in findings if f.group == group and f.arm.label == baseline)
    if rival.mean_step_s is None:
        return None
    if finding.mean_step_s is None:
        return False
    if baseline == plan.baseline:
        return finding.verdict is Verdict.FASTER
    ratio = paired_log_ratio(record.rounds_of(group.key), finding.arm.label, baseline, plan)
    return ratio is not None and judge(ratio, plan.sampling.same_within) is Verdict.FASTER
