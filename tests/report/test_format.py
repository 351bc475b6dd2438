from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from castbench.report import format as fmt
from castbench.said import Quantity, Unit

finite = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


def _number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity(12.5671, Unit.MS, 12.3412, 12.8734), "12.6 ms (12.3–12.9)"),
        (Quantity(12.5671, Unit.MS), "12.6 ms"),
        (Quantity(1.9, Unit.TIMES, 1.9, 1.9), "1.90×"),
        (Quantity(5362.58, Unit.USD, 2681.29, 5362.58), "5,360 $ (2,680–5,360)"),
        (Quantity(7.346, Unit.USD_PER_HOUR, 3.673, 7.346), "7.35 $/h (3.67–7.35)"),
        (Quantity(-1.0, Unit.USD_PER_HOUR, -3.673, 2.0), "-1.00 $/h (-3.67 to 2.00)"),
        (Quantity(3.673, Unit.GIVEN), "3.673"),
        (Quantity(40.0, Unit.GIVEN), "40"),
        (Quantity(1247.3, Unit.MIB), "1,247 MiB"),
        (Quantity(61.04, Unit.PERCENT), "61 %"),
        (Quantity(4096, Unit.TOKENS), "4,096 tokens"),
    ],
)
def test_a_quantity_is_shown_with_the_digits_its_uncertainty_supports(quantity: Quantity, text: str) -> None:
    """Worked examples: intervals decide the step, lone values get three digits, given numbers keep theirs."""
    assert fmt.text(quantity) == text


@pytest.mark.parametrize(("share", "text"), [(1.0, "> 99 %"), (0.0, "< 1 %"), (0.61, "= 61 %"), (0.99, "= 99 %")])
def test_a_probability_is_never_shown_as_certain(share: float, text: str) -> None:
    """A share of finitely many draws is neither 0 % nor 100 %."""
    assert fmt.relation(Quantity(share, Unit.PROBABILITY)) == text


@given(low=finite, width=st.floats(min_value=1e-9, max_value=1e9))
def test_a_measured_interval_is_never_shown_narrower_than_it_is(low: float, width: float) -> None:
    """Rounding is outward: what is shown contains what was measured."""
    high = low + width
    assume(high > low)
    shown = fmt.spread(Quantity((low + high) / 2, Unit.MS, low, high), unit=False)
    separator = " to " if low < 0 else "–"
    ends = [_number(end) for end in shown.split(separator)]
    slack = 1e-12 * max(abs(low), abs(high))
    assert ends[0] <= low + slack
    assert ends[-1] >= high - slack


@given(number=finite)
def test_a_lone_value_is_off_by_less_than_one_in_two_hundred(number: float) -> None:
    """Three significant digits are kept at any size, and zero has no sign."""
    shown = fmt.value(Quantity(number, Unit.MS))
    assert math.isclose(_number(shown), number, rel_tol=0.005, abs_tol=1e-300)
    assert not (shown.startswith("-") and _number(shown) == 0)


def test_what_is_not_known_is_a_dash_and_never_a_zero() -> None:
    """None, NaN and infinities have no digits."""
    for unknown in (None, Quantity(math.nan, Unit.MS), Quantity(math.inf, Unit.MS)):
        assert fmt.value(unknown) == fmt.NOTHING
