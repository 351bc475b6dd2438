from __future__ import annotations

import itertools
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.report.charts import labels


def _cells(words: str) -> int:
    """Half-width cells, counted independently."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in words)


@given(st.text(max_size=60), st.integers(min_value=4, max_value=40))
def test_a_name_fits_its_place(words: str, cells: int) -> None:
    """Whatever the words, no more than so many cells are drawn; what fits is left as it is."""
    shown = labels.fitted(words, cells)
    assert _cells(shown) <= cells
    if words.isascii() and words.isprintable() and len(words) <= cells:
        assert shown == words


def test_a_long_name_keeps_both_ends() -> None:
    """Labels differ at their ends: 300 characters become a beginning, an ellipsis and an end."""
    shown = labels.fitted("cast-" + "x" * 300 + "-top_k", 21)
    assert shown == "cast-xxxxx…xxxx-top_k"


def test_directions_cannot_be_overridden() -> None:
    """The override that writes backwards does not reach a picture."""
    assert "\u202e" not in labels.fitted("abc\u202edef", 20)


@given(st.lists(st.floats(min_value=-50, max_value=350), min_size=1, max_size=30), st.floats(min_value=1, max_value=20))
def test_labels_do_not_overlap_and_keep_their_order(places: list[float], gap: float) -> None:
    """All lie in the plot, as far apart as asked or as there is room for, in the order of what they name."""
    moved = labels.apart(places, gap, 0.0, 300.0)
    assert all(-1e-6 <= at <= 300 + 1e-6 for at in moved)
    order = sorted(range(len(places)), key=lambda i: places[i])
    room = min(gap, 300 / max(1, len(places) - 1))
    for one, other in itertools.pairwise(order):
        assert moved[other] - moved[one] >= room - 1e-6


def test_labels_with_room_stay_where_they_belong() -> None:
    """Nothing is moved that does not overlap."""
    assert labels.apart([10.0, 200.0, 100.0], 14.0, 0.0, 300.0) == [10.0, 200.0, 100.0]


@given(st.floats(min_value=1e-6, max_value=1e6), st.floats(min_value=1.01, max_value=1e8))
def test_a_log_axis_has_a_few_ticks_inside(low: float, ratio: float) -> None:
    """One to eight or so ticks, within the axis, ascending."""
    ticks = labels.log_ticks(low, low * ratio)
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-9) <= tick <= low * ratio * (1 + 1e-9) for tick in ticks)


@given(st.floats(min_value=-100, max_value=100), st.floats(min_value=0.1, max_value=1e6))
def test_a_linear_axis_has_ticks_at_equal_round_steps(low: float, width: float) -> None:
    """Steps are 1, 2 or 5 times a power of ten."""
    ticks = labels.linear_ticks(low, low + width)
    widths = [b - a for a, b in itertools.pairwise(ticks)]
    assert 1 <= len(ticks) <= 8
    assert {round(step / 10 ** math.floor(math.log10(step) + 1e-6), 3) for step in widths} <= {1.0, 2.0, 5.0}


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.7), (0.0, 3.0)])
def test_ticks_are_spelled_without_binary_noise(low: float, high: float) -> None:
    """0.30000000000000004 is never a tick."""
    assert all(len(repr(tick)) <= 5 for tick in labels.linear_ticks(low, high))


def test_crowded_ticks_are_thinned_and_the_longest_stays() -> None:
    """Lengths that would run into each other lose some of them, never the last."""
    assert labels.spaced([1, 2, 3, 4], [0.0, 10.0, 36.0, 60.0], 25.0) == [2, 4]
    assert labels.spaced([512, 1024], [0.0, 100.0], 50.0) == [512, 1024]


@given(
    st.lists(
        st.tuples(st.floats(min_value=0, max_value=300), st.floats(min_value=0, max_value=200), st.integers(10, 90)),
        max_size=15,
    )
)
def test_notes_hide_neither_points_nor_each_other(found: list[tuple[float, float, int]]) -> None:
    """Every label that is placed is inside, and apart from all points and labels."""
    points, widths = [(x, y) for x, y, _ in found], [float(width) for _, _, width in found]
    placed = labels.free_places(points, widths, 300.0, 200.0)
    boxes = [
        (p[0] - w / 2, p[0] + w / 2, p[1] - 7, p[1] + 7) for p, w in zip(placed, widths, strict=True) if p is not None
    ]
    assert all(left >= -1 and right <= 301 and bottom <= 200 for left, right, _, bottom in boxes)
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert not any(left < x < right and top < y < bottom for x, y in points)
        for other in boxes[i + 1 :]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_a_lone_note_stands_above_its_point() -> None:
    """With room all around, the label is above; a point without a label gets none."""
    assert labels.free_places([(100.0, 100.0), (200.0, 100.0)], [40.0, None], 300.0, 200.0) == [(100.0, 85.0), None]
