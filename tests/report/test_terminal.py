from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.report import exporters, terminal
from castbench.report.blocks import Column, Table
from tests.report.builder import SITUATIONS, many_groups, win


def _cells(line: str) -> int:
    """Terminal cells of a line: wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def _drawn(name: str, width: int = 80) -> str:
    return exporters.render(SITUATIONS[name](), "terminal", width=width).decode()


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", SITUATIONS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    """Tables, sentences and lists of every situation fit; a command stays whole, to be copied."""
    lines = [line for line in _drawn(name, width).splitlines() if not line.startswith("  castbench ")]
    assert [line for line in lines if _cells(line) > width] == []


@given(
    st.lists(st.lists(st.integers(-(10**9), 10**9), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(70, 110),
)
def test_a_table_that_is_too_wide_is_folded_and_no_number_is_cut(numbers: list[list[int]], width: int) -> None:
    """Ranges are broken behind their sign; every digit of every cell is there, within the terminal's width."""
    columns = (Column("mechanism", numeric=False, flexible=True), *(Column(f"$/h {i}") for i in range(3)))
    ranges = [[f"{a:,}–{b:,}" for a, b in zip(row[::2], row[1::2], strict=True)] for row in numbers]
    rows = tuple((f"m{index}", *cells) for index, cells in enumerate(ranges))
    lines = terminal.draw([Table(columns, rows)], width=width).decode().splitlines()
    assert max(map(_cells, lines)) <= width
    shown = sorted(re.findall(r"-?[\d,]{1,}(?=–|\s|$)", " ".join(lines[2:])))
    assert [n for row in rows for cell in row[1:] for n in cell.split("–") if n not in shown] == []


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_but_text_is_written_without_colour(name: str) -> None:
    """No escape sequence, no control character, no trailing blanks."""
    drawn = _drawn(name)
    assert not any(unicodedata.category(c) == "Cc" for c in drawn.replace("\n", ""))
    assert all(line == line.rstrip() for line in drawn.splitlines())


def test_colour_adds_escape_sequences_and_no_words() -> None:
    """With colour the same words are there, styled; foreign escape sequences are not let through."""
    coloured = exporters.render(win(), "terminal", colour=True).decode()
    assert "\x1b[" in coloured
    assert "\x1b[31mred" not in exporters.render(SITUATIONS["hostile"](), "terminal", colour=True).decode()


def test_the_parts_stand_in_the_order_of_reading() -> None:
    """Headline, summary, configurations, ceilings, groups, assumptions, caveats, environment, how to see it again."""
    drawn = _drawn("win")
    parts = ("PILOT", "Summary", "How each would run", "Ceilings", "Measured: batch 1, 512", "Assumptions", "Caveats",
             "Where and how", "To see it again")  # fmt: skip
    places = [drawn.index(part) for part in parts]
    assert places == sorted(places)


def test_numbers_of_a_column_end_in_one_place() -> None:
    """The mean column of a group is aligned to the right."""
    lines = _drawn("win").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Measured: batch 1, 512"))
    ends = {lines[start + offset].rindex("  ") for offset in (5, 6)}
    assert len(ends) == 1
    heading_end = lines[start + 1].index("mean") + len("mean")
    assert all(lines[start + row][heading_end - 1].isdigit() for row in (4, 5, 6))


def test_rows_without_a_number_say_why() -> None:
    """Status and reason of a failed case are printed."""
    drawn = _drawn("failures")
    assert "- naive: oom: tried to allocate 12.0 GiB of 80 GiB, twice" in drawn
    assert "unsupported: 512 tokens are fewer than 32 clusters of 32" in drawn


def test_long_labels_keep_both_ends_and_are_told_in_full_once() -> None:
    """A label too long for its column is cut in its middle; the list of configurations has all of it."""
    drawn = _drawn("hostile")
    assert "x…x" in drawn
    assert drawn.replace("\n  ", "").count("x" * 300) >= 1


def test_sixty_groups_are_sixty_tables() -> None:
    """Nothing is summed up or left out."""
    assert exporters.render(many_groups(), "terminal").decode().count("Measured: batch 1,") == 60


def test_money_that_is_not_known_has_no_columns() -> None:
    """Without money the summary shows what was measured only."""
    summary = _drawn("no_demand").partition("Summary (measured)")[2].partition("How each")[0]
    assert "$/h" not in summary
    assert "0.88–0.94" in summary


def test_a_pipe_is_eighty_columns_without_colour() -> None:
    """What is no terminal gets no colour and the default width."""
    assert terminal.shown_on(io.StringIO()) == (80, False)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal under NO_COLOR gets none."""

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.shown_on(Tty())[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.shown_on(Tty())[1]
