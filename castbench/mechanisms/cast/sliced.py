"""CAST's mixing R without gradients: what mixing.py computes, in slices that fit a core's cache, added to R in place.

    tokens   slice by slice   A_q ─▶ Σ_h A_q, for the choice; scores are kept where they are few, and become A_sum
    clusters slice by slice   gather q k v ─▶ R_intra, R_inter ─▶ R += A_sum·(R_intra − R_inter)
    tokens   slice by slice   R += A_sum @ R_inter

Where scores are many beside q, k and v, A_q is computed twice, which costs less than fetching so much memory: the first
time for its largest entry per token, the second time for E = e^(score − largest); R is then gathered in units of Σ_c E.
Shape suffixes as in mixing.py; r rows and t tokens of a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from castbench.mechanisms.cast import SLICE_BYTES, together
from castbench.mechanisms.cast.choice import Members
from castbench.mechanisms.cast.mixing import (
    Gates,
    Slice,
    attention_within,
    left_out,
    own_scores,
    own_shares,
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

_LEAST = torch.finfo(torch.float32).min
"""A score that a softmax makes 0, in float32 and float64."""


def mix_sliced(
    qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, choose: Callable[[Tensor], Members], *, with_summaries: bool
) -> Tensor:
    """R_BNM; `choose` makes the members of Σ_h A_q, TC."""
    batch, length, _ = qkv_BNX.shape
    clusters, heads, width = surrogate_CHD.shape
    scores = Scores(qkv_BNX, surrogate_CHD, gates)
    members = choose(scores.first_look().flatten(0, 1))
    out_TC = left_out(members, gates, with_summaries=with_summaries)
    scores.settle(None if out_TC is None else out_TC.view(batch, length, clusters))
    mixed_BNHD = qkv_BNX.new_zeros(batch, length, heads, width)
    summary_BCHD = qkv_BNX.new_zeros(batch, clusters, heads, width)
    step = together.clusters_at_once(qkv_BNX, members, heads)
    buffers = together.Buffers(qkv_BNX) if step else None
    # A function per slice, so that what a slice needs is let go before the next one is begun.
    for part in slices_of(qkv_BNX, members, step or clusters_at_once(qkv_BNX, members)):
        _add_own(mixed_BNHD, summary_BCHD, qkv_BNX, surrogate_CHD, gates, scores, part, buffers, with_summaries)
    del buffers
    for some in scores.slices:
        _add_others(mixed_BNHD[some], summary_BCHD[some[0]], scores, some)
    return mixed_BNHD.flatten(2)


class Scores:
    """A_q·g(phi)/√D slice by slice of tokens, and what is made of it.

    share_HBNC    where they are few the scores, once settled A_sum, their softmax over clusters; else None
    largest_BNH   without them: a token's largest score over the clusters that are not left out
    """

    def __init__(self, qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates) -> None:
        self._qkv_BNX, self._surrogate_CHD, self._gates = qkv_BNX, surrogate_CHD, gates
        self._out_BNC: Tensor | None = None
        clusters, heads, _ = surrogate_CHD.shape
        per_token, tokens = heads * clusters * gates.lean_BN.element_size(), gates.lean_BN.numel()
        self.slices = tuple(token_slices(gates.lean_BN.shape, fitting(qkv_BNX, per_token, tokens)))
        is_small = per_token <= KEPT_SHARE * qkv_BNX.shape[-1] * qkv_BNX.element_size()
        keep, shape_BN = is_small and per_token * tokens <= KEPT_BYTES, gates.lean_BN.shape
        self.share_HBNC = gates.lean_BN.new_empty(heads, *shape_BN, clusters) if keep else None
        self.largest_BNH = None if keep else gates.lean_BN.new_empty(*shape_BN, heads)

    def first_look(self) -> Tensor:
        """Σ_h A_q, BNC."""
        summed_BNC = self._gates.lean_BN.new_empty(*self._gates.lean_BN.shape, self._surrogate_CHD.shape[0])
        for some in self.slices:
            self._note(some, self._summed(some, summed_BNC[some]))
        return summed_BNC

    def settle(self, out_BNC: Tensor | None) -> None:
        """Makes A_sum of kept scores; `out_BNC` are clusters that have no part in a token's A_sum."""
        self._out_BNC = out_BNC
        for some in self.slices:
            if self.share_HBNC is not None:
                share_HrtC = self._without(self.share_HBNC[:, some[0], some[1]], some, _LEAST)
                share_HrtC.copy_(share_HrtC.softmax(-1))
                self._without(share_HrtC, some, 0.0)
            elif out_BNC is not None:
                self._note(some, self._scores(some))

    def own(self, q_GKHD: Tensor, part: Slice) -> Tensor:
        """Of every place the weight of its token's own cluster, A_sum or E, GKH1; 0 at places not taken."""
        if self.share_HBNC is not None:
            return own_shares(self.share_HBNC.flatten(1, 2), part)[1]
        assert self.largest_BNH is not None
        score_GKH = own_scores(q_GKHD, self._surrogate_CHD, self._gates.query_strength_BN, part)
        weight_GKH = score_GKH.sub_(self.largest_BNH.flatten(0, 1)[part.token_P].view_as(score_GKH)).exp_()
        if part.members.taken is not None:
            weight_GKH.masked_fill_(~part.taken_GK1, 0.0)
        return weight_GKH.unsqueeze(-1)

    def powers(self, some: Tokens) -> Tensor:
        """E of a slice, HrtC; 0 for what is left out."""
        assert self.largest_BNH is not None
        power_HrtC = self._scores(some).sub_(self.largest_BNH[some].permute(2, 0, 1).unsqueeze(-1)).exp_()
        return self._without(power_HrtC, some, 0.0)

    def _note(self, some: Tokens, score_HrtC: Tensor) -> None:
        """A slice's scores, or the largest of them."""
        if self.share_HBNC is not None:
            self.share_HBNC[:, some[0], some[1]] = score_HrtC
        else:
            assert self.largest_BNH is not None
            self.largest_BNH[some] = score_HrtC.amax(-1).permute(1, 2, 0)

    def _without(self, tensor_HrtC: Tensor, some: Tokens, instead: float) -> Tensor:
        """A slice with this in the place of what is left out, written there."""
        return tensor_HrtC if self._out_BNC is None else tensor_HrtC.masked_fill_(self._out_BNC[some], instead)

    def _summed(self, some: Tokens, summed_rtC: Tensor) -> Tensor:
        """Scores of a slice, HrtC; writes Σ_h A_q on the way."""
        affinity_HrtC = self._affinities(some)
        torch.sum(affinity_HrtC, 0, out=summed_rtC)
        return self._strengthened(affinity_HrtC, some)

    def _scores(self, some: Tokens) -> Tensor:
        """Scores of a slice, HrtC, computed anew."""
        return self._without(self._strengthened(self._affinities(some), some), some, _LEAST)

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


