from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from castbench.measure.largest_batch import MOST_ROWS, largest_batch
from castbench.records import BatchSearch


@given(st.integers(1, 5000), st.data())
def test_the_search_ends_at_the_last_batch_that_fits(limit: int, data: st.DataObject) -> None:
    """Whatever the limit and the start below it, the result is the limit itself and the first size beyond it."""
    known = data.draw(st.integers(1, limit))
    assert largest_batch(lambda size: size <= limit, known) == BatchSearch(limit, limit + 1)


def test_a_device_without_a_limit_in_reach_says_so() -> None:
    """Where everything fits, the search ends at the largest size it tries, and no failing size is claimed."""
    assert largest_batch(lambda _: True, 3) == BatchSearch(MOST_ROWS, None)


def test_sizes_known_to_fit_are_not_tried_again() -> None:
    """Doubling, then bisection: about two tries per doubling, each of another size."""
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= 1000

    largest_batch(fits, 4)
    assert len(tried) == len(set(tried)) <= 18
    assert 4 not in tried
