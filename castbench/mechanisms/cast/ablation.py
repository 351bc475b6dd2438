"""Members chosen without a look at the tokens, to measure what CAST's learned choice is worth.

Shape suffixes: B batch, N tokens, C clusters, K places per cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from castbench.mechanisms.cast import Assignment, scattered
from castbench.mechanisms.cast.choice import Members


def by_place(
    assignment: Assignment, padding_BN: Tensor, size_B: Tensor, num_clusters: int, places: int
) -> Members:  # fmt: skip
    """Cluster c holds the row's real tokens c·K to (c + 1)·K − 1: in their own order (`contiguous`), or in one that
    is scattered the same way for every row (`random`). K is the row's own `size_B`, at most `places`.
    """
    rank_BN = (~padding_BN).cumsum(1) - 1
    score_BN = scattered(rank_BN) if assignment == "random" else rank_BN
    order_BN = score_BN.masked_fill(padding_BN, 2**33).argsort(1)
    device, size_B11 = padding_BN.device, size_B.view(-1, 1, 1)
    place_K = torch.arange(places, device=device)
    seat_BCK = torch.arange(num_clusters, device=device).unsqueeze(-1) * size_B11 + place_K
    taken_BCK = (place_K < size_B11) & (seat_BCK < (rank_BN[:, -1:] + 1).unsqueeze(-1))
    index_BCK = order_BN.gather(1, torch.where(taken_BCK, seat_BCK, 0).flatten(1)).view_as(seat_BCK)
    return Members(index_BCK, taken_BCK)
