"""The sheet of a workbook that reads like a page: the article's claims, the introduction plan, what could go wrong."""

from __future__ import annotations

from collections.abc import Sequence

from castbench.report.blocks import Block, Bullets, Commands, Heading, Paragraph, Table
from castbench.report.claims_page import claims
from castbench.report.nouns import Report
from castbench.report.plan_page import introduction
from castbench.report.risks_page import risks
from castbench.report.xlsx_book import Book, Field, Sheet
from castbench.report.xlsx_words import SHEETS

_WIDTHS = (30, 16, 30, 16, 24, 16, 24)
"""Of the columns; running text goes over all of them."""
_SUBHEADING = 3
"""Level from which a heading is a small one."""


def blocks(report: Report) -> tuple[Block, ...]:
    """What stands on it; nothing where nothing was measured."""
    return (*introduction(report), *risks(report), *claims(report))


def write(book: Book, page: Sequence[Block]) -> None:
    """The sheet, top to bottom; none for an empty page."""
    if page:
        sheet = book.sheet(SHEETS["plan"])
        sheet.widths(*_WIDTHS)
        for block in page:
            _draw(sheet, block)


def _draw(sheet: Sheet, block: Block) -> None:
    """One block in the next rows; pictures are left out, they have a sheet of their own."""
    wide = len(_WIDTHS)
    if isinstance(block, Heading):
        sheet.row += 1 if sheet.row and block.level < _SUBHEADING else 0
        sheet.line(block.words, "heading" if block.level < _SUBHEADING else "subheading", columns=wide)
    elif isinstance(block, Paragraph):
        sheet.line(block.words, block.tone, columns=wide)
    elif isinstance(block, Bullets | Commands):
        for item in block.items if isinstance(block, Bullets) else block.lines:
            sheet.line(f"• {item}", columns=wide)
    elif isinstance(block, Table):
        sheet.table([Field(column.heading, text=True) for column in block.columns], block.rows)
