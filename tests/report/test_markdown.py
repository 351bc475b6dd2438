from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.report import exporters, markdown, page, terminal
from tests.report.builder import SITUATIONS, hostile, win


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_line_of_a_table_has_the_same_number_of_cells(name: str) -> None:
    """No label opens or closes a cell."""
    drawn = exporters.render(SITUATIONS[name](), "md").decode()
    for block in drawn.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("| "):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_foreign_markup_is_shown_and_not_run() -> None:
    """HTML, emphasis and line breaks of a label appear as written, on one line."""
    drawn = exporters.render(hostile(), "md").decode()
    assert "<script>" not in drawn
    assert r"a\|b&lt;script&gt;alert(1)&lt;/script&gt; \# \*x\*" in drawn
    assert "- 1\\. one (batch" in drawn


@given(st.text(max_size=40))
def test_escaped_text_is_one_line_without_live_markup(words: str) -> None:
    """Whatever the text, no bare markup character and no line break is left."""
    shown = markdown.escaped(words)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_\[\]<>]", shown)


def test_markdown_and_terminal_say_the_same() -> None:
    """Both draw the same page: every sentence of one is in the other."""
    blocks = page.of_report(win())
    wide = terminal.draw(blocks, width=10_000).decode()
    drawn = markdown.draw(blocks).decode()
    for block in blocks:
        if isinstance(block, page.Paragraph):
            assert block.words in wide
            assert markdown.escaped(block.words) in drawn
