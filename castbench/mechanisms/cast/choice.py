"""CAST's choice G(A_g): who is in which cluster, by integer keys in the order of A_g; without gradient.

Shape suffixes: B batch, N tokens, C clusters, K places per cluster; of all rows together T = B·N tokens and G = B·C
clusters; of those F clusters that are asked by too many, P tokens that ask them, and R tokens turned away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from castbench.mechanisms.cast import BALANCED_ROUNDS

_LOW = 2**32 - 1
"""Keys are made different by a number of 32 bits below them; T·C stays below it (such keys would take 16 GiB)."""
_NEVER = -(2**62)
"""Below every key."""
_BLOCKWISE_FROM = 2**16
"""A_g's entries from which top_k looks at blocks first; below, and on GPUs, its extra launches cost more."""


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


def choice_keys(gated_BNC: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Integers in the order of A_g, equal where A_g is, BNC; −1 at padding. Those who choose break the ties.

    Positive float32 numbers are ordered as their bits are (int32, nothing is copied); wider ones are ranked (int64).
    """
    if gated_BNC.dtype == torch.float32:
        key_BNC = gated_BNC.view(torch.int32)
    else:
        key_BNC = torch.unique(gated_BNC, return_inverse=True)[1]
    # All bits set is −1; an operation on words is several times as fast as filling by a mask.
    return key_BNC if mask_BN is None else key_BNC | -mask_BN.to(key_BNC.dtype).unsqueeze(-1)


def best_of_each_cluster(key_BNC: Tensor, places: int, sizes_B: Tensor | None) -> Members:
    """top_k: the tokens of every cluster's largest keys, ties to the lower; the best `sizes_B` where rows differ."""
    ranked = sizes_B is not None
    # A power of two near √(N/K), where both steps have least to look at.
    block = 1 << ((key_BNC.shape[1] // places).bit_length() - 1) // 2
    if block > 1 and key_BNC.device.type == "cpu" and key_BNC.numel() >= _BLOCKWISE_FROM:
        index_BCK = _best_by_blocks(key_BNC, places, block, ranked)
    else:
        tokens = torch.arange(key_BNC.shape[1], device=key_BNC.device)
        index_BCK = _distinct(key_BNC.transpose(1, 2), tokens).topk(places, sorted=ranked).indices
    if sizes_B is None:
        return Members(index_BCK, None)
    taken_BCK = (torch.arange(places, device=index_BCK.device) < sizes_B.view(-1, 1, 1)).expand_as(index_BCK)
    return Members(torch.where(taken_BCK, index_BCK, index_BCK[..., :1]), taken_BCK)


def _best_by_blocks(key_BNC: Tensor, places: int, block: int, ranked: bool) -> Tensor:
    """The best tokens of every cluster, BCK, by way of the best blocks of neighbouring tokens.

    The K best tokens lie in the K blocks with the best best tokens (ties to the lower block, as to the lower token):
    a token of any other block is beaten by K blocks' best. That leaves N/block + K·block candidates instead of N.
    """
    batch, length, clusters = key_BNC.shape
    blocks = length // block
    peak_BNC = key_BNC[:, : blocks * block].reshape(batch, blocks, block, clusters).amax(2)
    number_N = torch.arange(length, device=key_BNC.device)
    best_BCK = _distinct(peak_BNC.transpose(1, 2), number_N[:blocks]).topk(places, sorted=False).indices
    token_BCN = (best_BCK.unsqueeze(-1) * block + number_N[:block]).flatten(2)
    if blocks * block < length:
        rest_BCN = number_N[blocks * block :].expand(batch, clusters, -1)
        token_BCN = torch.cat((token_BCN, rest_BCN), -1)
    column_C1 = torch.arange(clusters, device=key_BNC.device).unsqueeze(-1)
    entry_BCN = token_BCN * clusters + column_C1 + _row_starts(batch, length * clusters, key_BNC.device)
    key_BCN = key_BNC.reshape(-1)[entry_BCN]
    return -_distinct(key_BCN, token_BCN).topk(places, sorted=ranked).values & _LOW


def each_token_once(key_BNC: Tensor, places: int, sizes_B: Tensor | None) -> Members:
    """single_assignment: the greedy assignment as members in ascending order of tokens."""
    group_T, _ = assign_greedily(key_BNC, places, sizes_B)
    first_G = torch.arange(key_BNC.shape[0] * key_BNC.shape[2] + 1, device=key_BNC.device)
    sorted_T, order_T = group_T.sort(stable=True)
    return _members(order_T, torch.searchsorted(sorted_T, first_G), key_BNC, places, sizes_B, late=False)


def assign_greedily(key_BNC: Tensor, places: int, sizes_B: Tensor | None) -> tuple[Tensor, int]:
    """Cluster of every token among those of all rows, G for padding, T, and the number of rounds this took.

    What taking all pairs by descending key, where both are free, gives (ties: lower token, then lower cluster), found
    by deferred acceptance, to which both sides' orders by the same keys lead as well: every token asks the cluster it
    likes best, a cluster keeps its best and thereby sets a bar, and those below the bar ask elsewhere.

    At most C + 1 rounds. Let clusters fill in the order c1, c2, … while pairs are taken. Whom c(r) then holds likes
    only c1 … c(r−1) better; where the bars of these are final after r − 1 rounds, all of them ask c(r) in round r, so
    that its bar, which never passes its final height, reaches it. The last round turns nobody away.

    A round looks only at tokens turned away and at the members of clusters asked by too many; how many these are is
    read from the device, some host synchronisations per round.
    """
    batch, length, clusters = key_BNC.shape
    key_TC, groups = key_BNC.reshape(-1, clusters), batch * clusters
    liking_T, group_T = key_TC.max(-1)
    group_T = group_T + _row_starts(batch, clusters, key_BNC.device).expand(-1, length, -1).flatten()
    group_T = group_T.masked_fill(liking_T < 0, groups)
    room_G = _rooms(batch, clusters, places, sizes_B, key_BNC.device).flatten()
    bar_G, asks_G = torch.full_like(room_G, _NEVER), torch.bincount(group_T, minlength=groups + 1)[:groups]
    rounds = 1
    while True:
        full_F = (asks_G > room_G).nonzero().squeeze(-1)
        if not len(full_F):
            return group_T, rounds
        turned_R, last_F = _turned_away(liking_T, group_T, asks_G, room_G, full_F)
        bar_G[full_F] = (liking_T[last_F].long() << 32) - (last_F * clusters + full_F % clusters)
        liking_T[turned_R], group_T[turned_R] = _next_choices(key_TC, turned_R, bar_G.view(batch, clusters))
        asks_G[full_F] = room_G[full_F]
        asks_G = asks_G + torch.bincount(group_T[turned_R], minlength=groups)
        rounds += 1


def _turned_away(
    liking_T: Tensor, group_T: Tensor, asks_G: Tensor, room_G: Tensor, full_F: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens beyond their cluster's room, R, and the last token within the room of every such cluster, F."""
    is_full_G = torch.zeros(len(asks_G) + 1, dtype=torch.bool, device=asks_G.device)
    is_full_G[full_F] = True
    asking_P = is_full_G[group_T].nonzero().squeeze(-1)
    # By cluster, then by falling key; equals stay in the order of tokens.
    asking_P = asking_P[((group_T[asking_P] << 32) - liking_T[asking_P]).sort(stable=True).indices]
    asks_F, room_F = asks_G[full_F], room_G[full_F]
    first_out_F, out_F = asks_F.cumsum(0) - asks_F + room_F, asks_F - room_F
    shift_F = first_out_F - (out_F.cumsum(0) - out_F)
    shift_R = shift_F.repeat_interleave(out_F)
    return asking_P[shift_R + torch.arange(len(shift_R), device=shift_R.device)], asking_P[first_out_F - 1]


def _next_choices(key_TC: Tensor, turned_R: Tensor, bar_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Key and cluster that each token turned away likes best among those whose bar it reaches, R."""
    batch, clusters = bar_BC.shape
    pair_R1 = (turned_R * clusters).unsqueeze(-1)
    # Every pair of token and cluster has a key of its own: the lower pair's is larger among equals.
    key_RC = _distinct(key_TC[turned_R], pair_R1).sub_(torch.arange(clusters, device=key_TC.device))
    row_R = turned_R // (len(key_TC) // batch)
    bar_RC = bar_BC if batch == 1 else bar_BC[row_R]
    best_R = key_RC.masked_fill_(key_RC < bar_RC, _NEVER).amax(-1)
    cluster_R = (-best_R & _LOW) - pair_R1.squeeze(-1)
    return ((best_R + _LOW) >> 32).to(key_TC.dtype), cluster_R + row_R * clusters


def each_token_once_balanced(
    key_BNC: Tensor, places: int, sizes_B: Tensor | None, rounds: int = BALANCED_ROUNDS
) -> Members:
    """balanced: single_assignment stopped after so many rounds; who is turned away by then gets a free place.

    Tokens turned away, by cluster and there the best first, take the free places in the order of clusters: every real
    token is in one cluster and none holds more than its places, given C·K ≥ n. A token may ask wherever its key is
    not below the bar, and A_g in float32 is read to 23 − ⌈log2 C⌉ bits; with rounds > C, nothing else differs from
    single_assignment.

    The work depends on shapes alone: no host synchronisation, fit for torch.compile and CUDA graphs.
    """
    batch, length, clusters = key_BNC.shape
    tokens, device = batch * length, key_BNC.device
    width, coded_BNC = _coded(key_BNC, padded=sizes_B is not None)
    work_BNC, sign = torch.empty_like(coded_BNC), 8 * coded_BNC.element_size() - 1
    row_T = _row_starts(batch, clusters, device).expand(-1, length, -1).flatten() << 32
    edge_G1 = torch.arange(batch * clusters + 1, device=device) << 32
    room_G = _rooms(batch, clusters, places, sizes_B, device).flatten()
    best_T, bar_B1C = coded_BNC.amin(-1).flatten(), coded_BNC.new_zeros(batch, 1, clusters)
    for number in range(rounds):
        if number:
            # The sign of code − bar, spread over all bits, keeps codes below the bar and makes the others 0.
            torch.sub(coded_BNC, bar_B1C, out=work_BNC)
            best_T = work_BNC.bitwise_right_shift_(sign).bitwise_and_(coded_BNC).amin(-1).flatten()
        asks_T = ((best_T & ((1 << width) - 1)).long() << 32).add_(best_T >> width)
        asks_T = asks_T + row_T if batch > 1 else asks_T
        if sizes_B is not None:
            asks_T = torch.where(best_T < 0, asks_T, edge_G1[-1])
        sorted_T, order_T = asks_T.sort(stable=True)
        start_G1 = torch.searchsorted(sorted_T, edge_G1 - 2**31)
        last_G = start_G1[:-1] + (room_G - 1)
        height_G = sorted_T[last_G.clamp(0, tokens - 1)] - (edge_G1[:-1] - 1) << width
        bar_B1C = torch.where(start_G1[1:] > last_G, height_G, 0).view(batch, 1, clusters).to(coded_BNC.dtype)
    return _members(order_T, start_G1, key_BNC, places, sizes_B, late=True)


def _coded(key_BNC: Tensor, *, padded: bool) -> tuple[int, Tensor]:
    """Negative numbers whose least over the clusters tells the best key and, in its low bits, the lowest cluster of it.

    How many bits these are, and the numbers, BNC; 0 at padding. Ranks (int64) keep all their bits.
    """
    clusters = key_BNC.shape[-1]
    width = (clusters - 1).bit_length()
    if key_BNC.dtype == torch.int64:
        key_BNC = key_BNC << width
    number_C = torch.arange(clusters, device=key_BNC.device, dtype=key_BNC.dtype)
    coded_BNC = (key_BNC | ((1 << width) - 1)).bitwise_xor_(~number_C)
    return width, coded_BNC.clamp_(max=0) if padded else coded_BNC


def _members(
    order_T: Tensor, start_G1: Tensor, key_BNC: Tensor, places: int, sizes_B: Tensor | None, *, late: bool
) -> Members:
    """Tokens sorted by the cluster they ask as its members, as many as have a place; if `late`, the others elsewhere.

    `start_G1` says where each cluster's tokens begin among the sorted ones, and at last where padding does.
    """
    batch, length, clusters = key_BNC.shape
    room_BC1 = _rooms(batch, clusters, places, sizes_B, key_BNC.device).unsqueeze(-1)
    start_BC1, asks_BC1 = start_G1[:-1].view_as(room_BC1), (start_G1[1:] - start_G1[:-1]).view_as(room_BC1)
    place_K = torch.arange(places, device=key_BNC.device)
    position_BCK, taken_BCK = start_BC1 + place_K, place_K < asks_BC1.minimum(room_BC1)
    if late:
        late_BCK, placed_BCK = _late_positions(start_BC1, asks_BC1, room_BC1, place_K)
        position_BCK, taken_BCK = torch.where(taken_BCK, position_BCK, late_BCK), taken_BCK | placed_BCK
    position_BCK = torch.where(taken_BCK, position_BCK, start_BC1[:, :1]).clamp(max=len(order_T) - 1)
    # In a row of padding alone, where no place is taken, the first sorted token is another row's.
    index_BCK = (order_T[position_BCK] - _row_starts(batch, length, key_BNC.device)).clamp(0, length - 1)
    all_taken = sizes_B is None and clusters * places == length
    return Members(index_BCK, None if all_taken else taken_BCK)


def _late_positions(start_BC1: Tensor, asks_BC1: Tensor, room_BC1: Tensor, place_K: Tensor) -> tuple[Tensor, Tensor]:
    """Where the token stands that fills each free place, and which places are filled so, BCK.

    The row's free places and its tokens without a place are numbered in the order of clusters; equal numbers meet.
    """
    kept_BC1 = asks_BC1.minimum(room_BC1)
    over_BC, free_BC1 = (asks_BC1 - kept_BC1).squeeze(-1), room_BC1 - kept_BC1
    over_end_BC = over_BC.cumsum(1)
    number_BCK = free_BC1.cumsum(1) - room_BC1 + place_K
    number_BX = number_BCK.flatten(1)
    from_BX = torch.searchsorted(over_end_BC, number_BX, right=True).clamp(max=over_BC.shape[1] - 1)
    shift_BC = (start_BC1 + room_BC1).squeeze(-1) - (over_end_BC - over_BC)
    position_BCK = (number_BX + shift_BC.gather(1, from_BX)).view_as(number_BCK)
    is_free_BCK = (place_K >= kept_BC1) & (place_K < room_BC1)
    return position_BCK, is_free_BCK & (number_BCK < over_end_BC[:, -1:, None])


def _distinct(key: Tensor, number: Tensor) -> Tensor:
    """Keys in the same order and, among equals, in the order of falling numbers; contiguous, so that topk is fast."""
    wide = key.to(torch.int64, copy=True, memory_format=torch.contiguous_format)
    return wide.bitwise_left_shift_(32).sub_(number)


def _row_starts(batch: int, step: int, device: torch.device) -> Tensor:
    """Where each row begins when rows of so many entries stand one after another, B11."""
    return (torch.arange(batch, device=device) * step).view(batch, 1, 1)


def _rooms(batch: int, clusters: int, places: int, sizes_B: Tensor | None, device: torch.device) -> Tensor:
    """Places of every cluster, BC."""
    if sizes_B is None:
        return torch.full((batch, clusters), places, device=device)
    return sizes_B.unsqueeze(-1).expand(-1, clusters).contiguous()
