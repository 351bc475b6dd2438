"""The Routing Transformer's attention as a module: every centroid takes its nearest queries and its nearest keys.

    x ─ in_proj ─▶ q, k ─ layer norm ─▶ · centroids ─ the w nearest ─▶ q k v of C clusters ─ attention ─▶ mean ─▶ y
                   v ──────────────────────────────────────────────────┘

Shape suffixes: B batch, N tokens, T = B·N, H heads, D head width, M = H·D, S sides that are routed (q and k, or one
that is both), X = (S + 1)·M, C clusters, K places per cluster (the paper's w), G = B·H·C·K places of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.routing import RoutingParams, row_window
from castbench.mechanisms.routing.choice import nearest, nearest_centroid


@dataclass(frozen=True, slots=True)
class Members:
    """Tokens that every centroid takes, best first.

    index_SBHCK  tokens, queries' and keys' (or both at once)
    size_B       how many of these places a row takes, no more than it has real tokens; None where all
    """

    index_SBHCK: Tensor
    size_B: Tensor | None

    @property
    def taken_BK(self) -> Tensor | None:  # noqa: N802 - a shape suffix
        """Which places are taken; None where all are."""
        if self.size_B is None:
            return None
        return torch.arange(self.index_SBHCK.shape[-1], device=self.size_B.device) < self.size_B.unsqueeze(1)


class RoutingAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; 0 is mixed at padding.

    A token whose query no centroid takes gets 0 from that head, one that several take the mean of their results.
    Centroids are drawn from torch's global generator and follow the tokens in training mode alone.
    """

    def __init__(self, embed_dim: int, num_heads: int, params: RoutingParams) -> None:
        super().__init__()
        if params.num_clusters == "auto":
            raise ValueError("num_clusters: auto must be resolved to a number by a workload's lengths before building")
        self.num_heads, self.params, self.num_clusters = num_heads, params, params.num_clusters
        self.in_proj = nn.Linear(embed_dim, params.inputs * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        drawn_HCD = torch.randn(num_heads, self.num_clusters, embed_dim // num_heads)
        self.register_buffer("centroids", functional.normalize(drawn_HCD, dim=-1))
        self.centroids: Tensor
        self.ran_as: str | None = None
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; in training mode the centroids move after they were used."""
        self.ran_as = "clusters"
        qkv_BNPHD = self._parts(x_BNM)
        side_BNSHD = normed(qkv_BNPHD[:, :, :-1])
        scores = self._scores(side_BNSHD, key_padding_mask_BN)
        members = self._members(scores, key_padding_mask_BN)
        if self.training:
            self._follow(side_BNSHD, scores, key_padding_mask_BN)
        y_BNM: Tensor = self.out_proj(mixed(side_BNSHD, qkv_BNPHD, members))
        return y_BNM

    @torch.no_grad()
    def choose(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Members:
        """The members that `forward` chooses for this input."""
        side_BNSHD = normed(self._parts(x_BNM)[:, :, :-1])
        return self._members(self._scores(side_BNSHD, key_padding_mask_BN), key_padding_mask_BN)

    def _parts(self, x_BNM: Tensor) -> Tensor:
        """What in_proj makes, BNPHD with P parts."""
        batch, length, _ = x_BNM.shape
        qkv_BNX: Tensor = self.in_proj(x_BNM)
        return qkv_BNX.view(batch, length, self.params.inputs, self.num_heads, -1)

    @torch.no_grad()
    def _scores(self, side_BNSHD: Tensor, mask_BN: Tensor | None) -> list[Tensor]:
        """Of every side, how far tokens lie along the centroids, in at least float32, BHCN; −∞ at padding."""
        centroid_HCD = wide(self.centroids)
        scores = [centroid_HCD @ wide(token_BNHD).permute(0, 2, 3, 1) for token_BNHD in side_BNSHD.unbind(2)]
        if mask_BN is not None:
            for score_BHCN in scores:
                score_BHCN.masked_fill_(mask_BN[:, None, None, :], -torch.inf)
        return scores

    def _members(self, scores: list[Tensor], mask_BN: Tensor | None) -> Members:
        """The K tokens of every side that lie farthest along each centroid."""
        places = row_window(scores[0].shape[-1], self.num_clusters, self.params.window_size)
        index_SBHCK = torch.stack([nearest(score_BHCN, places) for score_BHCN in scores])
        if mask_BN is None:
            return Members(index_SBHCK, None)
        real_B = (~mask_BN).sum(1)
        asked = self.params.window_size
        return Members(index_SBHCK, real_B.clamp(max=-(-real_B // self.num_clusters) if asked is None else asked))

    @torch.no_grad()
    def _follow(self, side_BNSHD: Tensor, scores: list[Tensor], mask_BN: Tensor | None) -> None:
        """Moves every centroid towards the mean direction of the queries and keys nearest to it, if it has any."""
        heads, clusters, width = self.centroids.shape
        sum_XD = torch.zeros(heads * clusters + 1, width, dtype=scores[0].dtype, device=side_BNSHD.device)
        first_H1 = torch.arange(heads, device=side_BNSHD.device).unsqueeze(1) * clusters
        for token_BNHD, score_BHCN in zip(side_BNSHD.unbind(2), scores, strict=True):
            at_BHN = nearest_centroid(score_BHCN) + first_H1
            if mask_BN is not None:
                at_BHN = at_BHN.masked_fill(mask_BN.unsqueeze(1), heads * clusters)
            sum_XD.index_add_(0, at_BHN.transpose(1, 2).flatten(), wide(token_BNHD).flatten(0, 2))
        sum_HCD = sum_XD[:-1].view(heads, clusters, width)
        new_HCD = torch.lerp(functional.normalize(sum_HCD, dim=-1), wide(self.centroids), self.params.decay)
        seen_HC1 = sum_HCD.abs().amax(-1, keepdim=True) > 0
        self.centroids.copy_(torch.where(seen_HC1, new_HCD, self.centroids))


def wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def normed(side_BNSHD: Tensor) -> Tensor:
    """Mean 0 and variance 1 over every head's width, so that all tokens have the same length."""
    return functional.layer_norm(side_BNSHD, side_BNSHD.shape[-1:])


def mixed(side_BNSHD: Tensor, qkv_BNPHD: Tensor, members: Members) -> Tensor:
    """Attention of every cluster's queries to its keys, and of every token the mean of its clusters' results, BNM."""
    batch, length, sides, heads, width = side_BNSHD.shape
    query_BHCK, key_BHCK = members.index_SBHCK[0], members.index_SBHCK[-1]
    q_G, k_G = (rows_of(index_BHCK, length, sides * heads) for index_BHCK in (query_BHCK, key_BHCK))
    side_XD = side_BNSHD.reshape(-1, width)
    q_GD = side_XD.index_select(0, q_G)
    k_GD = q_GD if sides == 1 else side_XD[heads:].index_select(0, k_G)
    v_GD = qkv_BNPHD.reshape(-1, width)[sides * heads :].index_select(0, rows_of(key_BHCK, length, (sides + 1) * heads))
    own_GD = attended((q_GD, k_GD, v_GD), query_BHCK.shape, members.taken_BK)
    home_G, nobody = q_G if sides == 1 else rows_of(query_BHCK, length, heads), batch * length * heads
    if members.taken_BK is not None:
        home_G = home_G.masked_fill(~members.taken_BK[:, None, None].expand_as(query_BHCK).flatten(), nobody)
    return averaged(own_GD, home_G, nobody).view(batch, length, heads * width)


def attended(qkv_GD: tuple[Tensor, ...], places: torch.Size, taken_BK: Tensor | None) -> Tensor:
    """Softmax attention within clusters, GD; where a row takes nothing, to everything.

    On CPUs clusters are a batch of one head each, so that results lie as their places do; GPUs limit batches to 65535.
    """
    batch, heads, clusters, size = places
    shape = (batch * heads * clusters, 1) if qkv_GD[0].device.type == "cpu" else (batch * heads, clusters)
    read_X11K = None
    if taken_BK is not None:
        read_BK = taken_BK | ~taken_BK.any(1, keepdim=True)
        read_X11K = read_BK.repeat_interleave(shape[0] // batch, 0)[:, None, None]
    q_XCKD, k_XCKD, v_XCKD = (part_GD.view(*shape, size, -1) for part_GD in qkv_GD)
    own_XCKD = functional.scaled_dot_product_attention(q_XCKD, k_XCKD, v_XCKD, attn_mask=read_X11K)
    return own_XCKD.reshape(qkv_GD[0].shape)


def averaged(own_GD: Tensor, home_G: Tensor, nobody: int) -> Tensor:
    """Of every token and head the mean of the results that belong to it, 0 of none; those of `nobody` are left out."""
    dtype = wide(own_GD).dtype
    count_X = torch.zeros(nobody + 1, dtype=dtype, device=home_G.device)
    count_X.index_add_(0, home_G, torch.ones_like(home_G, dtype=dtype)).clamp_(min=1.0)
    sum_XD = own_GD.new_zeros(nobody + 1, own_GD.shape[1]).index_add_(0, home_G, own_GD)
    return sum_XD[:nobody] / count_X[:nobody].unsqueeze(-1).to(own_GD.dtype)


def rows_of(index_BHCK: Tensor, length: int, step: int) -> Tensor:
    """Rows of tokens in a table with `step` of them per token, those of the heads first, as int32, G."""
    batch, heads = index_BHCK.shape[:2]
    start_B111 = (torch.arange(batch, device=index_BHCK.device) * length).view(-1, 1, 1, 1)
    head_H11 = torch.arange(heads, device=index_BHCK.device).view(-1, 1, 1)
    return ((index_BHCK + start_B111) * step + head_H11).flatten().int()


def build(params: RoutingParams, *, embed_dim: int, num_heads: int) -> RoutingAttention:
    """RoutingAttention; ValueError while `num_clusters` is still `auto`."""
    return RoutingAttention(embed_dim, num_heads, params)
