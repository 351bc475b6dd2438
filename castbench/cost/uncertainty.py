"""Which part the range of a saving comes from: the same draws with one part at a time switched off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from castbench.cost.bills import Bills
from castbench.cost.capacity import ROUNDING
from castbench.cost.draws import estimate
from castbench.cost.spec import Configuration, RangePart, RangeParts

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

_OF_TIMES: tuple[RangePart, ...] = ("rounds", "interpolation")
BillsWithout = Callable[[RangePart | None], Bills]
"""Bills of the same draws without the noise of rounds, or without the doubt about interpolation and data."""


def range_parts(
    bills_without: BillsWithout, baseline: Configuration, configuration: Configuration
) -> RangeParts | None:
    """Width of the range of the saving against `baseline`, and without each part; None where there is no range to give.

    Whole servers are left out first, since their steps may hide the rest: what they add is the difference to servers in
    fractions, and what the other parts add is taken in fractions.
    """
    whole = _width(bills_without(None), baseline, configuration, whole=True)
    fractional = _width(bills_without(None), baseline, configuration, whole=False)
    if whole is None or fractional is None:
        return None
    falls: dict[RangePart, float] = {"whole_servers": whole - fractional}
    without: list[tuple[RangePart, float]] = []
    for part in _OF_TIMES:
        width = _width(bills_without(part), baseline, configuration, whole=False) or 0.0
        without.append((part, width))
        falls[part] = fractional - width
    dominant = max(falls, key=falls.__getitem__)
    return RangeParts(
        configuration.label, whole, fractional, tuple(without), dominant if falls[dominant] > 0 else None
    )  # fmt: skip


def _width(bills: Bills, baseline: Configuration, configuration: Configuration, *, whole: bool) -> float | None:
    """Width of the 95 % interval of the saving, 0 where it is but floating-point noise of the bill; None where there is
    no saving or no interval.
    """
    here, there = bills.fleet(baseline), bills.fleet(configuration)
    if here is None or there is None or bills.price is None:
        return None
    units: Drawn = here.whole - there.whole if whole else here.fractional - there.fractional
    saving = estimate(units * bills.price.usd_per_hour)
    if saving.low is None or saving.high is None:
        return None
    width = saving.high - saving.low
    return width if width > ROUNDING * float(here.whole[0]) * bills.price.usd_per_hour else 0.0
