"""CAST's mixing R as one differentiable expression: attention within clusters, summaries between them.

    members ─ gather q k v ─▶ attention within ──▶ A_sum·(R_intra − R_inter) ─ added to the tokens ─┐
                          └─▶ a_inter·v ─▶ R_inter ─▶ A_sum @ R_inter, one GEMM per head ───────── (+) ─▶ R

Shape suffixes: B batch, N tokens, T = B·N, H heads, D head width, M = H·D, C clusters, K places per cluster, X = 3M,
G clusters of all rows in a slice, P = G·K its places. Equations marked † have not been checked against the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.cast.choice import Members
from castbench.mechanisms.cast.gradients import (
    Projected,
    QueriesAndRows,
    Rows,
    SharesAndOwn,
    Weighed,
    can_be_projected,
)


@dataclass(frozen=True, slots=True)
class Gates:
    """What phi decides per token: sigmoid(phi), and the strengths g(phi)/√D of queries and g(−phi)/√D of keys."""

    lean_BN: Tensor
    query_strength_BN: Tensor
    key_strength_BN: Tensor


@dataclass(frozen=True, slots=True)
class Slice:
    """Neighbouring clusters of every row: their members, and the token of every place among all T."""

    at: slice
    members: Members
    token_P: Tensor

    @property
    def places(self) -> int:
        """K."""
        return self.members.index.shape[-1]

    @property
    def taken_GK1(self) -> Tensor:  # noqa: N802 - a shape suffix
        """Which places are taken; not to be asked where all are."""
        assert self.members.taken is not None
        return self.members.taken.reshape(-1, self.places, 1)


def as_written(like: Tensor) -> torch.autocast:
    """A context in which products are computed in the types they are written in: autocast has its say in the
    projections alone, since what chooses must not be rounded.
    """
    return torch.autocast(like.device.type, enabled=False)


def gated_affinity(query_TC: Tensor, key_TC: Tensor, lean_T: Tensor) -> Tensor:
    """A_g = sigmoid(phi)·f(Σ_h A_q) + (1 − sigmoid(phi))·f(Σ_h A_k), f the softmax over clusters, TC.  †"""
    return key_TC.softmax(-1).lerp_(query_TC.softmax(-1), lean_T.unsqueeze(-1))


def gate_strength(t: Tensor) -> Tensor:
    """g(t) = softplus(t) + 1.  †"""
    return functional.softplus(t) + 1.0


def wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower: what chooses and what is exponentiated is never rounded to 8 bits."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def cluster_shares(query_HTC: Tensor, gates: Gates, left_out_TC: Tensor | None) -> Tensor:
    """A_sum: softmax over clusters of A_q·g(phi)/√D; nothing for what is left out.  †"""
    logits_HTC = query_HTC * gates.query_strength_BN.reshape(-1, 1)
    if left_out_TC is None:
        return logits_HTC.softmax(-1)
    share_HTC = logits_HTC.masked_fill(left_out_TC, torch.finfo(logits_HTC.dtype).min).softmax(-1)
    return share_HTC.masked_fill(left_out_TC, 0.0)


def projected(x_BNM: Tensor, in_proj: nn.Linear, choose: Callable[[Tensor], Members]) -> tuple[Rows, Slice]:
    """What in_proj makes of all tokens and of all places, and the places: all clusters in one slice. `choose` makes the
    members of q, k and v.
    """
    is_lean = can_be_projected(x_BNM, in_proj)
    with torch.set_grad_enabled(not is_lean):
        qkv_BNX = in_proj(x_BNM)
    members, qkv_TX = choose(qkv_BNX), qkv_BNX.flatten(0, 1)
    [part] = slices_of(qkv_BNX, members, members.index.shape[1])
    if not is_lean:
        return QueriesAndRows.apply(qkv_TX, part.token_P), part  # type: ignore[no-untyped-call]
    rows: Rows = Projected.apply(  # type: ignore[no-untyped-call]
        x_BNM.flatten(0, 1), in_proj.weight, in_proj.bias, qkv_TX, part.token_P
    )
    return rows, part


def mix(
    rows: Rows, surrogate_CHD: Tensor, gates: Gates, part: Slice, shape_BN: Sequence[int], *, with_summaries: bool
) -> Tensor:
    """R_BNM: for every token its own clusters' attention and all other clusters' summaries; `part` holds them all.

    The summaries of all clusters are added by one batched GEMM; where a cluster holds the token, its summary is taken
    out again together with the addition of its attention: A_sum·(R_intra − R_inter).
    """
    batch, length = shape_BN
    clusters, heads, width = surrogate_CHD.shape
    query_TM, *rows_PM = rows
    q_GKHD, k_GKHD, v_GKHD = (row_PM.view(-1, part.places, heads, width) for row_PM in rows_PM)
    query_HTC = torch.bmm(wide(query_TM.view(-1, heads, width).transpose(0, 1)), wide(surrogate_CHD).permute(1, 2, 0))
    share_HTC = cluster_shares(query_HTC, gates, left_out(part.members, gates, with_summaries=with_summaries))
    share_HTC, weight_GKH1 = own_shares(share_HTC, part)
    own_GKHD, weight_GKH1 = attention_within(q_GKHD, k_GKHD, v_GKHD, part), weight_GKH1.to(query_TM.dtype)
    if with_summaries:
        summary_GHD = summaries_of(k_GKHD, v_GKHD, surrogate_CHD, gates, part)
        own_GKHD = Weighed.apply(own_GKHD, summary_GHD, weight_GKH1)  # type: ignore[no-untyped-call]
        share_HBNC = share_HTC.to(query_TM.dtype).view(heads, batch, length, clusters)
        summary_HBCD = summary_GHD.view(batch, clusters, heads, width).permute(2, 0, 1, 3)
        mixed_BNHD = torch.matmul(share_HBNC, summary_HBCD).permute(1, 2, 0, 3).contiguous()
    else:
        own_GKHD = own_GKHD * weight_GKH1
        mixed_BNHD = query_TM.new_zeros(batch, length, heads, width)
    mixed_TM = mixed_BNHD.view(batch * length, -1)
    mixed_TM = mixed_TM.index_add_(0, part.token_P, own_GKHD.reshape(-1, heads * width))
    return mixed_TM.view(batch, length, -1)


def slices_of(qkv_BNX: Tensor, members: Members, step: int) -> Iterator[Slice]:
    """The clusters, `step` of every row at a time."""
    batch, length, _ = qkv_BNX.shape
    clusters, device = members.index.shape[1], members.index.device
    row_B11 = (torch.arange(batch, device=device) * length).view(batch, 1, 1)
    for start in range(0, clusters, step):
        at = slice(start, min(clusters, start + step))
        taken = None if members.taken is None else members.taken[:, at]
        yield Slice(at, Members(members.index[:, at], taken), (members.index[:, at] + row_B11).flatten())


def attention_within(q_GKHD: Tensor, k_GKHD: Tensor, v_GKHD: Tensor, part: Slice) -> Tensor:
    """R_intra, GKHD: attention among the members of a cluster, per head."""
    q_GHKD, k_GHKD, v_GHKD = (token_GKHD.transpose(1, 2) for token_GKHD in (q_GKHD, k_GKHD, v_GKHD))
    mask_G11K = readable(part.members)
    return functional.scaled_dot_product_attention(q_GHKD, k_GHKD, v_GHKD, attn_mask=mask_G11K).transpose(1, 2)


def summaries_of(k_GKHD: Tensor, v_GKHD: Tensor, surrogate_CHD: Tensor, gates: Gates, part: Slice) -> Tensor:
    """R_inter, GHD: v summed by a_inter, the softmax over the members of A_k·g(−phi)/√D.  †

    Every head's weights meet all heads' values, and only the diagonal is kept: that is 2·H·M FLOPs per token, a
    fraction of the rest, where a product per head would first have to copy v.
    """
    groups, places, heads, width = v_GKHD.shape
    logits_GKH = own_scores(k_GKHD, surrogate_CHD, gates.key_strength_BN, part)
    if part.members.taken is not None:
        logits_GKH = logits_GKH.masked_fill(~part.taken_GK1, torch.finfo(logits_GKH.dtype).min)
    weight_GHK = logits_GKH.transpose(1, 2).softmax(-1).to(v_GKHD.dtype)
    crossed_GHM = torch.bmm(weight_GHK, v_GKHD.reshape(groups, places, heads * width))
    return crossed_GHM.view(groups, heads, heads, width).diagonal(dim1=1, dim2=2).transpose(1, 2)


def own_scores(token_GKHD: Tensor, surrogate_CHD: Tensor, strength_BN: Tensor, part: Slice) -> Tensor:
    """Of every place the affinity of its token's q or k with its cluster, times the token's strength, GKH."""
    batch = part.members.index.shape[0]
    token_BCKHD = wide(token_GKHD).view(batch, -1, *token_GKHD.shape[1:])
    affinity_BCKH = (token_BCKHD * wide(surrogate_CHD[part.at]).unsqueeze(1)).sum(-1)
    return affinity_BCKH.flatten(0, 1) * strength_BN.flatten()[part.token_P].view(-1, part.places, 1)


def left_out(members: Members, gates: Gates, *, with_summaries: bool) -> Tensor | None:
    """Clusters that have no part in a token's A_sum, TC; None where all have: empty ones, and in the ablation without
    summaries all that do not hold the token.
    """
    batch, length = gates.lean_BN.shape
    clusters = members.index.shape[1]
    if with_summaries:
        if members.empty is None:
            return None
        return members.empty.unsqueeze(1).expand(batch, length, clusters).reshape(-1, clusters)
    held_BCN = torch.zeros(batch, clusters, length + 1, dtype=torch.bool, device=members.index.device)
    index_BCK = members.index if members.taken is None else members.index.masked_fill(~members.taken, length)
    held_BCN.scatter_(2, index_BCK, True)
    return ~held_BCN[:, :, :length].transpose(1, 2).reshape(-1, clusters)


def own_shares(share_HTC: Tensor, part: Slice) -> tuple[Tensor, Tensor]:
    """A_sum as it is, and of every member for the cluster that holds it, GKH1; 0 at places not taken."""
    heads, _, clusters = share_HTC.shape
    cluster_C1 = torch.arange(part.at.start, part.at.stop, device=share_HTC.device).unsqueeze(-1)
    token_BCK = part.token_P.view(part.members.index.shape)
    own_HP = (token_BCK * clusters + cluster_C1).flatten().expand(heads, -1)
    share_HR, share_HP = SharesAndOwn.apply(share_HTC.reshape(heads, -1), own_HP)  # type: ignore[no-untyped-call]
    if part.members.taken is not None:
        share_HP = share_HP * part.members.taken.flatten()
    return share_HR.view(share_HTC.shape), share_HP.view(heads, -1, part.places, 1).permute(1, 2, 0, 3)


def readable(members: Members) -> Tensor | None:
    """Mask for attention within clusters, G11K; empty clusters read everything, so that no softmax is over nothing."""
    if members.taken is None:
        return None
    readable_BCK = members.taken | ~members.taken.any(-1, keepdim=True)
    return readable_BCK.flatten(0, 1)[:, None, None, :]
