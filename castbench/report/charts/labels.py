"""Words and places in charts: names that fit, labels that do not overlap, ticks at round numbers."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from castbench.report.text import legible

_WIDE = ("W", "F")


def fitted(words: str, cells: int) -> str:
    """Words in at most so many half-width cells, the middle left out (names differ at their ends), nothing that could
    steer the writing direction.
    """
    shown = legible(words)
    if _cells(shown) <= cells:
        return shown
    tail = _taken(reversed_words(shown), (cells - 1) // 2)
    head = _taken(shown, cells - 1 - _cells(tail))
    return head.rstrip() + "…" + reversed_words(tail).lstrip()


def reversed_words(words: str) -> str:
    """The characters from the last to the first."""
    return words[::-1]


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved as little as needs be, so that neighbours are `gap` apart and all lie between `low` and `high`;
    closer together where there is no room.
    """
    count = len(places)
    if count == 0:
        return []
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda index: places[index])
    moved = [min(max(places[index], low), high) for index in order]
    for index in range(1, count):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    moved[-1] = min(moved[-1], high)
    for index in range(count - 2, -1, -1):
        moved[index] = min(moved[index], moved[index + 1] - gap)
    placed = [0.0] * count
    for index, place in zip(order, moved, strict=True):
        placed[index] = place
    return placed


def free_places(
    points: Sequence[tuple[float, float]], widths: Sequence[float | None], right: float, bottom: float
) -> list[tuple[float, float] | None]:
    """The middle of a label of each width that hides no point and no other label: above its point, below it, or beside
    it; None for a point without a label (width None) and where there is no room between (0, 0) and (right, bottom).
    """
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    found: list[tuple[float, float] | None] = []
    for (x, y), width in zip(points, widths, strict=True):
        beside = 0.0 if width is None else width / 2 + 10
        tries = [(x, y - 15), (x, y + 15), (x + beside, y), (x - beside, y), (x + beside, y - 15), (x - beside, y + 15)]
        place = None
        for middle in tries if width is not None else ():
            box = (middle[0] - beside + 9, middle[1] - 7, middle[0] + beside - 9, middle[1] + 7)
            inside = box[0] >= 0 and box[1] >= -14 and box[2] <= right and box[3] <= bottom
            if inside and not any(_overlap(box, other) for other in taken):
                place = middle
                taken.append(box)
                break
        found.append(place)
    return found


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) share any room."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Powers of ten, with small multiples of them where there is room, between two numbers above zero."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= most:
            return inside if len(inside) > 1 else linear_ticks(low, high, 4)
    stride = math.ceil(len(inside) / most)
    return inside[::stride]


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two numbers."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first = math.ceil(low / step - 1e-9)
    # Steps are counted, not added up, and shown at the step's own digits: 3 × 0.1 is not 0.3 in binary.
    digits = max(0, -math.floor(math.log10(step)))
    count = math.floor(high / step + 1e-9) - first + 1
    return [float(f"{(first + index) * step:.{digits}f}") for index in range(count)]


def spaced(values: Sequence[float], places: Sequence[float], gap: float) -> list[float]:
    """The values whose places are at least `gap` apart, the last one kept."""
    kept: list[float] = []
    at = math.inf
    for value, place in sorted(zip(values, places, strict=True), key=lambda one: -one[1]):
        if at - place >= gap:
            kept.append(value)
            at = place
    return kept[::-1]


def _cells(words: str) -> int:
    """Half-width cells that words take: two for East Asian wide characters, none for combining ones."""
    return sum(_width(character) for character in words)


def _width(character: str) -> int:
    return 0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def _taken(words: str, cells: int) -> str:
    """The first characters that fit in so many cells."""
    taken = ""
    for character in words:
        cells -= _width(character)
        if cells < 0:
            break
        taken += character
    return taken
