"""What is known of each mechanism's quality: a line each, in the words of docs/cost.md."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.cost.spec import ArmProjection, QualityStatus
from castbench.report import text
from castbench.report.blocks import Block, Bullets, Heading
from castbench.report.nouns import Report
from castbench.said import Statement, statement


def quality(report: Report) -> Iterator[Block]:
    """The section; nothing where no mechanism has a projection."""
    if report.mechanisms:
        yield Heading(text.HEADINGS["quality"])
        yield Bullets(tuple(text.say(quality_line(arm, report.run.baseline_label)) for arm in report.mechanisms))


def quality_line(arm: ArmProjection, baseline: str) -> Statement:
    """The status of one mechanism, and what it rests on or what is missing."""
    said = {"label": arm.arm.label, "status": arm.quality_status.value}
    if arm.arm.label == baseline:
        return statement("quality.baseline", label=arm.arm.label)
    if arm.quality_status is QualityStatus.NOT_MEASURED:
        return statement("quality.missing", **said)
    if arm.quality_status is QualityStatus.EQUAL and arm.arm.exact:
        return statement("quality.exact", baseline=baseline, **said)
    return statement("quality.scored", **said)
