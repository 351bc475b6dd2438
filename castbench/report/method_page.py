"""The method in half a page: how this run was measured, in plain words with its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.report import headline, text
from castbench.report.blocks import Block, Heading, Paragraph
from castbench.report.nouns import HowMeasured, Report
from castbench.said import Quantity, Statement, Unit, statement


def method(report: Report) -> Iterator[Block]:
    """The section; nothing where nothing was measured."""
    if report.how is not None:
        yield Heading(text.HEADINGS["method"])
        yield Paragraph(text.WORDS["space"].join(map(text.say, method_statements(report, report.how))))


def method_statements(report: Report, how: HowMeasured) -> Iterator[Statement]:
    """From the rounds to where the documents are."""
    fewest, most = how.processes
    yield statement(
        "method.rounds", rounds=headline.rounds_per_shape(report.groups), windows=_count(how.windows),
        processes=Quantity(fewest, Unit.COUNT, fewest, most), steps=_count(how.steps),
    )  # fmt: skip
    if how.discarded:
        yield statement("method.discarded", count=_count(how.discarded), attempts=_count(how.attempts))
    else:
        yield statement("method.none_discarded", attempts=_count(how.attempts))
    yield statement(
        "method.intervals", looks=tuple(map(_count, how.looks)), error=Quantity(100 * how.error, Unit.PERCENT)
    )
    yield statement("method.money")
    if report.confirmations:
        yield statement("method.confirmed", rounds=_count(how.confirm_rounds))
    yield statement("method.seed", seed=str(report.run.seed))
    yield statement("method.documents")


def _count(number: int) -> Quantity:
    """A number of things."""
    return Quantity(number, Unit.COUNT)