def _add_own(
    mixed_BNHD: Tensor, summary_BCHD: Tensor, qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, scores: Scores,
    part: Slice, buffers: together.Buffers | None, with_summaries: bool,
) -> None:  # fmt: skip
    """R += weight·(R_intra − R_inter) for a slice's members; its R_inter is put where it belongs."""
    batch, _, heads, width = summary_BCHD.shape
    if buffers is None:
        q_GKHD, own_GKHD, summary_GHD = _by_kernel(qkv_BNX, surrogate_CHD, gates, part, with_summaries)
    else:
        q_GKHD, own_GKHD, summary_GHD = together.within_and_between(qkv_BNX, surrogate_CHD, gates, part, buffers)
    if with_summaries:
        own_GKHD.sub_(summary_GHD.unsqueeze(1))
        summary_BCHD[:, part.at] = summary_GHD.view(batch, -1, heads, width)
    own_GKHD.mul_(scores.own(q_GKHD, part))
    mixed_BNHD.view(-1, heads * width).index_add_(0, part.token_P, own_GKHD.reshape(-1, heads * width))


def _by_kernel(
    qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, part: Slice, with_summaries: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What together.within_and_between gives, by the fused kernel; in the ablation without summaries R_inter is 0."""
    _, heads, width = surrogate_CHD.shape
    rows_PX = qkv_BNX.view(-1, qkv_BNX.shape[-1]).index_select(0, part.token_P)
    q_GKHD, k_GKHD, v_GKHD = rows_PX.view(-1, part.places, 3, heads, width).unbind(2)
    own_GKHD = attention_within(q_GKHD, k_GKHD, v_GKHD, part)
    if not with_summaries:
        return q_GKHD, own_GKHD, own_GKHD.new_zeros(own_GKHD.shape[0], heads, width)
    return q_GKHD, own_GKHD, summaries_of(k_GKHD, v_GKHD, surrogate_CHD, gates, part)


def _add_others(mixed_rtHD: Tensor, summary_rCHD: Tensor, scores: Scores, some: Tokens) -> None:
    """R += weight @ R_inter of a slice, in place, and R /= Σ_c E where that is the unit so far."""
    share_HBNC = scores.share_HBNC
    weight_HrtC = scores.powers(some) if share_HBNC is None else share_HBNC[:, some[0], some[1]]
    others_HrtD = torch.matmul(weight_HrtC.to(summary_rCHD.dtype), summary_rCHD.permute(2, 0, 1, 3))
    mixed_rtHD.add_(others_HrtD.permute(1, 2, 0, 3))
    if share_HBNC is None:
        total_rtH1 = weight_HrtC.sum(-1).permute(1, 2, 0).unsqueeze(-1)
        # Tokens for which nothing is left keep R = 0.
        mixed_rtHD.div_(total_rtH1.masked_fill_(total_rtH1 == 0, 1.0))
