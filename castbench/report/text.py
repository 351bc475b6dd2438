"""Every sentence and label a report can say, from the catalogue of the language that is spoken.

A template names its values; after a colon it says how a quantity is spoken: {saving} value, interval and unit,
{saving:spread} the interval and unit, {saving:value} the bare value, {n:rounds} and {n:servers} a number with its noun.
Words are put in as they are; {why:stored} retells what a run file holds in English (retelling.py), and {regime:terms}
takes what stands under that word in the section of that name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report.catalogue import Section, speaking
from castbench.report.retelling import retold
from castbench.said import Quantity, Statement, Value, Words

SENTENCES = Section("sentences")
HEADINGS = Section("headings")
COLUMNS = Section("columns")
CAPACITY_COLUMNS = Section("capacity_columns")
DAY_LINES = Section("day_lines")
REHEARSAL_COLUMNS = Section("rehearsal_columns")
DIFF_COLUMNS = Section("diff_columns")
CLAIM_COLUMNS = Section("claim_columns")
CLAIM_RIVALS = Section("claim_rivals")
CLAIMS = Section("claims")
PLAN_PARTS = Section("plan_parts")
CHARTS = Section("charts")
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
TERMS = Section("terms")
"""Words of profiles and run files: batching, regime, phase."""
WORDS = Section("words")
NAMES = Section("names")
"""What mechanisms are called and what advice means, by mechanism and by `words`."""

ROUGH = "~"

_ACRONYMS = {"cast": "CAST", "sdpa": "SDPA"}


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A quantity inside a template; the template's format specification says how it is spoken."""

    quantity: Quantity

    def __format__(self, how: str) -> str:
        ways = {
            "": fmt.text, "spread": fmt.spread, "value": fmt.value, "relation": fmt.relation, "rounds": fmt.rounds,
            "servers": fmt.servers, "replicas": fmt.replicas, "fine": fmt.fine,
        }  # fmt: skip
        return ways[how](self.quantity)


@dataclass(frozen=True, slots=True)
class _Several:
    """Words in a row inside a template: with semicolons, or as the template says.

    `list` with commas, `and` with that before the last as well, `sentences` with full stops.
    """

    said: tuple[str, ...]

    def __format__(self, how: str) -> str:
        if how == "and" and len(self.said) > 1:
            return WORDS["comma"].join(self.said[:-1]) + WORDS["and"] + self.said[-1]
        between = {"": "semicolon", "list": "comma", "and": "comma", "sentences": "full_stop"}
        return WORDS[between[how]].join(self.said)


class _Words(str):
    """Words inside a template: as they are, or what the section that the template names has for them."""

    __slots__ = ()

    def __format__(self, how: str) -> str:
        if how == "stored":
            return retell(self)
        return Section(how).get(self, str(self)) if how else str(self)


def say(said: Statement) -> str:
    """The sentence of a statement."""
    return SENTENCES[said.key].format(**{name: _spoken(value) for name, value in said.values})


def words(said: Words) -> str:
    """Ours in the language that is spoken, others' as they are."""
    return say(said) if isinstance(said, Statement) else said


def in_english(said: Words | None) -> str | None:
    """The same in English whatever language is spoken, as formats for machines have it; None stays None."""
    if said is None:
        return None
    with speaking("en"):
        return words(said)


def retell(stored: str) -> str:
    """A sentence that was stored when the run was measured, or several of them; what is not known stays as it is."""
    found = retold(stored)
    if found is not None:
        template, values = found
        return template.format(**{name: _Words(value) for name, value in values.items()})
    parts = stored.split("; ")
    told = [retell(part) for part in parts] if len(parts) > 1 else parts
    return str(stored) if told == parts else WORDS["semicolon"].join(told)


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
        quantities = [one for one in value if isinstance(one, Quantity)]
        if quantities:
            return _Words(fmt.listed(quantities))
        return _Several(tuple(words(one) for one in value if not isinstance(one, Quantity)))
    return _Words(fmt.NOTHING if value is None else words(value))


def doubt(caveat: Caveat, labels: Collection[str], everybody: Collection[str]) -> str:
    """One doubt in plain words, with the labels it touches where it is not all of them."""
    if set(everybody) <= set(labels):
        return CAVEATS[caveat]
    return word("of", whom=named(labels), what=CAVEATS[caveat])


def heading(key: str, **values: Value) -> str:
    """A heading with its values."""
    return HEADINGS[key].format(**{name: _spoken(value) for name, value in values.items()})


def word(key: str, **values: Value) -> str:
    """One of the WORDS with its values."""
    return WORDS[key].format(**{name: _spoken(value) for name, value in values.items()})


def named(labels: Iterable[str]) -> str:
    """Names in a row."""
    return WORDS["comma"].join(labels)


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
