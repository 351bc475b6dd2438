"""CAST's choice G(A_g): who is in which cluster, by integer keys that order A_g without ties; without gradient.

Shape suffixes: B batch, N tokens, C clusters, K places per cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_PADDING_KEY = -1
"""Below the key of every real token; see choice_keys."""


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in which cluster: token indices, BCK, and which places are taken, BCK (None: all of them).

    A place that is not taken points at a token of the same row, a real one wherever the row has any.
    """

    index: Tensor
    taken: Tensor | None

    @property
    def empty(self) -> Tensor | None:
        """Clusters without a member, BC; None where all places are taken."""
        return None if self.taken is None else ~self.taken.any(-1)


def best_of_each_cluster(key_BNC: Tensor, places: int, sizes_B: Tensor | None) -> Members:
    """top_k: the tokens of every cluster's largest keys; the best `sizes_B` of them where rows differ."""
    index_BCK = key_BNC.topk(places, dim=1).indices.transpose(1, 2)
    if sizes_B is None:
        return Members(index_BCK, None)
    taken_BCK = (torch.arange(places, device=index_BCK.device) < sizes_B.view(-1, 1, 1)).expand_as(index_BCK)
    return Members(torch.where(taken_BCK, index_BCK, index_BCK[..., :1]), taken_BCK)


def each_token_once(key_BNC: Tensor, places: int, sizes_B: Tensor | None) -> Members:
    """single_assignment: the greedy assignment as members in ascending order of tokens."""
    length, clusters = key_BNC.shape[1:]
    cluster_BN = assign_greedily(key_BNC, places, sizes_B)
    # Padding carries the number C, so that it is sorted behind every cluster.
    order_BN = cluster_BN.sort(dim=1, stable=True).indices
    counts_BC = functional.one_hot(cluster_BN, clusters + 1).sum(1)[:, :clusters]
    start_BC1 = (counts_BC.cumsum(1) - counts_BC).unsqueeze(-1)
    place_K = torch.arange(places, device=key_BNC.device)
    taken_BCK = place_K < counts_BC.unsqueeze(-1)
    from_BCK = torch.where(taken_BCK, start_BC1 + place_K, 0)
    index_BCK = order_BN.gather(1, from_BCK.flatten(1)).view_as(from_BCK)
    all_taken = sizes_B is None and clusters * places == length
    return Members(index_BCK, None if all_taken else taken_BCK)


def assign_greedily(key_BNC: Tensor, places: int, sizes_B: Tensor | None) -> Tensor:
    """Cluster of every token, C for padding: what taking all pairs by descending key, where both are free, gives.

    Found by deferred acceptance, to which both sides' orders by the same keys lead as well: every token asks the
    cluster it likes best, a cluster keeps its best and thereby sets a bar, and those below the bar ask elsewhere.
    Bars only rise; random inputs settle within some ten rounds.
    """
    batch, _, clusters = key_BNC.shape
    last_B11 = torch.full((batch, 1, 1), places - 1, device=key_BNC.device)
    if sizes_B is not None:
        last_B11 = (sizes_B - 1).clamp(min=0).view(-1, 1, 1)
    bar_B1C = torch.full((batch, 1, clusters), _PADDING_KEY, device=key_BNC.device)
    while True:
        liking_BN1, cluster_BN1 = key_BNC.masked_fill(key_BNC < bar_B1C, _PADDING_KEY).max(-1, keepdim=True)
        asking_BNC = torch.full_like(key_BNC, _PADDING_KEY).scatter_(-1, cluster_BN1, liking_BN1)
        best_BKC = asking_BNC.topk(places, dim=1).values
        raised_B1C = best_BKC.gather(1, last_B11.expand(-1, -1, clusters))
        if torch.equal(raised_B1C, bar_B1C):
            return torch.where(liking_BN1 == _PADDING_KEY, clusters, cluster_BN1).squeeze(-1)
        bar_B1C = raised_B1C


def choice_keys(gated_BNC: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Integers in the order of A_g, ties to the lower token, all different within a cluster; −1 at padding.

    The upper half is the order of the values: positive float32 numbers are ordered as their bits are; wider ones
    are ranked. The lower half makes an earlier token's key the larger one.
    """
    if gated_BNC.dtype == torch.float32:
        order_BNC = gated_BNC.view(torch.int32).to(torch.int64)
    else:
        order_BNC = torch.unique(gated_BNC, return_inverse=True)[1]
    length = gated_BNC.shape[1]
    falling_N1 = torch.arange(length - 1, -1, -1, device=gated_BNC.device).unsqueeze(-1)
    key_BNC = (order_BNC << 32) | falling_N1
    return key_BNC if mask_BN is None else key_BNC.masked_fill(mask_BN.unsqueeze(-1), _PADDING_KEY)
