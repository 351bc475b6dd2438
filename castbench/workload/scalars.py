"""The kinds of single values a profile holds: each says what is wrong with a value, and what was probably meant."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from castbench.workload.spelling import close_to, did_you_mean, is_plain_number, meant_number, meant_whole, quoted
from castbench.workload.yaml_text import shown

_UNIT_WORDS = {"": "", "ms": " in milliseconds", "s": " in seconds"}


class Kind(Protocol):
    """A kind of value."""

    def problem(self, value: object) -> str | None:
        """What was expected and what was got, in a sentence; None for a value that fits."""

    def json_schema(self) -> dict[str, Any]:
        """The limits as JSON Schema keywords."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def fits(self, value: object) -> bool:
        """Whether the value is one; true and 2.0 are not."""
        return type(value) is int and self.low <= value <= self.high

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if self.fits(value):
            return None
        if type(value) is int and value > self.high:
            return f"expected at most {self.high}, got {shown(value)}"
        noun = "a positive integer" if self.low == 1 else f"a whole number of at least {self.low}"
        meant = meant_whole(value)
        hint = did_you_mean(meant if self.fits(meant) else None)
        return f"expected {noun}, got {shown(value)}{hint}{_without_quotes(value)}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"minimum": self.low, "maximum": self.high}


SMALLEST = 1e-9
"""Numbers nearer to 0 are slips, and dividing by them gives numbers without end."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number above 0, no nearer to it than SMALLEST, and at most `high`; `unit` is ms, s or none."""

    high: float
    noun: str = "a number above 0"
    unit: str = ""

    def fits(self, value: object) -> bool:
        """Whether the value is one; true and .nan are not."""
        return _is_number(value) and SMALLEST <= value <= self.high  # type: ignore[operator]  # narrowed by _is_number

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if self.fits(value):
            return None
        if _is_number(value) and 0 < value < SMALLEST:  # type: ignore[operator]  # narrowed by _is_number
            return f"expected {self.noun} that is not this near to 0, got {shown(value)}"
        if _is_number(value) and self.high < value < math.inf:  # type: ignore[operator]  # narrowed by _is_number
            return f"expected at most {self.high:g}, got {shown(value)}"
        meant = meant_number(value, self.unit)
        hint = did_you_mean(meant if self.fits(meant) else None)
        return f"expected {self.noun}{_UNIT_WORDS[self.unit]}, got {shown(value)}{hint}{_without_quotes(value)}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"minimum": SMALLEST, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `low`, or only from above it, to `high`."""

    low: float
    high: float
    noun: str
    above: bool = False

    def fits(self, value: object) -> bool:
        """Whether the value is one; true and .nan are not."""
        if not _is_number(value):
            return False
        within: bool = self.low <= value <= self.high  # type: ignore[operator]  # narrowed by _is_number
        return within and not (self.above and value == self.low)

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if self.fits(value):
            return None
        if _is_number(value) and self.high < value < math.inf:  # type: ignore[operator]  # narrowed by _is_number
            return f"expected at most {self.high:g}, got {shown(value)}"
        meant = meant_number(value)
        hint = did_you_mean(meant if self.fits(meant) else None)
        return f"expected {self.noun}, got {shown(value)}{hint}{_without_quotes(value)}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"exclusiveMinimum" if self.above else "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Word:
    """One of a few words; `synonyms` are what else people call them."""

    words: tuple[str, ...]
    synonyms: tuple[tuple[str, str], ...] = ()

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if isinstance(value, str) and value in self.words:
            return None
        synonym = dict(self.synonyms).get(value.lower()) if isinstance(value, str) else None
        meant = synonym or close_to(value, self.words)
        return f"expected {' or '.join(self.words)}, got {shown(value)}{did_you_mean(meant)}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Switch:
    """true or false."""

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if isinstance(value, bool):
            return None
        meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
        hint = did_you_mean(meant.get(str(value).lower()))
        return f"expected true or false, got {shown(value)}{hint}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Line:
    """A printable text of one line."""

    longest: int

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= self.longest:
            return None
        hint = did_you_mean(quoted(value))
        return f"expected a text of one line, printable and at most {self.longest} characters, got {shown(value)}{hint}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"minLength": 1, "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is safe as part of a file name."""

    longest: int = 80

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if isinstance(value, str) and len(value) <= self.longest and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
            return None
        meant = _slug(value, self.longest) if isinstance(value, str) else quoted(value)
        expected = f"a name of at most {self.longest} letters, digits, '-', '_' and '.'"
        return f"expected {expected}, got {shown(value)}{did_you_mean(meant or None)}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class CurrencyCode:
    """Three capital letters that name a currency other than the US dollar."""

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if value == "USD":
            return "amounts are in USD already; name another currency, or leave this key out"
        if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value):
            return None
        meant = value.strip().upper() if isinstance(value, str) else ""
        hint = did_you_mean(meant if re.fullmatch(r"[A-Z]{3}", meant) else None)
        return f"expected a currency in three capital letters such as JPY, got {shown(value)}{hint}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"pattern": r"^(?!USD$)[A-Z]{3}$"}


@dataclass(frozen=True, slots=True)
class Digest:
    """A sha256 in hex."""

    def problem(self, value: object) -> str | None:
        """See Kind."""
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
            return None
        meant = value.strip().lower() if isinstance(value, str) else ""
        hint = did_you_mean(meant if re.fullmatch(r"[0-9a-f]{64}", meant) else None)
        return f"expected the 64 hexadecimal digits that sha256sum prints of the file, got {shown(value)}{hint}"

    def json_schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"pattern": r"^[0-9a-f]{64}$"}


def _is_number(value: object) -> bool:
    """Whether a YAML value is a number; true is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _without_quotes(value: object) -> str:
    """What to do about a number in quotes."""
    return " Write it without quotes." if is_plain_number(value) else ""


def _slug(text: str, longest: int) -> str:
    """`text` with everything a name may not hold turned into dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:longest].strip("-._")
