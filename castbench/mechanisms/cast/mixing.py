"""CAST's mixing R: attention within clusters and summaries between them, in inference slice by slice of clusters.

    members ─ gather q k v ─▶ attention within ──▶ A_sum·(R_intra − R_inter) ─ added to the tokens ─┐
                          └─▶ a_inter·v ─▶ R_inter ─▶ A_sum @ R_inter, one GEMM per head ───────── (+) ─▶ R

With gradients off, nothing but q, k, v, A_sum and R is as long as the input, and R is added to in place.
Shape suffixes: B batch, N tokens, T = B·N, H heads, D head width, M = H·D, C clusters, K places per cluster, X = 3M,
G clusters of all rows in a slice, P = G·K its places. Equations marked † have not been checked against the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.cast import SLICE_BYTES
from castbench.mechanisms.cast.choice import Members


@dataclass(frozen=True, slots=True)
class Gates:
    """What phi decides per token: sigmoid(phi), and the strengths g(phi)/√D of queries and g(−phi)/√D of keys."""

    lean_BN: Tensor
    query_strength_BN: Tensor
    key_strength_BN: Tensor


@dataclass(frozen=True, slots=True)
class Slice:
    """Neighbouring clusters of every row: their members, the token of every place among all T, and its column of TC."""

    at: slice
    members: Members
    token_P: Tensor
    own_P: Tensor


def gated_affinity(query_TC: Tensor, key_TC: Tensor, lean_T: Tensor) -> Tensor:
    """A_g = sigmoid(phi)·f(Σ_h A_q) + (1 − sigmoid(phi))·f(Σ_h A_k), f the softmax over clusters, TC.  †"""
    return torch.lerp(key_TC.softmax(-1), query_TC.softmax(-1), lean_T.unsqueeze(-1))


def gate_strength(t: Tensor) -> Tensor:
    """g(t) = softplus(t) + 1.  †"""
    return functional.softplus(t) + 1.0


def wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower: what chooses and what is exponentiated is never rounded to 8 bits."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def cluster_shares(query_HTC: Tensor, gates: Gates, members: Members, *, with_summaries: bool) -> Tensor:
    """A_sum: softmax over clusters of A_q·g(phi)/√D; empty clusters get nothing. Without summaries a token's own
    clusters alone share it, and one in no cluster mixes nothing. With gradients off the result takes A_q's place.  †
    """
    strength_T1 = gates.query_strength_BN.reshape(-1, 1)
    left_out_TC = _without_members(members, len(strength_T1)) if with_summaries else _not_own(members, gates)
    if torch.is_grad_enabled():
        return _softmax_over_clusters(query_HTC, strength_T1, left_out_TC)
    heads, tokens, clusters = query_HTC.shape
    step = _slice_of(query_HTC, heads * clusters * query_HTC.element_size(), tokens)
    for start in range(0, tokens, step):
        at = slice(start, start + step)
        left_out = None if left_out_TC is None else left_out_TC[at]
        query_HTC[:, at] = _softmax_over_clusters(query_HTC[:, at], strength_T1[at], left_out)
    return query_HTC


def mix(
    qkv_BNX: Tensor, share_HTC: Tensor, surrogate_CHD: Tensor, gates: Gates, members: Members, *, with_summaries: bool
) -> Tensor:
    """R_BNM: for every token its own clusters' attention and all other clusters' summaries.

    The summaries of all clusters are added by one GEMM per head; where a cluster holds the token, its summary is taken
    out again together with the addition of its attention: A_sum·(R_intra − R_inter).
    """
    batch, length, _ = qkv_BNX.shape
    _, heads, width = surrogate_CHD.shape
    mixed_TM = qkv_BNX.new_zeros(batch * length, heads * width)
    summaries = []
    for part in _slices(qkv_BNX, members):
        intra_GKHD, summary_GHD = _within(qkv_BNX, surrogate_CHD, gates, part)
        own_GKH1 = _own_shares(share_HTC, part).to(qkv_BNX.dtype)
        if with_summaries:
            intra_GKHD = _minus(intra_GKHD, summary_GHD.unsqueeze(1))
            summaries.append(summary_GHD.view(batch, -1, heads, width))
        own_GKHD = _times(intra_GKHD, own_GKH1)
        mixed_TM.index_add_(0, part.token_P, own_GKHD.reshape(-1, heads * width))
    if with_summaries:
        mixed_TM = _with_summaries(mixed_TM, share_HTC.to(qkv_BNX.dtype), torch.cat(summaries, 1))
    return mixed_TM.view(batch, length, -1)


def _slices(qkv_BNX: Tensor, members: Members) -> Iterator[Slice]:
    """The clusters in slices whose copies fit SLICE_BYTES; all at once where gradients keep them anyway."""
    batch, length, width = qkv_BNX.shape
    _, clusters, places = members.index.shape
    device = members.index.device
    row_B11 = (torch.arange(batch, device=device) * length).view(batch, 1, 1)
    cluster_C1 = torch.arange(clusters, device=device).unsqueeze(-1)
    step = clusters
    if not torch.is_grad_enabled():
        step = _slice_of(qkv_BNX, batch * places * width * qkv_BNX.element_size(), clusters)
    for start in range(0, clusters, step):
        at = slice(start, start + step)
        token_BCK = members.index[:, at] + row_B11
        own_BCK = token_BCK * clusters + cluster_C1[at]
        taken = None if members.taken is None else members.taken[:, at]
        yield Slice(at, Members(members.index[:, at], taken), token_BCK.flatten(), own_BCK.flatten())


def _slice_of(like: Tensor, bytes_each: int, count: int) -> int:
    """How many of `count` things of that size make a slice on the tensor's device."""
    fitting = SLICE_BYTES.get(like.device.type, SLICE_BYTES["cuda"]) // max(1, bytes_each)
    return min(count, max(1, fitting))


