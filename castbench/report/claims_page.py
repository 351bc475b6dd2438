"""The article's claims as a table, and what has to be known to read it."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.plan import Group
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Block, Column, Heading, Paragraph, Table
from castbench.report.claims_view import CLAIMED_MEMORY, CLAIMED_SPEED
from castbench.report.nouns import ClaimedAgainst, ClaimedLength, Report
from castbench.said import Quantity, Statement, Unit, statement

_NAMES = ("label", "tokens", "against", "speed", "speed_claim", "memory", "memory_claim")
_NUMBERS = ("tokens", "speed", "memory")


def claims(report: Report) -> Iterator[Block]:
    """What is claimed, what this run shows at each length, and the difference in what was measured."""
    if not report.claims:
        return
    yield Heading(text.HEADINGS["claims"])
    yield Paragraph(text.say(claimed(report.claims[0].group.shape.batch_size)))
    columns = tuple(Column(text.CLAIM_COLUMNS[n], n in _NUMBERS, flexible=n == "label") for n in _NAMES)
    yield Table(columns, tuple(cells for row in report.claims for cells in _cells(row)))
    yield Paragraph(text.say(circumstances(report)), "note")


def claimed(batch: int) -> Statement:
    """What the article says, and at which batch size that is looked at here."""
    return statement(
        "claims.article", batch=Quantity(batch, Unit.COUNT), speed=Quantity(CLAIMED_SPEED, Unit.GIVEN),
        memory=Quantity(100 * CLAIMED_MEMORY, Unit.GIVEN),
    )  # fmt: skip


def circumstances(report: Report) -> Statement:
    """What was measured here, and that the claim is of training on other hardware."""
    run = report.run
    key = "claims.training" if run.phase == "training" else "claims.inference"
    return statement(key, device_name=run.environment.device_name, dtype=run.dtype)


def _cells(row: ClaimedLength) -> Iterator[tuple[str, ...]]:
    """A line against the original attention and one against the fused one."""
    for mechanism, found in (("original", row.original), ("fused", row.fused)):
        named = (row.label, _tokens(row.group)) if mechanism == "original" else ("", "")
        yield (*named, text.CLAIM_RIVALS[mechanism].format(label=found.label or fmt.NOTHING), *_figures(found))


def _tokens(group: Group) -> str:
    """A length, with the regime where it is not eager."""
    length = fmt.value(Quantity(group.shape.seq_len, Unit.TOKENS))
    return length if group.regime == "eager" else f"{length} {text.TERMS[group.regime]}"


def _figures(found: ClaimedAgainst) -> tuple[str, str, str, str]:
    """Speed and memory with what they say of the claim."""
    share = None if found.memory_share is None else Quantity(100 * found.memory_share, Unit.PERCENT)
    return (
        fmt.spread(Quantity.of(found.speedup, Unit.TIMES), unit=False), text.CLAIMS[found.speed],
        fmt.value(share), text.CLAIMS[found.memory],
    )  # fmt: skip
