"""CAST's mixing R without gradients: what mixing.py computes, in slices that fit a core's cache, added to R in place.

    tokens   slice by slice   A_q ─▶ Σ_h A_q, for the choice; the largest score over clusters
    clusters slice by slice   gather q k v ─▶ R_intra, R_inter ─▶ R += e^(own score − largest)·(R_intra − R_inter)
    tokens   slice by slice   A_q once more ─▶ E = e^(score − largest) ─▶ R = (R + E @ R_inter) / Σ_c E

A_q of all tokens is H·C numbers per token, often as many as q, k and v; computing it twice then costs less than
fetching so much memory. Shape suffixes as in mixing.py; r rows and t tokens of a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from castbench.mechanisms.cast import SLICE_BYTES
from castbench.mechanisms.cast.choice import Members
from castbench.mechanisms.cast.mixing import (
    Gates,
    Slice,
    attention_within,
    left_out,
    own_scores,
    slices_of,
    summaries_of,
    wide,
)

Tokens = tuple[slice, slice]
"""Some rows, and some of their tokens: what indexes the first two axes."""
KEPT_SHARE, KEPT_BYTES = 1 / 3, 8 * 1024**2
"""Scores are kept where they are at most this share of q, k and v and this large: fresh memory beyond it costs more
than the product that makes them anew.
"""


def mix_sliced(
    qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, choose: Callable[[Tensor], Members], *, with_summaries: bool
) -> Tensor:
    """R_BNM; `choose` makes the members of Σ_h A_q, TC."""
    batch, length, _ = qkv_BNX.shape
    clusters, heads, width = surrogate_CHD.shape
    scores = Scores(qkv_BNX, surrogate_CHD, gates)
    summed_BNC, largest_BNH = scores.first_look()
    members = choose(summed_BNC.flatten(0, 1))
    out_TC = left_out(members, gates, with_summaries=with_summaries)
    if out_TC is not None:
        scores.out_BNC = out_TC.view(batch, length, clusters)
        largest_BNH = scores.largest()
    mixed_BNM = qkv_BNX.new_zeros(batch, length, heads * width)
    summary_BCHD = qkv_BNX.new_zeros(batch, clusters, heads, width)
    for part in slices_of(qkv_BNX, members, clusters_at_once(qkv_BNX, members)):
        own_GKHD, summary_GHD = _own(qkv_BNX, surrogate_CHD, gates, largest_BNH, part, with_summaries)
        mixed_BNM.view(-1, heads * width).index_add_(0, part.token_P, own_GKHD.reshape(-1, heads * width))
        if with_summaries:
            summary_BCHD[:, part.at] = summary_GHD.view(batch, -1, heads, width)
    for some, score_HrtC in scores:
        weight_HrtC = score_HrtC.sub_(largest_BNH[some].permute(2, 0, 1).unsqueeze(-1)).exp_()
        if scores.out_BNC is not None:
            weight_HrtC.masked_fill_(scores.out_BNC[some], 0.0)
        _finish(mixed_BNM.view(batch, length, heads, width)[some], weight_HrtC, summary_BCHD[some[0]])
    return mixed_BNM


class Scores:
    """A_q·g(phi)/√D slice by slice of tokens, kept where they are small beside q, k and v, else computed anew.

    `out_BNC`: what is left out, once that is known; its scores are the least there is.
    """

    def __init__(self, qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates) -> None:
        self._qkv_BNX, self._surrogate_CHD, self._gates = qkv_BNX, surrogate_CHD, gates
        self.out_BNC: Tensor | None = None
        clusters, heads, _ = surrogate_CHD.shape
        per_token, tokens = heads * clusters * gates.lean_BN.element_size(), gates.lean_BN.numel()
        self._slices = list(token_slices(gates.lean_BN.shape, fitting(qkv_BNX, per_token, tokens)))
        is_small = per_token <= KEPT_SHARE * qkv_BNX.shape[-1] * qkv_BNX.element_size()
        self._keep = is_small and per_token * tokens <= KEPT_BYTES
        self._kept: list[Tensor] = []

    def first_look(self) -> tuple[Tensor, Tensor]:
        """Σ_h A_q, BNC, and a token's largest score over the clusters, BNH."""
        batch, length = self._gates.lean_BN.shape
        clusters, heads, _ = self._surrogate_CHD.shape
        summed_BNC = self._gates.lean_BN.new_empty(batch, length, clusters)
        largest_BNH = self._gates.lean_BN.new_empty(batch, length, heads)
        for some in self._slices:
            affinity_HrtC = self._affinities(some)
            torch.sum(affinity_HrtC, 0, out=summed_BNC[some])
            score_HrtC = self._strengthened(affinity_HrtC, some)
            largest_BNH[some] = score_HrtC.amax(-1).permute(1, 2, 0)
            if self._keep:
                self._kept.append(score_HrtC)
        return summed_BNC, largest_BNH

    def largest(self) -> Tensor:
        """A token's largest score over the clusters that are not left out, BNH."""
        largest_BNH = self._gates.lean_BN.new_empty(*self._gates.lean_BN.shape, self._surrogate_CHD.shape[1])
        for some, score_HrtC in self:
            largest_BNH[some] = score_HrtC.amax(-1).permute(1, 2, 0)
        return largest_BNH

    def __iter__(self) -> Iterator[tuple[Tokens, Tensor]]:
        """Every slice with its scores, HrtC, which the caller may overwrite when it is the last to ask."""
        for number, some in enumerate(self._slices):
            score_HrtC = self._kept[number] if self._keep else self._strengthened(self._affinities(some), some)
            if self.out_BNC is not None:
                score_HrtC.masked_fill_(self.out_BNC[some], torch.finfo(score_HrtC.dtype).min)
            yield some, score_HrtC

    def _strengthened(self, affinity_HrtC: Tensor, some: Tokens) -> Tensor:
        """Scores in the affinities' place."""
        return affinity_HrtC.mul_(self._gates.query_strength_BN[some].unsqueeze(-1))

    def _affinities(self, some: Tokens) -> Tensor:
        """A_q of a slice, HrtC: one batched GEMM of in_proj's q with S, in at least float32."""
        clusters, heads, width = self._surrogate_CHD.shape
        part_rtX = self._qkv_BNX[some]
        query_HTD = part_rtX.reshape(-1, 3 * heads, width)[:, :heads].transpose(0, 1)
        affinity_HTC = torch.bmm(wide(query_HTD), wide(self._surrogate_CHD).permute(1, 2, 0))
        return affinity_HTC.view(heads, *part_rtX.shape[:2], clusters)