def _within(qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, part: Slice) -> tuple[Tensor, Tensor]:
    """R_intra_GKHD and R_inter_GHD of some clusters; q, k and v of their members are moved by one gather."""
    _, heads, width = surrogate_CHD.shape
    places = part.members.index.shape[-1]
    rows_PX = qkv_BNX.view(-1, qkv_BNX.shape[-1]).index_select(0, part.token_P)
    rows_GK3HD = rows_PX.view(-1, places, 3, heads, width)
    q_GHKD, k_GHKD, v_GHKD = rows_GK3HD.permute(2, 0, 3, 1, 4)
    mask_G11K = _readable(part.members)
    intra_GHKD = functional.scaled_dot_product_attention(q_GHKD, k_GHKD, v_GHKD, attn_mask=mask_G11K)
    weight_GHK = _summary_weights(rows_GK3HD[:, :, 1], surrogate_CHD[part.at], gates, part)
    summary_GHD = torch.matmul(weight_GHK.unsqueeze(2).to(v_GHKD.dtype), v_GHKD).squeeze(2)
    return intra_GHKD.transpose(1, 2), summary_GHD


def _summary_weights(k_GKHD: Tensor, surrogate_CHD: Tensor, gates: Gates, part: Slice) -> Tensor:
    """a_inter: softmax over the members of A_k·g(−phi)/√D, GHK.  †"""
    batch, _, places = part.members.index.shape
    _, heads, width = surrogate_CHD.shape
    k_BCKHD = wide(k_GKHD).view(batch, -1, places, heads, width)
    affinity_BCKH = (k_BCKHD * wide(surrogate_CHD).unsqueeze(1)).sum(-1)
    strength_GK1 = gates.key_strength_BN.flatten()[part.token_P].view(-1, places, 1)
    logits_GKH = affinity_BCKH.view(-1, places, heads) * strength_GK1
    if part.members.taken is not None:
        untaken_GK1 = ~part.members.taken.reshape(-1, places, 1)
        logits_GKH = logits_GKH.masked_fill(untaken_GK1, torch.finfo(logits_GKH.dtype).min)
    return logits_GKH.transpose(1, 2).softmax(-1)


