"""The only place that rounds: an unrounded quantity becomes the few digits a person should read.

Digits follow the uncertainty: an interval is shown to the step its own width supports, rounded outward so that it
is never narrower than what was measured, and its value to the same step. Without an interval: three significant
digits (two of a percentage and of an expected count), and no whole digit of a number below a million is dropped.
Money comes in multiples of a server's price, so its interval says little about its digits: three of the larger end,
to the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from castbench.report.catalogue import Section
from castbench.said import Quantity, Unit

NOTHING = "–"
"""What stands for a number that is not known."""

_SIGNIFICANT_DIGITS = 3
_MOST_DIGITS = 4
"""Digits of an interval's larger end at most, however narrow the interval."""

_SUFFIX = Section("units")
_WORDS = Section("words")
_WHOLE = {Unit.COUNT, Unit.TOKENS}
_TWO_DIGITS = {Unit.PERCENT, Unit.EXPECTED}
_STEPPED = {Unit.USD, Unit.USD_PER_HOUR, Unit.MONEY}
"""Multiples of a server's price."""


def text(quantity: Quantity | None) -> str:
    """Value and interval with the unit, as in a sentence: "12.6 ms (12.3–12.9)"."""
    if quantity is None:
        return NOTHING
    shown = value(quantity) + _SUFFIX[quantity.unit]
    interval = _interval(quantity)
    if not interval or interval == value(quantity):
        return shown
    return _WORDS["with_range"].format(value=shown, range=interval)


def spread(quantity: Quantity | None, *, unit: bool = True) -> str:
    """The interval alone, "12.3–12.9 ms", or the value where there is none."""
    if quantity is None:
        return NOTHING
    return (_interval(quantity) or value(quantity)) + (_SUFFIX[quantity.unit] if unit else "")


def rounds(quantity: Quantity | None) -> str:
    """A number of rounds with its noun: "1 round", "3–16 rounds"."""
    return _counted(quantity, "round", "rounds")


def servers(quantity: Quantity | None) -> str:
    """A number of servers with its noun: "1 server", "2–3 servers"."""
    return _counted(quantity, "server", "servers")


def replicas(quantity: Quantity | None) -> str:
    """A number of replicas with its noun."""
    return _counted(quantity, "replica", "replicas")


def fine(quantity: Quantity | None) -> str:
    """The value to four digits, without zeros at their end, with its unit: for one held against another close to it."""
    if quantity is None or not math.isfinite(quantity.value):
        return NOTHING
    shown = _to_step(quantity.value, _step_of_digits(quantity.value, _MOST_DIGITS))
    return _grouped(_decimal(float(shown))) + _SUFFIX[quantity.unit]


def _counted(quantity: Quantity | None, one: str, many: str) -> str:
    """A whole number, or its range, with the noun that goes with it."""
    shown = spread(quantity)
    return _WORDS[one if shown == "1" else many].format(count=shown)


def listed(quantities: Sequence[Quantity]) -> str:
    """Quantities of one unit in a row: "512, 2,048 and 4,096 tokens"."""
    *before, last = [value(quantity) for quantity in quantities]
    together = _WORDS["comma"].join(before) + _WORDS["and"] + last if before else last
    return together + _SUFFIX[quantities[-1].unit]


def value(quantity: Quantity | None) -> str:
    """The value alone and without its unit, as in a table whose heading has it."""
    if quantity is None:
        return NOTHING
    if not math.isfinite(quantity.value):
        return NOTHING
    if quantity.unit is Unit.PROBABILITY:
        return _probability(quantity.value)
    if quantity.unit is Unit.GIVEN:
        return _grouped(_decimal(quantity.value))
    if quantity.unit in _WHOLE:
        return _grouped(_to_step(quantity.value, Decimal(1)))
    return _grouped(_to_step(quantity.value, _step(quantity)))


def relation(quantity: Quantity) -> str:
    """A probability behind its name: "= 61 %", "> 99 %"."""
    shown = value(quantity)
    return shown if shown[0] in "<>" else f"= {shown}"


def bound(number: float, *, upward: bool) -> str:
    """A limit for machines: three significant digits and no separators, rounded so that it never gets stricter where
    `upward` is for an upper limit and not for a lower one.
    """
    return f"{_to_step(number, _step_of_digits(number, 3), ROUND_CEILING if upward else ROUND_FLOOR):f}"


def _interval(quantity: Quantity) -> str | None:
    """low–high, rounded outward; one number where both ends are equal; None without an interval."""
    low, high = quantity.low, quantity.high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    if low == high:
        return value(Quantity(low, quantity.unit))
    step = Decimal(1) if quantity.unit in _WHOLE else _step(quantity)
    ways = (ROUND_HALF_EVEN, ROUND_HALF_EVEN) if quantity.unit in _STEPPED else (ROUND_FLOOR, ROUND_CEILING)
    ends = [_grouped(_to_step(end, step, way)) for end, way in zip((low, high), ways, strict=True)]
    if ends[0] == ends[1]:
        return ends[0]
    return _WORDS["negative_range" if low < 0 else "range"].join(ends)


def _step(quantity: Quantity) -> Decimal:
    """The power of ten that the quantity's last shown digit stands for."""
    low, high = quantity.low, quantity.high
    known = [end for end in (quantity.value, low, high) if end is not None and math.isfinite(end)]
    if quantity.unit in _STEPPED:
        return Decimal(10) ** (_exponent(max(map(abs, known))) - _SIGNIFICANT_DIGITS + 1)
    if low is None or high is None or low == high or len(known) < 3:
        return _step_of_digits(quantity.value, 2 if quantity.unit in _TWO_DIGITS else _SIGNIFICANT_DIGITS)
    width = high - low
    exponent = _exponent(width)
    # A width that starts with 1 or 2 keeps a second digit: 1.2 and 1.9 must not both become "1 wide".
    if width < 3 * 10.0**exponent:
        exponent -= 1
    finest = _exponent(max(abs(low), abs(high))) - _MOST_DIGITS + 1
    return Decimal(10) ** max(exponent, finest)


def _step_of_digits(number: float, digits: int) -> Decimal:
    """Step for that many significant digits; never coarser than a whole below a million."""
    if not math.isfinite(number) or number == 0:
        return Decimal(1)
    exponent = _exponent(number) - digits + 1
    return Decimal(10) ** (exponent if abs(number) >= 1e6 else min(0, exponent))


def _exponent(number: float) -> int:
    """Decimal exponent of a number's first digit; 0 for zero."""
    return Decimal(repr(abs(number))).adjusted() if number else 0


def _to_step(number: float, step: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """The multiple of `step` that `rounding` leads to."""
    if not math.isfinite(number):
        return Decimal(0)
    return (_decimal(number) / step).to_integral_value(rounding=rounding).quantize(Decimal(1)) * step


def _decimal(number: float) -> Decimal:
    """A number with exactly the digits that its shortest spelling has; 40.0 has no decimals."""
    return Decimal(int(number)) if number == int(number) else Decimal(repr(number))


def _grouped(number: Decimal) -> str:
    """Plain digits with a comma between thousands; zero has no sign."""
    return f"{abs(number) if number == 0 else number:,f}"


def _probability(share: float) -> str:
    """A share of finitely many draws: never 0 % or 100 %."""
    sign = _SUFFIX[Unit.PERCENT]
    if share > 0.99:
        return f"> 99{sign}"
    return f"< 1{sign}" if share < 0.01 else f"{_to_step(share * 100, Decimal(1)):f}{sign}"
