"""Draws a page as one HTML file that needs nothing else: no script, no address, light and dark, on paper and phone.

blocks ─▶ sections by heading ─▶ html ; a chart is drawn twice, wide and for a phone, and its numbers follow in a table
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape as _escape
from importlib.resources import files

from castbench.report import charts, text
from castbench.report.blocks import Block, Bullets, Chart, Column, Commands, Heading, Paragraph, Table
from castbench.report.catalogue import spoken
from castbench.report.charts.numbers import numbers_of
from castbench.report.charts.style import DARK, LIGHT, themed, variables

Picture = Callable[[Chart, int], str]
"""A chart as SVG at a width in pixels."""

WIDE, PHONE = 800, 360
"""Widths that charts are drawn at, in pixels."""

PAGE_LIGHT = {
    "panel": "#f4f6f9", "line": "#cdd5de", "link": "#0b5394", "warn": "#fff1e6", "warn-ink": "#7a2e00",
    "warn-line": "#d9620f", "mark": "#e4f4ee", "mark-ink": "#0a4f43", "accent": "#0b62a8",
}  # fmt: skip
PAGE_DARK = {
    "panel": "#1a222b", "line": "#37434f", "link": "#8cc6ff", "warn": "#3a2211", "warn-ink": "#ffc79e",
    "warn-line": "#ff9a5c", "mark": "#12352f", "mark-ink": "#8fe3d1", "accent": "#64b1f5",
}  # fmt: skip
"""Colours of the document itself, beside those of its charts."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may load for this file: nothing; only its own style sheet counts."""


def draw(blocks: Sequence[Block], picture: Picture | None = None) -> bytes:
    """The page as UTF-8 HTML in the language that is spoken; InputError where charts cannot be drawn here.

    `picture` draws charts, altair's unless another is given. Raises nothing for any words: foreign text stays text.
    """
    if picture is None:
        charts.require("html")
        picture = _drawn
    made = _Document(picture)
    head, sections = _sectioned(blocks)
    body = [*_opening(head, made), *_contents(sections), *(made.section(number, one) for number, one in sections)]
    title = next((block.words for block in head if isinstance(block, Heading)), "castbench")
    return "\n".join(_framed(title, body)).encode("utf-8", "replace")


def escaped(words: str) -> str:
    """Words as HTML shows them, in text and in attributes, nothing in them live or able to turn the direction."""
    return _escape(text.legible(words), quote=True)


def _drawn(chart: Chart, width: int) -> str:
    """A chart whose colours follow the document's."""
    return charts.svg(chart, themed(), width)


Section = tuple[Block, ...]


def _sectioned(blocks: Sequence[Block]) -> tuple[Section, list[tuple[int, Section]]]:
    """What stands before the first heading of level 2, and the numbered sections that begin with one."""
    starts = [i for i, block in enumerate(blocks) if isinstance(block, Heading) and block.level == 2]
    ends = [*starts[1:], len(blocks)]
    found = [tuple(blocks[start:end]) for start, end in zip(starts, ends, strict=True)] if starts else []
    return tuple(blocks[: starts[0]] if starts else blocks), list(enumerate(found, 1))


def _framed(title: str, body: Sequence[str]) -> Iterator[str]:
    """The document around its body."""
    yield "<!DOCTYPE html>"
    yield f'<html lang="{spoken()}">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{escaped(title)}</title>"
    yield f"<style>\n{_style_sheet()}</style>"
    yield "</head>"
    yield "<body>"
    yield f'<a class="skip" href="#report">{escaped(text.WORDS["html.skip"])}</a>'
    yield '<main id="report">'
    yield from body
    yield "</main>"
    yield "</body>"
    yield "</html>\n"


def _style_sheet() -> str:
    """The colours of light and dark, and the rules that use them."""
    light = _declared(variables(LIGHT) | {f"--{name}": colour for name, colour in PAGE_LIGHT.items()})
    dark = _declared(variables(DARK) | {f"--{name}": colour for name, colour in PAGE_DARK.items()})
    rules = files(__package__).joinpath("html.css").read_text("utf-8")
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{rules}"
    )


def _declared(colours: dict[str, str]) -> str:
    """CSS declarations."""
    return " ".join(f"{name}: {colour};" for name, colour in colours.items())


def _opening(blocks: Section, made: _Document) -> Iterator[str]:
    """Title, warnings and what the reader should take away, first and large; then what else there is."""
    yield '<header class="opening">'
    leads = [block for block in blocks if _tone(block) == "lead"]
    above = [block for block in blocks if isinstance(block, Heading) or _tone(block) == "warning"]
    yield from (made.block(block) for block in above)
    if leads:
        yield '<div class="leads">'
        yield from (made.block(lead) for lead in leads)
        yield "</div>"
    yield from (made.block(block) for block in blocks if block not in leads and block not in above)
    yield "</header>"


