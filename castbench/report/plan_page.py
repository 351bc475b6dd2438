"""The introduction plan as a section of a page, and as a part of the JSON."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.report import text
from castbench.report.blocks import Block, Bullets, Heading, Paragraph
from castbench.report.nouns import Report
from castbench.report.plan_view import Introduction, Phase, introduction_of
from castbench.said import Statement


def introduction(report: Report) -> Iterator[Block]:
    """What to do next, phase by phase, or that there is nothing to introduce and what would change that."""
    plan = introduction_of(report)
    if plan is None:
        return
    yield Heading(text.HEADINGS[f"plan.{plan.kind}"])
    for said in plan.opening:
        yield Paragraph(text.say(said))
    for number, phase in enumerate(plan.phases, start=1):
        yield Heading(text.heading(f"plan.{phase.name}", number=str(number)), 3)
        yield Bullets(tuple(_lines(phase)))
    yield from _change(plan)


def _lines(phase: Phase) -> Iterator[str]:
    """Every step and gate of a phase, with what it is: to begin, to do, to leave, to go back."""
    parts = {"entry": phase.entry, "doing": phase.doing, "exit": phase.exit, "rollback": phase.rollback}
    for part, statements in parts.items():
        word = "shown" if phase.name == "benchmark" else part
        yield from (text.PLAN_PARTS[word].format(what=text.say(said)) for said in statements)


def _change(plan: Introduction) -> Iterator[Block]:
    """What would change a KEEP, or what comes after tuning."""
    if plan.change:
        yield Paragraph(text.WORDS["space"].join(_said(plan.change)))


def _said(statements: tuple[Statement, ...]) -> Iterator[str]:
    """Sentences."""
    return (text.say(said) for said in statements)
