from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.workload.lengths import (
    draw_rows,
    from_lengths,
    from_quantiles,
    from_shares,
    held_out_length,
    measured_lengths,
)
from castbench.workload.spec import LengthDistribution, Shape

TOKENS = st.integers(1, 20_000)
MIXES = st.one_of(
    st.lists(st.tuples(TOKENS, st.floats(0.01, 1.0)), min_size=1, max_size=20).map(from_shares),
    st.lists(TOKENS, min_size=1, max_size=300).map(from_lengths),
    st.lists(TOKENS, min_size=2, max_size=9).map(
        lambda tokens: from_quantiles([(i / (len(tokens) - 1), t) for i, t in enumerate(sorted(tokens))])
    ),
)


@given(MIXES)
def test_every_mix_is_a_distribution(mix: LengthDistribution) -> None:
    """Whatever it was made from, a mix is ascending and distinct, has no empty share, and sums to 1."""
    assert list(mix.tokens) == sorted(set(mix.tokens))
    assert all(share > 0 for share in mix.shares)
    assert math.fsum(mix.shares) == pytest.approx(1.0, abs=1e-12)


@given(MIXES, st.integers(1, 64))
def test_the_longest_of_a_batch_is_a_distribution_that_grows(mix: LengthDistribution, batch: int) -> None:
    """The longest of a batch sums to 1 and is on average no shorter than one request."""
    longest = mix.longest_of(batch)
    assert math.fsum(longest.shares) == pytest.approx(1.0, abs=1e-9)
    assert longest.mean_tokens >= mix.mean_tokens * (1 - 1e-9)


@given(st.lists(TOKENS, min_size=64, max_size=400))
def test_many_lengths_are_reduced_but_keep_mean_and_longest(lengths: list[int]) -> None:
    """A file of lengths becomes at most 64 lengths, with the same mean to a token and the same longest document."""
    mix = from_lengths(lengths)
    assert len(mix.tokens) <= 64
    assert mix.tokens[-1] == max(lengths)
    # slices hold whole documents, so that their shares differ from 1/63 by up to one document in len(lengths)
    assert mix.mean_tokens == pytest.approx(sum(lengths) / len(lengths), abs=1 + max(lengths) * 63 / len(lengths))


def test_lengths_in_equal_slices_keep_the_mean_to_a_token() -> None:
    """Where documents divide evenly into slices the mean is kept up to rounding."""
    lengths = [int(1000 * random.Random(1).random() ** 2) + 1 for _ in range(630)] + [5000] * 630
    assert from_lengths(lengths).mean_tokens == pytest.approx(sum(lengths) / len(lengths), abs=0.5)


def test_quantiles_keep_the_mean_of_straight_lines() -> None:
    """Quantiles 0, 1/2, 1 at 10, 1000, 8000 have the mean of two trapezoids, and the longest stays."""
    mix = from_quantiles([(0.0, 10), (0.5, 1000), (1.0, 8000)])
    assert mix.mean_tokens == pytest.approx((505 + 4500) / 2, abs=0.5)
    assert mix.tokens[-1] == 8000
    assert not mix.exact
    assert len(mix.tokens) <= 64


def test_shares_are_scaled_and_added() -> None:
    """Shares need not be sorted or distinct; they are added per length and scaled to 1."""
    mix = from_shares([(200, 1.0), (100, 2.0), (200, 1.0)])
    assert mix == LengthDistribution((100, 200), (0.5, 0.5), exact=True, source="shares")


@given(MIXES)
def test_the_grid_covers_the_mix(mix: LengthDistribution) -> None:
    """The grid ascends, reaches the longest document, starts no lower than a 64th of it, and has at most 5 points."""
    grid = measured_lengths(mix, ())
    assert list(grid) == sorted(set(grid))
    if mix.exact:
        assert grid == mix.tokens
        return
    assert len(grid) <= 5
    assert mix.tokens[-1] <= grid[-1] < mix.tokens[-1] + 64
    assert grid[0] * 64 >= grid[-1]
    assert all(length % 8 == 0 for length in grid)


@given(MIXES)
def test_the_held_out_length_lies_between_measured_ones(mix: LengthDistribution) -> None:
    """A held-out length is inside the grid and not on it; an exact mix has none."""
    grid = measured_lengths(mix, ())
    extra = held_out_length(mix, grid)
    if mix.exact:
        assert extra is None
    if extra is not None:
        assert grid[0] < extra < grid[-1]
        assert extra not in grid


def test_the_held_out_length_is_where_most_tokens_are() -> None:
    """With nearly all tokens between 512 and 2048 the geometric middle of that segment is held out."""
    mix = from_lengths([1500] * 60 + [100, 8192])
    assert held_out_length(mix, (128, 512, 2048, 8192)) == 1024


def test_lengths_asked_for_replace_the_grid() -> None:
    """`measure_lengths` wins over the grid, sorted and without repetition; an exact mix ignores it."""
    assert measured_lengths(from_quantiles([(0, 1), (1, 4000)]), (4096, 512, 512)) == (512, 4096)
    assert measured_lengths(from_shares([(100, 1.0)]), (4096,)) == (100,)


@given(MIXES, st.integers(1, 40), st.integers(1, 20_000), st.integers(0, 2**32))
def test_padded_rows_fit_and_one_is_full(mix: LengthDistribution, batch: int, seq_len: int, seed: int) -> None:
    """A padded batch has its number of rows, none above seq_len or outside the mix, and one exactly seq_len."""
    rows = draw_rows(mix, Shape(batch, seq_len), "padded", random.Random(seed))
    assert len(rows) == batch
    assert max(rows) == seq_len
    assert set(rows) <= {*mix.tokens, seq_len}


def test_padded_rows_follow_the_mix() -> None:
    """Rows beside the full one are drawn by their shares among the lengths that fit; the full one is anywhere."""
    mix = from_shares([(10, 0.25), (20, 0.25), (90, 0.5)])
    rng = random.Random(0)
    batches = [draw_rows(mix, Shape(4, 50), "padded", rng) for _ in range(4000)]
    others = [row for batch in batches for row in batch if row != 50]
    assert set(others) == {10, 20}
    assert others.count(10) / len(others) == pytest.approx(0.5, abs=0.03)
    assert {batch.index(50) for batch in batches} == {0, 1, 2, 3}


def test_bucketed_rows_are_all_full() -> None:
    """A bucketed batch has no padding at all."""
    assert draw_rows(from_shares([(10, 1.0)]), Shape(3, 64), "bucketed", random.Random(0)) == (64, 64, 64)