def token_slices(shape_BN: tuple[int, ...], tokens: int) -> Iterator[Tokens]:
    """All tokens in slices of at most so many: whole rows together, or a row in parts."""
    batch, length = shape_BN
    rows = max(1, tokens // length)
    for row in range(0, batch, rows):
        for token in range(0, length, tokens):
            yield slice(row, row + rows), slice(token, token + tokens)


def clusters_at_once(qkv_BNX: Tensor, members: Members) -> int:
    """How many clusters of every row make a slice, by what is gathered for them."""
    batch, clusters, places = members.index.shape
    return fitting(qkv_BNX, batch * places * qkv_BNX.shape[-1] * qkv_BNX.element_size(), clusters)


def fitting(like: Tensor, bytes_each: int, count: int) -> int:
    """How many of `count` things of that size make a slice on the tensor's device; at least one."""
    return min(count, max(1, SLICE_BYTES.get(like.device.type, SLICE_BYTES["cuda"]) // max(1, bytes_each)))


def _own(
    qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, largest_BNH: Tensor, part: Slice, with_summaries: bool
) -> tuple[Tensor, Tensor]:
    """What members get from their own cluster, not yet divided by Σ_c E, GKHD; and R_inter, GHD."""
    rows_PX = qkv_BNX.view(-1, qkv_BNX.shape[-1]).index_select(0, part.token_P)
    q_GKHD, k_GKHD, v_GKHD = rows_PX.view(-1, part.places, 3, *surrogate_CHD.shape[1:]).unbind(2)
    summary_GHD = summaries_of(k_GKHD, v_GKHD, surrogate_CHD, gates, part)
    score_GKH = own_scores(q_GKHD, surrogate_CHD, gates.query_strength_BN, part)
    weight_GKH = score_GKH.sub_(largest_BNH.flatten(0, 1)[part.token_P].view_as(score_GKH)).exp_()
    if part.members.taken is not None:
        weight_GKH.masked_fill_(~part.taken_GK1, 0.0)
    own_GKHD = attention_within(q_GKHD, k_GKHD, v_GKHD, part)
    if with_summaries:
        own_GKHD.sub_(summary_GHD.unsqueeze(1))
    return own_GKHD.mul_(weight_GKH.unsqueeze(-1)), summary_GHD


def _finish(mixed_rtHD: Tensor, weight_HrtC: Tensor, summary_rCHD: Tensor) -> None:
    """R = (R + E @ R_inter) / Σ_c E of a slice, in place; tokens for which nothing is left keep R = 0."""
    total_rtH1 = weight_HrtC.sum(-1).permute(1, 2, 0).unsqueeze(-1)
    total_rtH1 = total_rtH1.masked_fill(total_rtH1 == 0, 1.0)
    others_HrtD = torch.matmul(weight_HrtC.to(summary_rCHD.dtype), summary_rCHD.permute(2, 0, 1, 3))
    mixed_rtHD.add_(others_HrtD.permute(1, 2, 0, 3)).div_(total_rtH1)
