"""Draws a page as PDF with typst: A4, bookmarks, charts, the same bytes for the same page.

Blocks travel to the template (page.typ) as JSON, so that no words of anybody are read as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from castbench.errors import CastbenchError, InputError
from castbench.report import catalogue, charts, comparison_page, page
from castbench.report.blocks import Block, Bullets, Chart, Commands, Heading, Paragraph, Table
from castbench.report.charts.style import PRINTED
from castbench.report.comparison import Comparison
from castbench.report.extra import needed
from castbench.report.line_breaks import WIDE
from castbench.report.nouns import Report
from castbench.report.text import legible
from castbench.report.trim import MOST_CASE_ROWS

_LATIN, _FIXED = "Libertinus Serif", "DejaVu Sans Mono"
"""Fonts that typst brings along."""
JAPANESE = (
    "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans JP", "Source Han Sans", "BIZ UDPGothic", "IPAexGothic",
    "IPAPGothic", "IPAGothic", "Hiragino Sans", "Hiragino Kaku Gothic ProN", "Yu Gothic", "YuGothic", "Meiryo",
    "MS PGothic", "MS Gothic", "Noto Serif CJK JP", "Noto Serif JP", "Source Han Serif JP", "TakaoPGothic",
    "VL PGothic", "M PLUS 1p",
)  # fmt: skip
"""Families with Japanese letters that systems bring along or offer, the better ones first."""

_LARGE = 3
"""Sentences of the headline that are set large."""
_LONGEST_WORD, _LONGEST_IN_A_CELL, _PIECE = 40, 22, 8
_LATIN_RUN = re.compile(rf"[^\s{WIDE}]+")
_BREAK = "\u200b"
"""Where a word may be broken, without a mark."""


def of_report(report: Report) -> bytes:
    """The PDF of a report; InputError where a package or a font is missing."""
    run = report.run
    footer = f"{run.run_id} · {run.created_at}"
    return draw(page.of_report(report, most_cases=MOST_CASE_ROWS), footer, run.created_at)


def of_comparison(comparison: Comparison) -> bytes:
    """The PDF of a comparison, dated as its latest run."""
    latest = max(machine.created_at for machine in comparison.machines)
    footer = ", ".join(machine.run_id for machine in comparison.machines)
    return draw(comparison_page.page(comparison, most_cases=MOST_CASE_ROWS), f"{footer} · {latest}", latest)


def draw(blocks: Sequence[Block], footer: str, created_at: str) -> bytes:
    """The page as PDF, dated `created_at`; its first heading is the document's title."""
    typst: Any = needed("typst", "pdf")
    if any(isinstance(block, Chart) for block in blocks):
        charts.require("pdf")
    fonts = typst.Fonts()
    families = _families(set(fonts.families()))
    moment = _moment(created_at)
    title = next((block.words for block in blocks if isinstance(block, Heading)), "castbench")
    data = {
        "title": legible(title), "footer": legible(footer)[:120], "moment": moment.timetuple()[:6],
        "language": catalogue.spoken(), "fonts": families, "fixed": [_FIXED, *families], "large": _LARGE,
        "blocks": list(_plain(blocks, families)),
    }  # fmt: skip
    template = (files(__package__) / "page.typ").read_bytes()
    inputs = {"page": json.dumps(data, ensure_ascii=False)}
    try:
        made: bytes = typst.compile(template, format="pdf", sys_inputs=inputs, font_paths=fonts)
    except typst.TypstError as error:
        raise CastbenchError(f"pdf: typst could not draw the page: {error}") from error
    return made


def _families(installed: set[str]) -> list[str]:
    """The fonts of the page; InputError where it is to be Japanese and no font is."""
    japanese = next((family for family in JAPANESE if family in installed), None)
    if japanese is None and catalogue.spoken() == "ja":
        raise InputError(
            "pdf in Japanese needs a Japanese font and this machine has none: install one, such as Noto Sans CJK JP "
            "(Debian and Ubuntu: apt-get install fonts-noto-cjk; Fedora: dnf install google-noto-sans-cjk-fonts), "
            "or take --format html"
        )
    if japanese is None:
        return [_LATIN]
    return [japanese, _LATIN] if catalogue.spoken() == "ja" else [_LATIN, japanese]


def _moment(created_at: str) -> datetime:
    """When a run was begun; a day that means nothing where its stamp cannot be read."""
    try:
        return datetime.fromisoformat(created_at).astimezone(UTC)
    except ValueError:
        return datetime(1980, 1, 1, tzinfo=UTC)


def _plain(blocks: Sequence[Block], families: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Blocks as the template takes them; sentences of the headline that follow one another are one."""
    leads: list[str] = []
    heading = ""
    for block in blocks:
        if isinstance(block, Paragraph) and block.tone == "lead":
            leads.append(_breakable(block.words))
            continue
        if leads:
            yield {"kind": "leads", "sentences": leads}
            leads = []
        yield _block(block, families, heading)
        heading = block.words if isinstance(block, Heading) else ""
    if leads:
        yield {"kind": "leads", "sentences": leads}


def _block(block: Block, families: Sequence[str], heading: str) -> dict[str, Any]:
    """One block as the template takes it; a chart below a heading of the same words has no title of its own."""
    if isinstance(block, Heading):
        return {"kind": "heading", "level": block.level, "words": _breakable(block.words)}
    if isinstance(block, Paragraph):
        return {"kind": block.tone, "words": _breakable(block.words)}
    if isinstance(block, Bullets):
        return {"kind": "bullets", "items": [_breakable(item) for item in block.items]}
    if isinstance(block, Commands):
        # To be copied: nothing may stand in a word that the shell would take as a part of it.
        return {"kind": "commands", "lines": [legible(line) for line in block.lines]}
    if isinstance(block, Chart):
        style = replace(PRINTED, font=", ".join(f"'{family}'" for family in families))
        title = None if block.title == heading else _breakable(block.title)
        words = {"title": title, "alt": legible(block.alt)}
        return {"kind": "chart", "svg": charts.svg(block, style), **words}
    return _table(block)


def _table(table: Table) -> dict[str, Any]:
    """A table with words that its columns can break."""
    return {
        "kind": "table", "marked": table.marked,
        "columns": [{"heading": _breakable(c.heading), "numeric": c.numeric} for c in table.columns],
        "rows": [[_breakable(cell, _LONGEST_IN_A_CELL) for cell in row] for row in table.rows],
    }  # fmt: skip


def _breakable(words: str, longest: int = _LONGEST_WORD) -> str:
    """Legible words, of which none is too long to be broken somewhere; wide characters may be broken anyway."""
    return _LATIN_RUN.sub(lambda run: run[0] if len(run[0]) <= longest else _pieces(run[0]), legible(words))


def _pieces(word: str) -> str:
    """A word that may be broken every few characters."""
    return _BREAK.join(word[start : start + _PIECE] for start in range(0, len(word), _PIECE))
