"""CAST as a module: projections, gate, surrogate tokens; what is done with them stands in choice.py and mixing.py.

    x ─ in_proj ─▶ q k v ─▶ A_q, Σ A_k ─▶ A_g ─ choice ─▶ members ─┐
    └── gate ────▶ phi ──────┴─ A_sum ──────────────────────────── mixing ─▶ R ─ out_proj ─▶ y

Shape suffixes: B batch, N tokens, T = B·N, H heads, D head width, M = H·D, C clusters, K places per cluster, X = 3M.
Equations as we understand them from arXiv:2402.04239; those marked † have not been checked against its text.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from castbench.mechanisms.cast import Assignment, CastParams, Clustering, Impl, row_cluster_size, too_few_places
from castbench.mechanisms.cast.ablation import by_place
from castbench.mechanisms.cast.choice import (
    Members,
    best_of_each_cluster,
    choice_keys,
    each_token_once,
    each_token_once_balanced,
)
from castbench.mechanisms.cast.mixing import Gates, as_written, gate_strength, gated_affinity, mix, projected, wide
from castbench.mechanisms.cast.sliced import Scores, mix_sliced

CHOOSERS: dict[Clustering, Callable[[Tensor, int, Tensor | None], Members]] = {
    "top_k": best_of_each_cluster, "single_assignment": each_token_once, "balanced": each_token_once_balanced,
}  # fmt: skip


class CastAttention(nn.Module):
    """Multi-head CAST attention: `forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding.

    Arguments and their meaning are those of `CastParams`; `num_clusters` must be a number. Equal inputs give equal
    outputs whatever they are batched or padded with. Not deterministic on CUDA to the last bit with `top_k`, where
    a token's results of several clusters are added in no fixed order; where every token is in one cluster it is.

    Raises ValueError for parameters that do not fit, and in `forward` where tokens that must each be in a cluster lack
    places; NotImplementedError where `impl="triton"` cannot run on the input's device or in its dtype.
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
        assignment: Assignment = "learned",
        summaries: bool = True,
        gates: bool = True,
    ) -> None:
        super().__init__()
        if causal:
            raise ValueError("causal=True: the causal form of CAST is not there yet; use causal=False")
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim: expected a multiple of num_heads = {num_heads}, got {embed_dim}")
        CastParams(num_clusters, cluster_size, clustering, impl, assignment, summaries, gates)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.num_clusters, self.cluster_size, self.clustering, self.impl = num_clusters, cluster_size, clustering, impl
        self.assignment, self.summaries, self.gates = assignment, summaries, gates
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
        y_BNM: Tensor = self.out_proj(self._mixed(x_BNM, key_padding_mask_BN))
        return y_BNM

    @torch.no_grad()
    def choose(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Members:
        """The members `forward` chooses for this input without gradients."""
        qkv_BNX, gates = self.in_proj(x_BNM), self._gates(x_BNM)
        if self.impl == "triton":  # the same sum in the same order as in its forward pass
            query_TC = self._summed_affinities(qkv_BNX, 0)
        else:
            query_TC = Scores(qkv_BNX, self.surrogate_tokens, gates).first_look().flatten(0, 1)
        return self._members(qkv_BNX, query_TC, gates, key_padding_mask_BN)

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

    def _mixed(self, x_BNM: Tensor, mask_BN: Tensor | None) -> Tensor:
        """R_BNM. Its q, k and v are let go before out_proj needs memory for y."""
        gates = self._gates(x_BNM)
        if self.impl == "triton":
            return self._by_triton(self.in_proj(x_BNM), gates, mask_BN)
        self.ran_as = "torch"
        if torch.is_grad_enabled():

            def choose(qkv_BNX: Tensor) -> Members:
                return self._members(qkv_BNX, self._summed_affinities(qkv_BNX, 0), gates, mask_BN)

            rows, part = projected(x_BNM, self.in_proj, choose)
            with as_written(x_BNM):
                return mix(rows, self.surrogate_tokens, gates, part, x_BNM.shape[:2], with_summaries=self.summaries)
        qkv_BNX = self.in_proj(x_BNM)

        def choose_by(query_TC: Tensor) -> Members:
            return self._members(qkv_BNX, query_TC, gates, mask_BN)

        with as_written(x_BNM):
            return mix_sliced(qkv_BNX, self.surrogate_tokens, gates, choose_by, with_summaries=self.summaries)

    def _by_triton(self, qkv_BNX: Tensor, gates: Gates, mask_BN: Tensor | None) -> Tensor:
        """R_BNM by kernels that read members by index; A_q is never kept, only its sum over heads for the choice."""
        from castbench.mechanisms.cast import kernels

        reason = kernels.why_not(qkv_BNX.device, qkv_BNX.dtype, self.head_dim)
        if reason is not None:
            raise NotImplementedError(f"impl: triton cannot run here: {reason}")
        members = self._members(qkv_BNX, self._summed_affinities(qkv_BNX, 0), gates, mask_BN)
        self.ran_as = "triton"
        return kernels.mix(
            qkv_BNX, self.surrogate_tokens, gates.query_strength_BN, gates.key_strength_BN, members
        )  # fmt: skip

    def _gates(self, x_BNM: Tensor) -> Gates:
        """What phi = gate(x) decides per token, in at least float32; constants where gates are off."""
        # A matrix times a vector: as a Linear of one output it takes three times as long.
        phi_BN = wide(x_BNM @ self.gate.weight[0] + self.gate.bias)
        scale = self.head_dim**-0.5
        if not self.gates:
            even_BN = torch.full_like(phi_BN, scale)
            return Gates(torch.full_like(phi_BN, 0.5), even_BN, even_BN)
        return Gates(phi_BN.sigmoid(), gate_strength(phi_BN) * scale, gate_strength(-phi_BN) * scale)

    @torch.no_grad()
    def _summed_affinities(self, qkv_BNX: Tensor, part: int) -> Tensor:
        """Σ_h A_q (part 0) or Σ_h A_k (part 1), TC: one GEMM, since a sum over heads is a product over all of M."""
        part_TM = wide(qkv_BNX.view(-1, 3, self.embed_dim)[:, part])
        with as_written(qkv_BNX):
            return part_TM @ wide(self.surrogate_tokens).flatten(1).T

    @torch.no_grad()
    def _members(self, qkv_BNX: Tensor, query_TC: Tensor, gates: Gates, mask_BN: Tensor | None) -> Members:
        """G(A_g): indices, without gradient; or, for an ablation, what does not look at the tokens."""
        batch, length, _ = qkv_BNX.shape
        places = row_cluster_size(length, self.num_clusters, self.cluster_size)
        sizes_B = self._sizes(mask_BN)
        if self.assignment != "learned":
            padding_BN = torch.zeros_like(gates.lean_BN, dtype=torch.bool) if mask_BN is None else mask_BN
            full_B = torch.full((batch,), places, device=qkv_BNX.device)
            return by_place(
                self.assignment, padding_BN, full_B if sizes_B is None else sizes_B, self.num_clusters, places
            )
        gated_TC = gated_affinity(query_TC, self._summed_affinities(qkv_BNX, 1), gates.lean_BN.reshape(-1))
        key_BNC = choice_keys(gated_TC.view(batch, length, -1), mask_BN)
        self._require_places(length, mask_BN)
        return CHOOSERS[self.clustering](key_BNC, places, sizes_B)

    def _sizes(self, mask_BN: Tensor | None) -> Tensor | None:
        """K of every row by its real tokens; None where all rows are full."""
        if mask_BN is None:
            return None
        real_B = (~mask_BN).sum(1)
        size_B = -(-real_B // self.num_clusters) if self.cluster_size is None else self.cluster_size
        return real_B.clamp(max=size_B)

    def _require_places(self, length: int, mask_BN: Tensor | None) -> None:
        """ValueError where not every token has a place; asks the device only when a full row would not fit."""
        sentence = too_few_places(self.clustering, length, self.num_clusters, self.cluster_size)
        if sentence and mask_BN is not None:
            longest = int((~mask_BN).sum(1).max())
            sentence = too_few_places(self.clustering, longest, self.num_clusters, self.cluster_size)
        if sentence:
            raise ValueError(sentence)


def build(params: CastParams, *, embed_dim: int, num_heads: int) -> CastAttention:
    """CastAttention from a profile's parameters; ValueError while `num_clusters` is still `auto`."""
    if params.num_clusters == "auto":
        raise ValueError("num_clusters: auto must be resolved to a number by a workload's lengths before building")
    return CastAttention(
        embed_dim, num_heads, num_clusters=params.num_clusters, cluster_size=params.cluster_size,
        clustering=params.clustering, impl=params.impl, assignment=params.assignment, summaries=params.summaries,
        gates=params.gates,
    )  # fmt: skip
