"""CAST vectorised in PyTorch: one assignment for all heads, packed gathers, fused attention within the clusters.

    x ─ in_proj ─▶ q k v ─▶ A_q, A_k ─▶ A_g ─ choose ─▶ members ─ gather ─▶ attention within  ──┐
    └── gate ────▶ phi ──────┴─ A_sum ───────────────────────────┴────────▶ summaries ─ GEMM ─▶ (+) ─ out_proj ─▶ y

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, C clusters, K places per cluster, X = 3M.
Equations as we understand them from arXiv:2402.04239; those marked † have not been checked against its text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.cast import SLICE_BYTES, CastParams, Clustering, Impl, row_cluster_size, too_few_places
from castbench.mechanisms.cast.choice import Members, best_of_each_cluster, choice_keys, each_token_once


class CastAttention(nn.Module):
    """Multi-head CAST attention: `forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding.

    Arguments and their meaning are those of `CastParams`; `num_clusters` must be a number. Equal inputs give equal
    outputs whatever they are batched or padded with. Not deterministic on CUDA to the last bit with `top_k`, where
    a token's results of several clusters are added in no fixed order; `single_assignment` is.

    Raises ValueError for parameters that do not fit, and in `forward` where `single_assignment` lacks places.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_clusters: int,
        cluster_size: int | None = None,
        clustering: Clustering = "top_k",
        causal: bool = False,
        impl: Impl = "auto",
    ) -> None:
        super().__init__()
        _require_arguments(embed_dim, num_heads, num_clusters, cluster_size, clustering, causal, impl)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.num_clusters, self.cluster_size, self.clustering, self.impl = num_clusters, cluster_size, clustering, impl
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.gate = nn.Linear(embed_dim, 1)
        self.surrogate_tokens = nn.Parameter(torch.empty(num_clusters, num_heads, self.head_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.ran_as: str | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections as in nn.MultiheadAttention; surrogate tokens of length about 1 per head."""
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)
        nn.init.normal_(self.surrogate_tokens, std=self.head_dim**-0.5)

    def extra_repr(self) -> str:
        """The parameters, for print(module)."""
        size = "ceil(n/C)" if self.cluster_size is None else self.cluster_size
        return f"clusters={self.num_clusters}, cluster_size={size}, clustering={self.clustering}, impl={self.impl}"

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM of x_BNM; what stands at padding is finite and means nothing."""
        if self.impl == "reference":
            return self._by_reference(x_BNM, key_padding_mask_BN)
        self.ran_as = "torch"
        qkv_BNX = self.in_proj(x_BNM)
        affinity_2HBNC, phi_BN = self._affinities(qkv_BNX), self._phi(x_BNM)
        members = self._members(affinity_2HBNC, phi_BN, key_padding_mask_BN)
        y_BNM: Tensor = self.out_proj(self._mix(qkv_BNX, affinity_2HBNC, phi_BN, members))
        return y_BNM

    @torch.no_grad()
    def choose(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Members:
        """The members `forward` chooses for this input."""
        affinity_2HBNC = self._affinities(self.in_proj(x_BNM))
        return self._members(affinity_2HBNC, self._phi(x_BNM), key_padding_mask_BN)

    def describe(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> dict[str, float]:
        """What the clusters do with an input: clusters and places per cluster, and how real tokens share them.

        coverage       share of real tokens in at least one cluster; the others are read by nobody as keys
        multiplicity   mean number of clusters per real token
        """
        members = self.choose(x_BNM, key_padding_mask_BN)
        batch, length, _ = x_BNM.shape
        taken_BCK = members.taken
        if taken_BCK is None:
            taken_BCK = torch.ones_like(members.index, dtype=torch.bool)
        times_BN = torch.zeros(batch, length, dtype=torch.int64, device=x_BNM.device)
        times_BN.scatter_add_(1, members.index.flatten(1), taken_BCK.flatten(1).long())
        real = batch * length if key_padding_mask_BN is None else max(1, int((~key_padding_mask_BN).sum()))
        return {
            "num_clusters": float(self.num_clusters),
            "cluster_size": float(members.index.shape[-1]),
            "coverage": float((times_BN > 0).sum()) / real,
            "multiplicity": float(times_BN.sum()) / real,
        }

    def _by_reference(self, x_BNM: Tensor, mask_BN: Tensor | None) -> Tensor:
        """The result of the loops over tokens and clusters, in the input's dtype."""
        from castbench.mechanisms.cast.reference import reference

        self.ran_as = "reference"
        return reference(self, x_BNM, mask_BN).to(x_BNM.dtype)

    def _phi(self, x_BNM: Tensor) -> Tensor:
        """The gate's phi, one number per token, in at least float32."""
        return _wide(self.gate(x_BNM).squeeze(-1))

    def _affinities(self, qkv_BNX: Tensor) -> Tensor:
        """A_q and A_k: one batched GEMM of the q and k halves of in_proj's output with S, in at least float32."""
        batch, length, _ = qkv_BNX.shape
        heads, width = self.num_heads, self.head_dim
        qk_PTD = _wide(qkv_BNX.view(batch * length, 3 * heads, width)[:, : 2 * heads].transpose(0, 1))
        s_PDC = _wide(self.surrogate_tokens).permute(1, 2, 0).repeat(2, 1, 1)
        return torch.bmm(qk_PTD, s_PDC).view(2, heads, batch, length, self.num_clusters)

    @torch.no_grad()
    def _members(self, affinity_2HBNC: Tensor, phi_BN: Tensor, mask_BN: Tensor | None) -> Members:
        """G(A_g): indices, without gradient."""
        key_BNC = choice_keys(gated_affinity(affinity_2HBNC.sum(1), phi_BN), mask_BN)
        length = phi_BN.shape[1]
        sizes_B = None
        if mask_BN is not None:
            real_B = (~mask_BN).sum(1)
            size_B = -(-real_B // self.num_clusters) if self.cluster_size is None else self.cluster_size
            sizes_B = real_B.clamp(max=size_B)
        places = row_cluster_size(length, self.num_clusters, self.cluster_size)
        if self.clustering == "top_k":
            return best_of_each_cluster(key_BNC, places, sizes_B)
        self._require_places(length, mask_BN)
        return each_token_once(key_BNC, places, sizes_B)

    def _require_places(self, length: int, mask_BN: Tensor | None) -> None:
        """ValueError where single_assignment lacks places; asks the device only when a full row would not fit."""
        sentence = too_few_places(length, self.num_clusters, self.cluster_size)
        if sentence and mask_BN is not None:
            longest = int((~mask_BN).sum(1).max())
            sentence = too_few_places(longest, self.num_clusters, self.cluster_size)
        if sentence:
            raise ValueError(sentence)

    def _mix(self, qkv_BNX: Tensor, affinity_2HBNC: Tensor, phi_BN: Tensor, members: Members) -> Tensor:
        """R_BNM: for every token its own clusters' attention and all other clusters' summaries.

        The summaries of all clusters are added by one GEMM; where a cluster holds the token, its summary is taken
        out again together with the addition of its attention: A_sum·(R_intra − R_inter).
        """
        batch, length, _ = qkv_BNX.shape
        query_HBNC, key_HBNC = affinity_2HBNC
        share_HBNC = self._cluster_shares(query_HBNC, phi_BN, members.empty)
        mixed_BNHD = qkv_BNX.new_zeros(batch, length, self.num_heads, self.head_dim)
        rows_TM = mixed_BNHD.view(batch * length, self.embed_dim)
        summaries = []
        for part in self._slices(qkv_BNX, members):
            flat_index = (part.members.index + _row_starts(batch, length, qkv_BNX.device)).flatten()
            intra_BCKHD, summary_BCHD = self._within(qkv_BNX, key_HBNC, phi_BN, part, flat_index)
            weight_BCKH1 = self._own_shares(share_HBNC, part).to(qkv_BNX.dtype)
            own_BCKHD = weight_BCKH1 * (intra_BCKHD - summary_BCHD.unsqueeze(2))
            rows_TM.index_add_(0, flat_index, own_BCKHD.reshape(-1, self.embed_dim))
            summaries.append(summary_BCHD)
        summary_HBCD = torch.cat(summaries, 1).permute(2, 0, 1, 3)
        others_HBND = torch.matmul(share_HBNC.to(qkv_BNX.dtype), summary_HBCD)
        mixed_BNHD += others_HBND.permute(1, 2, 0, 3)
        return mixed_BNHD.view(batch, length, self.embed_dim)

    def _slices(self, qkv_BNX: Tensor, members: Members) -> Iterator[Slice]:
        """The clusters in slices whose copies fit SLICE_BYTES; all at once where gradients keep them anyway."""
        batch, clusters, places = members.index.shape
        step = clusters
        if not torch.is_grad_enabled():
            bytes_per_cluster = batch * places * qkv_BNX.shape[-1] * qkv_BNX.element_size()
            step = max(1, SLICE_BYTES.get(qkv_BNX.device.type, SLICE_BYTES["cuda"]) // bytes_per_cluster)
        for start in range(0, clusters, step):
            at = slice(start, start + step)
            taken = None if members.taken is None else members.taken[:, at]
            yield Slice(at, Members(members.index[:, at], taken))

    def _within(
        self, qkv_BNX: Tensor, key_HBNC: Tensor, phi_BN: Tensor, part: Slice, flat_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """R_intra_BCKHD and R_inter_BCHD of some clusters; q, k and v of their members are moved by one gather."""
        batch, clusters, places = part.members.index.shape
        rows = qkv_BNX.reshape(-1, qkv_BNX.shape[-1]).index_select(0, flat_index)
        qkv = rows.view(batch * clusters, places, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q_GHKD, k_GHKD, v_GHKD = qkv
        mask_G11K = _readable(part.members)
        intra_GHKD = functional.scaled_dot_product_attention(q_GHKD, k_GHKD, v_GHKD, attn_mask=mask_G11K)
        weight_BCHK = self._summary_weights(key_HBNC, phi_BN, part)
        weight_GH1K = weight_BCHK.to(v_GHKD.dtype).view(batch * clusters, self.num_heads, 1, places)
        summary_GHD = torch.matmul(weight_GH1K, v_GHKD).squeeze(2)
        return (
            intra_GHKD.transpose(1, 2).view(batch, clusters, places, self.num_heads, self.head_dim),
            summary_GHD.view(batch, clusters, self.num_heads, self.head_dim),
        )

    def _cluster_shares(self, query_HBNC: Tensor, phi_BN: Tensor, empty_BC: Tensor | None) -> Tensor:
        """A_sum: softmax over clusters of A_q·g(phi)/√D; empty clusters get nothing.  †"""
        logits_HBNC = query_HBNC * (gate_strength(phi_BN) / math.sqrt(self.head_dim)).unsqueeze(-1)
        if empty_BC is None:
            return logits_HBNC.softmax(-1)
        without_BNC = empty_BC.unsqueeze(1)
        shares_HBNC = logits_HBNC.masked_fill(without_BNC, torch.finfo(logits_HBNC.dtype).min).softmax(-1)
        return shares_HBNC.masked_fill(without_BNC, 0.0)

    def _own_shares(self, share_HBNC: Tensor, part: Slice) -> Tensor:
        """A_sum of every member for the cluster that holds it, BCKH1; 0 at places not taken."""
        share_BCHK = _own_column(share_HBNC, part)
        if part.members.taken is not None:
            share_BCHK = share_BCHK * part.members.taken.unsqueeze(2)
        return share_BCHK.transpose(2, 3).unsqueeze(-1)

    def _summary_weights(self, key_HBNC: Tensor, phi_BN: Tensor, part: Slice) -> Tensor:
        """a_inter: softmax over the members of A_k·g(−phi)/√D, BCHK.  †"""
        strength_BN = gate_strength(-phi_BN) / math.sqrt(self.head_dim)
        own_BCHK = _own_column(key_HBNC, part)
        index_BCK = part.members.index
        strength_BCK = strength_BN.gather(1, index_BCK.flatten(1)).view_as(index_BCK)
        logits_BCHK = own_BCHK * strength_BCK.unsqueeze(2)
        if part.members.taken is not None:
            untaken_BC1K = ~part.members.taken.unsqueeze(2)
            logits_BCHK = logits_BCHK.masked_fill(untaken_BC1K, torch.finfo(logits_BCHK.dtype).min)
        return logits_BCHK.softmax(-1)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some neighbouring clusters: where they stand among all, and their members."""

    at: slice
    members: Members


def build(params: CastParams, *, embed_dim: int, num_heads: int) -> CastAttention:
    """CastAttention from a profile's parameters; ValueError while `num_clusters` is still `auto`."""
    if params.num_clusters == "auto":
        raise ValueError("num_clusters: auto must be resolved to a number by a workload's lengths before building")
    return CastAttention(
        embed_dim, num_heads, num_clusters=params.num_clusters, cluster_size=params.cluster_size,
        clustering=params.clustering, impl=params.impl,
    )  # fmt: skip


def gated_affinity(summed_2BNC: Tensor, phi_BN: Tensor) -> Tensor:
    """A_g = sigmoid(phi)·f(Σ_h A_q) + (1 − sigmoid(phi))·f(Σ_h A_k), f the softmax over clusters, BNC.  †"""
    query_BNC, key_BNC = summed_2BNC.softmax(-1)
    return torch.lerp(key_BNC, query_BNC, phi_BN.sigmoid().unsqueeze(-1))


def gate_strength(t: Tensor) -> Tensor:
    """g(t) = softplus(t) + 1.  †"""
    return functional.softplus(t) + 1.0


def _wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower: what chooses and what is exponentiated is never rounded to 8 bits."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _row_starts(batch: int, length: int, device: torch.device) -> Tensor:
    """Where each row begins among all tokens, B11."""
    return (torch.arange(batch, device=device) * length).view(batch, 1, 1)


def _own_column(affinity_HBNC: Tensor, part: Slice) -> Tensor:
    """For every place the affinity of its token with the cluster it stands in, BCHK."""
    column_BCHN = affinity_HBNC[..., part.at].permute(1, 3, 0, 2)
    index_BCHK = part.members.index.unsqueeze(2).expand(-1, -1, column_BCHN.shape[2], -1)
    return column_BCHN.gather(-1, index_BCHK)


def _readable(members: Members) -> Tensor | None:
    """Mask for attention within clusters, G11K; empty clusters read everything, so that no softmax is over nothing."""
    if members.taken is None:
        return None
    readable_BCK = members.taken | ~members.taken.any(-1, keepdim=True)
    return readable_BCK.flatten(0, 1)[:, None, None, :]


def _require_arguments(
    embed_dim: int,
    num_heads: int,
    num_clusters: int,
    cluster_size: int | None,
    clustering: Any,
    causal: bool,
    impl: Any,
) -> None:
    """ValueError with a sentence for arguments that cannot be."""
    if causal:
        raise ValueError("causal=True: the causal form of CAST is not there yet; use causal=False")
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim: expected a multiple of num_heads = {num_heads}, got {embed_dim}")
    CastParams(num_clusters=num_clusters, cluster_size=cluster_size)
    for name, value, known in (("clustering", clustering, get_args(Clustering)), ("impl", impl, get_args(Impl))):
        if value not in known:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r}")
