"""Every sentence and label a report can say, from the catalogue of the language that is spoken.

A template names its values; after a colon it says how a quantity is spoken: {saving} value, interval and unit,
{saving:spread} the interval and unit, {saving:value} the bare value, {n:rounds} a number of rounds with its noun.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report.catalogue import Section
from castbench.said import Quantity, Statement, Value

SENTENCES = Section("sentences")
HEADINGS = Section("headings")
COLUMNS = Section("columns")
CAPACITY_COLUMNS = Section("capacity_columns")
DAY_LINES = Section("day_lines")
REHEARSAL_COLUMNS = Section("rehearsal_columns")
METRICS = Section("metrics")
CAVEATS = Section("caveats")
QUALITY = Section("quality")
STOPPED_BY = Section("stopped_by")
"""What ended a group, by the word that is stored."""
UNCONFIRMED = Section("unconfirmed")
"""Why nothing was confirmed, by the word a report carries."""
ENERGY_SOURCES = Section("energy_sources")
ENERGY_SCOPES = Section("energy_scopes")
MODES = Section("modes")
WORDS = Section("words")

ROUGH = "~"

_ACRONYMS = {"cast": "CAST", "sdpa": "SDPA"}


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A quantity inside a template; the template's format specification says how it is spoken."""

    quantity: Quantity

    def __format__(self, how: str) -> str:
        ways = {
            "": fmt.text, "spread": fmt.spread, "value": fmt.value, "relation": fmt.relation, "rounds": fmt.rounds,
        }  # fmt: skip
        return ways[how](self.quantity)


class _Words(str):
    """Words inside a template: the same however the template asks for them."""

    __slots__ = ()

    def __format__(self, how: str) -> str:
        return str(self)


def say(said: Statement) -> str:
    """The sentence of a statement."""
    return SENTENCES[said.key].format(**{name: _spoken(value) for name, value in said.values})


def ended(stopped_by: str | None) -> str:
    """What ended a group, in plain words."""
    if stopped_by is None:
        return WORDS["unfinished"]
    return STOPPED_BY.get(stopped_by, WORDS["ended_by"].format(stopped_by=stopped_by))


def _spoken(value: Value) -> object:
    """A value as a template takes it; what is not known stays a dash."""
    if isinstance(value, Quantity):
        return _Spoken(value)
    if isinstance(value, tuple):
        return _Words(fmt.listed(value))
    return _Words(fmt.NOTHING if value is None else value)


def doubt(caveat: Caveat, labels: Collection[str], everybody: Collection[str]) -> str:
    """One doubt in plain words, with the labels it touches where it is not all of them."""
    whom = "" if set(everybody) <= set(labels) else f"{', '.join(labels)}: "
    return whom + CAVEATS[caveat]


def model_name(mechanism: str, label: str) -> str:
    """What to call the model that would have to be retrained."""
    return _ACRONYMS.get(mechanism, label)


def legible(foreign: str) -> str:
    """Text of unknown origin without anything that could steer a terminal or turn the writing direction."""
    return "".join(_legible_character(c) for c in foreign)


def _legible_character(character: str) -> str:
    """A space for a line break or tab, the replacement character for control and format characters."""
    if character in "\n\r\t\u2028\u2029":
        return " "
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") else character