def _own_shares(share_HTC: Tensor, part: Slice) -> Tensor:
    """A_sum of every member for the cluster that holds it, GKH1; 0 at places not taken."""
    heads, places = share_HTC.shape[0], part.members.index.shape[-1]
    share_HP = share_HTC.reshape(heads, -1).gather(1, part.own_P.expand(heads, -1))
    if part.members.taken is not None:
        share_HP = share_HP * part.members.taken.flatten()
    return share_HP.view(heads, -1, places, 1).permute(1, 2, 0, 3)


def _with_summaries(mixed_TM: Tensor, share_HTC: Tensor, summary_BCHD: Tensor) -> Tensor:
    """R with A_sum @ R_inter added to it, in place where nothing keeps it for gradients."""
    batch, clusters, heads, width = summary_BCHD.shape
    share_HBNC = share_HTC.view(heads, batch, -1, clusters)
    mixed_BNHD = mixed_TM.view(batch, -1, heads, width)
    if mixed_TM.device.type == "cpu" and not torch.is_grad_enabled():
        # Row by row straight into R: a product of its own would be another tensor as long as the input.
        for row, mixed_NHD in enumerate(mixed_BNHD):
            mixed_NHD.transpose(0, 1).baddbmm_(share_HBNC[:, row], summary_BCHD[row].transpose(0, 1))
        return mixed_TM
    others_HBND = torch.matmul(share_HBNC, summary_BCHD.permute(2, 0, 1, 3))
    return (mixed_BNHD + others_HBND.permute(1, 2, 0, 3)).view_as(mixed_TM)


def _softmax_over_clusters(query_HTC: Tensor, strength_T1: Tensor, left_out_TC: Tensor | None) -> Tensor:
    """A_sum of some tokens; exactly 0 for what is left out."""
    logits_HTC = query_HTC * strength_T1
    if left_out_TC is None:
        return logits_HTC.softmax(-1)
    share_HTC = logits_HTC.masked_fill(left_out_TC, torch.finfo(logits_HTC.dtype).min).softmax(-1)
    return share_HTC.masked_fill(left_out_TC, 0.0)


def _without_members(members: Members, tokens: int) -> Tensor | None:
    """Empty clusters of every token's row, TC; None where all places are taken."""
    if members.empty is None:
        return None
    batch, clusters = members.empty.shape
    return members.empty.unsqueeze(1).expand(batch, tokens // batch, clusters).reshape(tokens, clusters)


def _not_own(members: Members, gates: Gates) -> Tensor:
    """Clusters that do not hold the token, TC."""
    batch, length = gates.lean_BN.shape
    clusters = members.index.shape[1]
    held_BCN = torch.zeros(batch, clusters, length + 1, dtype=torch.bool, device=members.index.device)
    index_BCK = members.index if members.taken is None else members.index.masked_fill(~members.taken, length)
    held_BCN.scatter_(2, index_BCK, True)
    return ~held_BCN[:, :, :length].transpose(1, 2).reshape(-1, clusters)


def _times(own: Tensor, factor: Tensor) -> Tensor:
    """A product, in the first factor's place where nothing keeps it for gradients."""
    return own * factor if torch.is_grad_enabled() else own.mul_(factor)


def _minus(own: Tensor, other: Tensor) -> Tensor:
    """A difference, likewise."""
    return own - other if torch.is_grad_enabled() else own.sub_(other)


def _readable(members: Members) -> Tensor | None:
    """Mask for attention within clusters, G11K; empty clusters read everything, so that no softmax is over nothing."""
    if members.taken is None:
        return None
    readable_BCK = members.taken | ~members.taken.any(-1, keepdim=True)
    return readable_BCK.flatten(0, 1)[:, None, None, :]
