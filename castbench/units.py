"""Conversions and spellings of units: SI inside, people's units only at the edges."""

from __future__ import annotations

import re

MIB = 1024**2
GIB = 1024**3
HOURS_PER_MONTH = 730.0
"""Hours in a month as cloud providers bill it: 365 * 24 / 12."""
HOURS_PER_YEAR = 8760.0
SECONDS_PER_HOUR = 3600.0

_DURATION_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|m|h)")


def parse_duration_s(text: str) -> float:
    """Seconds in `text` such as 90s, 5m or 1.5h (command-line options only); ValueError says the right spelling."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match["number"]) == 0:
        raise ValueError(f"expected a duration above zero such as 90s, 5m or 1.5h, got {text!r}")
    return float(match["number"]) * _DURATION_UNITS[match["unit"]]


def mib(size_bytes: float) -> float:
    """Bytes as MiB."""
    return size_bytes / MIB


def ms(duration_s: float) -> float:
    """Seconds as milliseconds."""
    return duration_s * 1e3
