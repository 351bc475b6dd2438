"""Breaks lines of text in a script without spaces, such as Japanese, for a terminal.

A line may end between any two wide characters, but none begins with a closing mark or ends with an opening one, and
Latin words, katakana words and numbers with their counters stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDE = "\u1100-\u115f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff01-\uff60\uffe0-\uffe6"
_PIECE = re.compile(rf"(\s*)([\u30a1-\u30ff]+|[{WIDE}]|[^\s{WIDE}]+)")
_HAS_WIDE = re.compile(f"[{WIDE}]")
_NEVER_FIRST = frozenset(")]/%,.、。，．・：；？！）」』】］｝〉》～％ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_NEVER_LAST = frozenset("（「『【［｛〈《")


def broken(words: str, width: int) -> str:
    """The words in lines of at most `width` cells; text without wide characters is left as it is."""
    if not _HAS_WIDE.search(words):
        return words
    return "\n".join(_lines(words, max(2, width)))


def _lines(words: str, width: int) -> Iterator[str]:
    """Greedily filled lines; a unit longer than a line is cut."""
    from rich.cells import cell_len, chop_cells

    line = ""
    for space, unit in _units(words):
        if cell_len(line + space + unit) <= width:
            line += space + unit
            continue
        if line:
            yield line
        *full, line = chop_cells(unit, width)
        yield from full
    yield line


def _units(words: str) -> Iterator[tuple[str, str]]:
    """What must not be broken, with the space before it."""
    space, unit = "", ""
    for match in _PIECE.finditer(words):
        before, piece = match.groups()
        if unit and not before and _stick(unit[-1], piece[0]):
            unit += piece
            continue
        if unit:
            yield space, unit
        space, unit = before, piece
    if unit:
        yield space, unit


def _stick(last: str, first: str) -> bool:
    """Whether no line may end between these two characters."""
    is_counted = last.isdigit() and _HAS_WIDE.match(first) is not None and first not in _NEVER_LAST
    return last in _NEVER_LAST or first in _NEVER_FIRST or is_counted or (last == "～" and first.isdigit())