def _tone(block: Block) -> str | None:
    """The tone of a paragraph; None of anything else."""
    return block.tone if isinstance(block, Paragraph) else None


def _contents(sections: Sequence[tuple[int, Section]]) -> Iterator[str]:
    """Links to the sections; none of fewer than three."""
    if len(sections) < 3:
        return
    yield f'<nav aria-label="{escaped(text.WORDS["html.contents"])}">'
    yield "<ol>"
    for number, section in sections:
        heading = section[0]
        assert isinstance(heading, Heading)
        yield f'<li><a href="#s{number}">{escaped(heading.words)}</a></li>'
    yield "</ol>"
    yield "</nav>"


@dataclass(slots=True)
class _Document:
    """Blocks as HTML; the heading that stands above names tables."""

    picture: Picture
    heading: str = field(default="")

    def section(self, number: int, blocks: Section) -> str:
        """A section under its heading."""
        first, *others = blocks
        assert isinstance(first, Heading)
        self.heading = first.words
        lines = [f'<section aria-labelledby="s{number}">', f'<h2 id="s{number}">{escaped(first.words)}</h2>']
        return "\n".join([*lines, *(self.block(block) for block in others), "</section>"])

    def block(self, block: Block) -> str:
        """One block."""
        if isinstance(block, Heading):
            self.heading = block.words
            return f"<h{block.level}>{escaped(block.words)}</h{block.level}>"
        if isinstance(block, Paragraph):
            return _paragraph(block)
        if isinstance(block, Bullets):
            return "\n".join(["<ul>", *(f"<li>{escaped(item)}</li>" for item in block.items), "</ul>"])
        if isinstance(block, Commands):
            lines = "\n".join(escaped(line) for line in block.lines)
            return f'<pre tabindex="0"><code>{lines}</code></pre>'
        if isinstance(block, Table):
            return _table(block, self.heading)
        return self._figure(block)

    def _figure(self, chart: Chart) -> str:
        """A chart in both widths, of which the style sheet shows one, with its numbers to unfold."""
        alt = escaped(chart.alt)
        drawn = (
            f'<div class="{name}" role="img" aria-label="{alt}">{_inline(self.picture(chart, width))}</div>'
            for name, width in (("wide", WIDE), ("phone", PHONE))
        )
        fold = escaped(text.WORDS["html.numbers"])
        numbers = _table(numbers_of(chart), chart.title)
        unseen = ' class="unseen"' if chart.title == self.heading else ""
        return "\n".join(
            [
                "<figure>", f"<figcaption{unseen}>{escaped(chart.title)}</figcaption>", *drawn,
                f"<details><summary>{fold}</summary>", numbers, "</details>", "</figure>",
            ]
        )  # fmt: skip


def _inline(svg: str) -> str:
    """An SVG as part of a document: without name spaces, which HTML knows, and hidden from who hears the words."""
    bare = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    bare = bare.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1)
    return bare.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _paragraph(block: Paragraph) -> str:
    """Running text; a warning says that it is one."""
    words = escaped(block.words)
    if block.tone == "warning":
        return f'<p class="warning"><strong>{escaped(text.WORDS["html.warning"])}</strong> {words}</p>'
    return f"<p>{words}</p>" if block.tone == "plain" else f'<p class="{block.tone}">{words}</p>'


def _table(table: Table, caption: str) -> str:
    """A table that scrolls in its own box, named by its heading."""
    named = escaped(caption)
    lines = [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{named}">',
        f'<table><caption class="unseen">{named}</caption>',
        f"<thead><tr>{''.join(_heading(column) for column in table.columns)}</tr></thead>",
        "<tbody>",
        *(_row(table, index) for index in range(len(table.rows))),
        "</tbody></table></div>",
    ]
    return "\n".join(lines)


def _heading(column: Column) -> str:
    """The heading of a column; an empty one heads nothing."""
    kind = ' class="number"' if column.numeric else ""
    return f'<th scope="col"{kind}>{escaped(column.heading)}</th>' if column.heading else "<td></td>"


def _row(table: Table, index: int) -> str:
    """A row, headed by its first cell where that holds words."""
    cells = []
    for place, (column, words) in enumerate(zip(table.columns, table.rows[index], strict=True)):
        kind = ' class="number"' if column.numeric else ""
        heads = place == 0 and not column.numeric and words
        cells.append(f'<th scope="row">{escaped(words)}</th>' if heads else f"<td{kind}>{escaped(words)}</td>")
    # A row without a name of its own belongs to the one above.
    mark = ' class="marked"' if index in table.marked else "" if table.rows[index][0] else ' class="further"'
    return f"<tr{mark}>{''.join(cells)}</tr>"
