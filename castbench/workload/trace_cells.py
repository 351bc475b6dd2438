"""Cells of a trace as numbers: seconds of arrival and whole tokens, and what is wrong with every cell that is neither.

A block of sound cells is converted at once; only a block that is not gets looked at cell by cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from castbench.errors import InputError
from castbench.workload.length_file import MAX_TOKENS
from castbench.workload.spec import TimeUnit
from castbench.workload.trace_layouts import unit_needed
from castbench.workload.trace_tables import NoCell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Faults = NDArray[np.int8]

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)
_NOTHING = {"", "null", "none", "na", "n/a"}
_SECOND = timedelta(seconds=1)


class Fault(IntEnum):
    """What is wrong with a cell; a row is counted under the first fault of its time, else of its length."""

    NONE = 0
    MISSING = 1
    TEXT = 2
    NOT_FINITE = 3
    NEGATIVE = 4
    ZERO = 5
    FRACTION = 6
    TOO_LARGE = 7
    NO_TIME = 8
    OTHER_ZONE = 9
    SECOND_HEADER = 10
    MISFIT = 11
    UNREADABLE = 12


WORDS = {
    Fault.MISSING: "missing",
    Fault.TEXT: "not a number",
    Fault.NOT_FINITE: "NaN or infinite",
    Fault.NEGATIVE: "negative",
    Fault.ZERO: "zero",
    Fault.FRACTION: "not a whole number",
    Fault.TOO_LARGE: f"above {MAX_TOKENS:,}",
    Fault.NO_TIME: "not a time in ISO 8601",
    Fault.OTHER_ZONE: "with a time zone where the first has none, or the other way round",
    Fault.SECOND_HEADER: "a second header",
    Fault.MISFIT: "another number of cells than the header",
    Fault.UNREADABLE: "no JSON object",
}
WHOLE_ROW = (Fault.SECOND_HEADER, Fault.MISFIT, Fault.UNREADABLE)
"""Faults of a row rather than of one of its cells."""


def token_counts(cells: Sequence[Any], column: str) -> tuple[Numbers, Faults]:
    """Lengths in tokens with the fault of each that is no whole number from 1 to 10 million."""
    import numpy as np

    values, faults = _numbers(cells, column)
    sound = faults == Fault.NONE
    with np.errstate(invalid="ignore"):
        for wrong, fault in (
            (values < 0, Fault.NEGATIVE), (values == 0, Fault.ZERO), (values != np.floor(values), Fault.FRACTION),
            (values > MAX_TOKENS, Fault.TOO_LARGE),
        ):  # fmt: skip
            faults[sound & wrong & (faults == Fault.NONE)] = fault
    return values, faults


def output_counts(cells: Sequence[Any], column: str) -> Numbers:
    """Generated tokens; NaN where there is no number of at least 0, which is then counted as not known."""
    import numpy as np

    values, faults = _numbers(cells, column)
    values[(faults != Fault.NONE) | (values < 0)] = np.nan
    return values


class ArrivalTimes:
    """Reads a column of times as seconds after the first sound one; the unit is settled by the first block if need be.

    Seconds after the first, because a float holds those to the microsecond for 200 years, but not seconds since 1970
    in nanoseconds.
    """

    def __init__(self, column: str, unit: TimeUnit | None) -> None:
        self.column = column
        self.unit = unit
        self._origin: float | datetime | None = None

    def seconds(self, cells: Sequence[Any]) -> tuple[Numbers, Faults]:
        """Seconds after the first time of the trace, with the fault of every cell that is no time.

        Raises InputError for numbers of which nothing says the unit.
        """
        if self.unit is None:
            self.unit = self._unit_of(cells)
        return self._dates(cells) if self.unit == "iso" else self._scaled(cells, _PER_SECOND[self.unit])

    def _unit_of(self, cells: Sequence[Any]) -> TimeUnit:
        """The unit iso for text and dates; a number does not say what it counts."""
        first = next((cell for cell in cells if _one_number(cell, self.column)[1] is not Fault.MISSING), None)
        number, fault = _one_number(first, self.column)
        if fault is Fault.NONE:
            raise InputError(unit_needed(self.column, number))
        return "iso"

    def _scaled(self, cells: Sequence[Any], per_second: float) -> tuple[Numbers, Faults]:
        """Numbers in some unit as seconds after the first."""
        import numpy as np

        values, faults = _numbers(cells, self.column)
        with np.errstate(invalid="ignore"):
            faults[(faults == Fault.NONE) & (values < 0)] = Fault.NEGATIVE
        sound = values[faults == Fault.NONE]
        if not isinstance(self._origin, float) and sound.size:
            self._origin = float(sound[0])
        origin = self._origin if isinstance(self._origin, float) else 0.0
        return (values - origin) / per_second, faults

    def _dates(self, cells: Sequence[Any]) -> tuple[Numbers, Faults]:
        """Dates as seconds after the first."""
        import numpy as np

        try:
            read = set(map(type, cells)) == {datetime}
            dates: list[Any] = list(cells) if read else list(map(datetime.fromisoformat, cells))
            origin = dates[0] if self._origin is None else self._origin
            seconds = np.array([(date - origin) / _SECOND for date in dates], dtype=np.float64)
        except (TypeError, ValueError):  # some cell is no date, or of another zone: find out which
            return self._dates_one_by_one(cells)
        self._origin = origin
        return seconds, np.zeros(len(cells), dtype=np.int8)

    def _dates_one_by_one(self, cells: Sequence[Any]) -> tuple[Numbers, Faults]:
        """The same for a block that may hold anything."""
        import numpy as np

        read = [self._one_date(cell) for cell in cells]
        seconds = np.array([second for second, _ in read], dtype=np.float64)
        return seconds, np.array([fault for _, fault in read], dtype=np.int8)

    def _one_date(self, cell: Any) -> tuple[float, Fault]:
        """Seconds after the first date, or what is wrong."""
        date = cell
        if not isinstance(cell, datetime):
            fault = _fault_of_no_number(cell, self.column)
            if fault not in (Fault.TEXT, Fault.NONE):
                return float("nan"), fault
            try:
                date = datetime.fromisoformat(cell.strip())
            except (AttributeError, ValueError):
                return float("nan"), Fault.NO_TIME
        if self._origin is None:
            self._origin = date
        try:
            return (date - self._origin) / _SECOND, Fault.NONE
        except TypeError:
            return float("nan"), Fault.OTHER_ZONE


def _numbers(cells: Sequence[Any], column: str) -> tuple[Numbers, Faults]:
    """Cells as numbers; NaN with its fault where a cell is none."""
    import numpy as np

    values = _all_at_once(cells)
    if values is None:
        read = [_one_number(cell, column) for cell in cells]
        numbers = np.array([number for number, _ in read], dtype=np.float64)
        return numbers, np.array([fault for _, fault in read], dtype=np.int8)
    numbers = np.array(values, dtype=np.float64)
    faults = np.zeros(len(cells), dtype=np.int8)
    faults[~np.isfinite(numbers)] = Fault.NOT_FINITE
    return numbers, faults


def _all_at_once(cells: Sequence[Any]) -> list[float] | None:
    """The cells as floats if every one is a number or a text of one; None if some need a closer look."""
    kinds = set(map(type, cells))
    if kinds == {str}:
        text = "".join(cells)
        if "_" in text or not text.isascii():  # float() takes 1_000 and digits of other scripts, a table does not
            return None
    elif not kinds <= {int, float}:
        return None
    try:
        return list(map(float, cells))
    except (ValueError, OverflowError):
        return None


def _one_number(cell: Any, column: str) -> tuple[float, Fault]:
    """A cell as a number, or what is wrong with it."""
    fault = _fault_of_no_number(cell, column)
    if fault is not Fault.NONE:
        return float("nan"), fault
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return float("nan"), Fault.TEXT
    except OverflowError:
        return float("inf"), Fault.TOO_LARGE
    return number, Fault.NONE if math.isfinite(number) else Fault.NOT_FINITE


def _fault_of_no_number(cell: Any, column: str) -> Fault:
    """What is wrong with a cell that cannot be a number; NONE for one that may be."""
    if isinstance(cell, NoCell):
        return Fault.MISFIT if cell is NoCell.MISFIT else Fault.UNREADABLE
    if cell is None:
        return Fault.MISSING
    if isinstance(cell, bool):
        return Fault.TEXT
    if not isinstance(cell, str):
        return Fault.NONE
    text = cell.strip()
    if text.lower() in _NOTHING:
        return Fault.MISSING
    if text == column:
        return Fault.SECOND_HEADER
    if _NOT_FINITE.fullmatch(text):
        return Fault.NOT_FINITE
    return Fault.NONE if _NUMBER.fullmatch(text) else Fault.TEXT
