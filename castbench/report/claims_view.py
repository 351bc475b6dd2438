"""The article's claims, up to about 6 times the speed and about 10 % of the memory, beside what a run shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from castbench.findings import CaseFinding, case_findings, paired_log_ratio
from castbench.plan import Group, Plan
from castbench.records import RunRecord
from castbench.report.nouns import Claim, ClaimedAgainst, ClaimedLength
from castbench.stats import Estimate

CLAIMED_SPEED, CLAIMED_MEMORY = 6.0, 0.10
"""Of the article on CAST (van Engelenhoven et al. 2024): up to about 6 times the speed of the original Transformer,
about 10 % of its memory.
"""
CAST, ORIGINAL, FUSED = "cast", "naive", "sdpa"
"""Mechanisms: the one claimed for, attention that keeps its scores in memory, and PyTorch's fused attention."""


def claims_check(record: RunRecord) -> tuple[ClaimedLength, ...]:
    """Every CAST arm at every length of the smallest batch, against both; empty where no CAST arm was measured."""
    return tuple(_claims(record, case_findings(record)))


def _claims(record: RunRecord, findings: Sequence[CaseFinding]) -> Iterator[ClaimedLength]:
    """By arm, then by length."""
    plan, measured = record.header.plan, {(f.group.key, f.arm.label): f for f in findings if f.mean_step_s is not None}
    for arm in (arm for arm in plan.arms if arm.mechanism == CAST):
        for group in _smallest(plan):
            if (group.key, arm.label) in measured:
                yield ClaimedLength(
                    arm.label, group, _against(record, measured, arm.label, ORIGINAL, group),
                    _against(record, measured, arm.label, FUSED, group),
                )  # fmt: skip


def _smallest(plan: Plan) -> list[Group]:
    """The shapes of the smallest batch, by regime and length."""
    groups = [group for group in plan.groups if not group.held_out]
    least = min((group.shape.batch_size for group in groups), default=1)
    return [group for group in groups if group.shape.batch_size == least]


def _against(
    record: RunRecord, measured: dict[tuple[str, str], CaseFinding], label: str, mechanism: str, group: Group
) -> ClaimedAgainst:
    """One CAST arm against the first arm of a mechanism that was measured there."""
    arms = [arm.label for arm in record.header.plan.arms if arm.mechanism == mechanism]
    other = next((name for name in arms if (group.key, name) in measured), None)
    if other is None:
        return ClaimedAgainst(None, None, None, "not_measured", "not_measured")
    speed = speed_over(record, group, label, other)
    share = memory_share(measured[group.key, label], measured[group.key, other])
    return ClaimedAgainst(other, speed, share, speed_claim(speed), memory_claim(share))


def speed_over(record: RunRecord, group: Group, label: str, other: str) -> Estimate | None:
    """How many times as fast as the other, over the rounds that hold both."""
    ratio = paired_log_ratio(record.rounds_of(group.key), label, other, record.header.plan)
    if ratio is None:
        return None
    low, high = (None if end is None else math.exp(-end) for end in (ratio.high, ratio.low))
    return Estimate(math.exp(-ratio.value), low, high)


def memory_share(mine: CaseFinding, theirs: CaseFinding) -> float | None:
    """Peak memory above the weights, over the other's; None where one of them is not known."""
    peaks = [found.outcome.peak_bytes if found.outcome else None for found in (mine, theirs)]
    return peaks[0] / peaks[1] if peaks[0] and peaks[1] else None


def speed_claim(speed: Estimate | None) -> Claim:
    """Whether a speed reaches what is claimed: by its whole interval, not at all, or nobody knows."""
    if speed is None:
        return "not_measured"
    if speed.low is None or speed.high is None:
        return "unclear"
    return "confirmed" if speed.low >= CLAIMED_SPEED else "not_confirmed" if speed.high < CLAIMED_SPEED else "unclear"


def memory_claim(share: float | None) -> Claim:
    """Whether a share of memory is as small as claimed; memory is counted and has no interval."""
    if share is None:
        return "not_measured"
    return "confirmed" if share <= CLAIMED_MEMORY else "not_confirmed"
