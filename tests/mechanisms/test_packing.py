from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from castbench.mechanisms.packing import whole, without_padding

masks = st.integers(1, 4).flatmap(
    lambda batch: st.integers(1, 6).flatmap(
        lambda length: st.lists(
            st.lists(st.booleans(), min_size=length, max_size=length), min_size=batch, max_size=batch
        )
    )
)


@given(masks)
def test_packed_rows_stand_shortest_first_and_in_their_order(drawn: list[list[bool]]) -> None:
    """The real tokens of each row stand together and in order, rows by length, and rows without any are left out."""
    mask_BN = torch.tensor(drawn)
    rows = sorted(([(b, n) for n, padding in enumerate(row) if not padding] for b, row in enumerate(drawn)), key=len)
    batch, length = mask_BN.shape
    name_BN1 = torch.arange(batch * length).view(batch, length, 1)
    packing = without_padding(mask_BN)
    assert packing.lengths == tuple(len(row) for row in rows if row)
    wanted = [b * length + n for row in rows for b, n in row]
    assert packing.packed(name_BN1).flatten().tolist() == wanted
    assert sum(rows * length for rows, length in packing.groups()) == len(wanted)
    assert len({length for _, length in packing.groups()}) == len(packing.groups())


@given(masks, st.integers(0, 2**31))
def test_padding_again_is_the_way_back(drawn: list[list[bool]], seed: int) -> None:
    """What was packed comes back to its place, and padding is zero."""
    mask_BN = torch.tensor(drawn)
    x_BNX = torch.randn(*mask_BN.shape, 3, generator=torch.Generator().manual_seed(seed))
    packing = without_padding(mask_BN)
    assert torch.equal(packing.padded(packing.packed(x_BNX)), x_BNX.masked_fill(mask_BN.unsqueeze(-1), 0.0))


def test_nothing_is_moved_where_nothing_is_padding() -> None:
    """A mask without padding gives the packing of a batch without mask, and packed tokens are the batch's memory."""
    packing, x_BNX = without_padding(torch.zeros(3, 4, dtype=torch.bool)), torch.randn(3, 4, 2)
    assert packing == whole(3, 4)
    assert packing.groups() == [(3, 4)]
    for moved in (packing.packed(x_BNX), packing.padded(packing.packed(x_BNX))):
        assert moved.data_ptr() == x_BNX.data_ptr()


@pytest.mark.parametrize(("lengths", "starts"), [((4, 2, 0, 3), [0, 2, 5, 9]), ((0, 0), [0])])
def test_starts_are_the_cumulated_lengths(lengths: tuple[int, ...], starts: list[int]) -> None:
    """Kernels get int32 starts of the rows that have tokens, and the number of all tokens at the end."""
    found = without_padding(torch.arange(4) >= torch.tensor(lengths).unsqueeze(1)).starts(torch.device("cpu"))
    assert found.tolist() == starts
    assert found.dtype == torch.int32
