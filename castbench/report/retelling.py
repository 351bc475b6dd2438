"""Retells sentences that were stored in English when a run was measured, in the language that is spoken.

A template of the section `stored` is the sentence as the measuring code writes it, with names for what varies; what
fits none of them is of other origin (a driver's message, a name) and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from string import Formatter

from castbench.report import catalogue

WRITTEN_IN: catalogue.Language = "en"

_STORED = catalogue.Section("stored")


def retold(words: str) -> tuple[str, Mapping[str, str]] | None:
    """The template of a stored sentence and what to put into it; None where it stays as it is."""
    if catalogue.spoken() == WRITTEN_IN:
        return None
    found = _fitting(words)
    return None if found is None else (_STORED[found[0]], found[1])


@lru_cache(maxsize=4096)  # a run of many cases holds few sentences
def _fitting(words: str) -> tuple[str, dict[str, str]] | None:
    """The key of the template that a sentence was made of, and its values; None where it fits none."""
    for key, pattern in _patterns().items():
        found = pattern.fullmatch(words)
        if found is not None:
            return key, found.groupdict()
    return None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """What matches each stored sentence, in the order of the file: the first that fits is taken."""
    return {key: _pattern(template) for key, template in catalogue.sections(WRITTEN_IN)["stored"].items()}


def _pattern(template: str) -> re.Pattern[str]:
    """A template turned round: its literal text, and a group for each of its names."""
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(re.escape(literal))
        if name is not None:
            parts.append(f"(?P<{name}>.+?)")
    return re.compile("".join(parts), re.DOTALL)
