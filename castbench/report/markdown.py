"""Draws a page in GitHub's Markdown, for pull requests; foreign text cannot break out of its place."""

from __future__ import annotations

import re
from collections.abc import Sequence

from castbench.report.blocks import Block, Bullets, Chart, Commands, Heading, Paragraph, Table, Textual
from castbench.report.text import legible

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SPECIAL = re.compile(r"[\\`*_\[\]|~#$]")
_LIST_START = re.compile(r"^(?:[-+]|\d+[.)])(?=\s|$)")


def draw(blocks: Sequence[Block]) -> bytes:
    """The page as UTF-8 Markdown, an empty line between blocks."""
    drawn = (_block(block) for block in blocks if not isinstance(block, Chart))
    return ("\n\n".join(drawn) + "\n").encode("utf-8", "replace")


def escaped(words: str) -> str:
    """Words that Markdown and HTML show as they are, on one line."""
    one_line = legible(words).strip()
    marked = _SPECIAL.sub(lambda match: "\\" + match[0], "".join(_ENTITIES.get(c, c) for c in one_line))
    return _LIST_START.sub(lambda match: match[0][:-1] + "\\" + match[0][-1], marked)


def _block(block: Textual) -> str:
    """One block as Markdown."""
    if isinstance(block, Heading):
        return f"{'#' * (block.level + 1)} {escaped(block.words)}"
    if isinstance(block, Paragraph):
        return f"**{escaped(block.words)}**" if block.tone == "warning" else escaped(block.words)
    if isinstance(block, Bullets):
        return "\n".join(f"- {escaped(item)}" for item in block.items)
    if isinstance(block, Commands):
        return "\n".join(f"    {legible(line)}" for line in block.lines)
    return _table(block)


def _table(table: Table) -> str:
    """A table in GitHub's syntax, numbers to the right."""
    rules = ["---:" if column.numeric else ":---" for column in table.columns]
    rows = ([column.heading for column in table.columns], *table.rows)
    heading, *body = (_row([escaped(cell) for cell in row]) for row in rows)
    return "\n".join([heading, _row(rules), *body])


def _row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"
