"""What is said, unspoken: unrounded quantities with their units, and statements that name a template to fill.

The templates stand in report/catalogue/; only report/format.py rounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from castbench.stats import Estimate


class Unit(StrEnum):
    """What a quantity counts; RATE is in requests per second, EXPECTED is a count on average, MONEY an amount in a
    currency that the sentence names, GIVEN a number somebody stated, shown with all the digits they gave.
    """

    MS = "ms"
    MIB = "mib"
    GIB = "gib"
    USD = "usd"
    USD_PER_HOUR = "usd_per_hour"
    USD_PER_MILLION_TOKENS = "usd_per_million_tokens"
    TIMES = "times"
    PERCENT = "percent"
    JOULES = "joules"
    WATTS = "watts"
    PROBABILITY = "probability"
    TOKENS = "tokens"
    TOKENS_PER_SECOND = "tokens_per_second"
    SECONDS = "seconds"
    HOURS = "hours"
    MONTHS = "months"
    KWH = "kwh"
    KG = "kg"
    MONEY = "money"
    RATE = "rate"
    COUNT = "count"
    EXPECTED = "expected"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Quantity:
    """An unrounded number with its interval, if it has one, and its unit."""

    value: float
    unit: Unit
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate | None, unit: Unit, factor: float = 1.0) -> Quantity | None:
        """An estimate times `factor`, interval turned round where the factor is negative; None stays None."""
        if estimate is None:
            return None
        low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
        return cls(estimate.value * factor, unit, *((low, high) if factor >= 0 else (high, low)))


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence or a part of one, unspoken: the name of its template, and the values to put in."""

    key: str
    values: tuple[tuple[str, Value], ...] = ()


Words = Statement | str
"""Something to say: ours, or text of another origin, which stays as it is in every language."""
Value = Quantity | tuple[Quantity, ...] | Words | tuple[Words, ...] | None
"""What a statement can be filled with; several quantities or words are spoken in a row."""


def statement(key: str, **values: Value) -> Statement:
    """A statement with its values by name."""
    return Statement(key, tuple(values.items()))


def together(parts: Iterable[Statement]) -> Statement | None:
    """Several reasons as one; None of none."""
    several = tuple(parts)
    if len(several) > 1:
        return statement("several", parts=several)
    return several[0] if several else None
