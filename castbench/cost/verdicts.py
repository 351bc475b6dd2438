"""What the drawn numbers allow to be said: verdicts over the traffic, the crossover bracket, what to do next."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from castbench.cost.draws import share
from castbench.cost.spec import Configuration, QualityStatus, Recommendation
from castbench.findings import CaseFinding, Confirmation, faster_from, paired_log_ratio
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
    record: RunRecord, findings: Sequence[CaseFinding], label: str, baseline: Configuration | None
) -> tuple[int | None, int | None]:
    """At batch 1 and in the baseline's regime: the longest length at which `label` is not FASTER than the baseline's
    label, and the first from which on it always is; a None says that there is none.

    Lengths are tested from the longest downwards (`findings.faster_from`), so that the sentence made of it is wrong
    no more often than one verdict. A length at which either of the two has no number counts as not FASTER. In the
    baseline's regime because that is the baseline at its best: a mechanism that beats it only where both are slow
    wins nothing.
    """
    if baseline is None or baseline.label == label:
        return None, None
    judged = tuple(_against(record, findings, label, baseline))
    first = faster_from(judged)
    below = (f.group.shape.seq_len for f in judged if first is None or f.group.shape.seq_len < first)
    return max(below, default=None), first


def quality_of(plan: Plan, arm: Arm) -> QualityStatus:
    """Exact mechanisms equal an exact baseline by construction; nothing is known of the others."""
    same = arm.label == plan.baseline or (arm.exact and plan.arm(plan.baseline).exact)
    return QualityStatus.EQUAL if same else QualityStatus.NOT_MEASURED


def is_refuted(confirmations: Sequence[Confirmation], label: str) -> bool:
    """Whether all the fresh rounds of a selected winner are there and do not bear out that it is FASTER.

    Rounds that are missing refute nothing: they leave the caveat not-confirmed, and a sentence that counts them.
    """
    return any(
        c.arm.label == label and c.claim is Verdict.FASTER and c.lost and c.fresh is not None for c in confirmations
    )


def recommend(
    quality: QualityStatus, verdict: Verdict, saving_probability: float | None, beats_today: float | None,
    *, refuted: bool = False,
) -> Recommendation:  # fmt: skip
    """What to do with an arm; the first row that holds. The same table stands in docs/cost.md.

    =========================================================================================  ==========
    its verdict was judged again on all its fresh rounds and did not hold (`refuted`)           KEEP
    needs no new model (quality equal), and is beyond the margin faster than today (P >= 95 %)  TUNE-FIRST
    quality not measured, FASTER than the baseline, and P(saving > 0) >= 95 %                   PILOT
    anything else: no credible saving, too few rounds, not runnable, or what runs today         KEEP
    =========================================================================================  ==========

    ROLL-OUT needs a quality result, which no run holds yet. Where no demand is stated, `saving_probability` is of
    device seconds instead of money. None is "not known", and not enough.
    """
    if refuted:
        return Recommendation.KEEP
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


def _against(
    record: RunRecord, findings: Sequence[CaseFinding], label: str, baseline: Configuration
) -> Iterator[CaseFinding]:
    """One arm's cases of batch 1 in the baseline's regime, their verdicts against the baseline's label there."""
    plan = record.header.plan
    unmeasured = {f.group for f in findings if f.arm.label == baseline.label and f.mean_step_s is None}
    for finding in findings:
        group = finding.group
        if finding.arm.label != label or group.held_out or (group.shape.batch_size, group.regime) != (
            1, baseline.regime,
        ):  # fmt: skip
            continue
        if finding.mean_step_s is None or group in unmeasured:
            yield replace(finding, verdict=None)
        elif baseline.label == plan.baseline:
            yield finding
        else:
            ratio = paired_log_ratio(record.rounds_of(group.key), label, baseline.label, plan)
            yield replace(
                finding, verdict=Verdict.UNCLEAR if ratio is None else judge(ratio, plan.sampling.same_within)
            )  # fmt: skip
