"""Linear attention as a module: φ(x) = elu(x) + 1 of queries and keys in place of softmax, between two projections.

    k ─ φ ─┬─▶ φ(k)ᵀv, D×D per head ─┐
           └─▶ sum over keys ─┐      │
    q ─ φ ────────────────────┴──────┴─▶ φ(q)·(φ(k)ᵀv) / φ(q)·Σφ(k)

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, P = B·H pairs of a row and a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.linear import LinearParams
from castbench.mechanisms.projected import Projected


class LinearAttention(Projected):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; weights named as in naive and sdpa."""

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; rows of padding only attend to their padding, so that they stay finite."""
        self.ran_as = "torch"
        batch, length, _ = x_BNM.shape
        qkv_3BHND = self.in_proj(x_BNM).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        qkv_3PND = qkv_3BHND.reshape(3, batch * self.num_heads, length, -1)
        query_PND, key_PND = features(qkv_3PND[:2])
        if key_padding_mask_BN is not None:
            unread_BN = key_padding_mask_BN & ~key_padding_mask_BN.all(1, keepdim=True)
            key_PND = key_PND.masked_fill(unread_BN.repeat_interleave(self.num_heads, 0).unsqueeze(-1), 0.0)
        mixed_PND = mix(query_PND, key_PND, qkv_3PND[2])
        y_BNM: Tensor = self.out_proj(mixed_PND.view(batch, self.num_heads, length, -1).transpose(1, 2).flatten(2))
        return y_BNM


def features(x: Tensor) -> Tensor:
    """φ(x) = elu(x) + 1, in float32 where x is narrower: of the 8 bits of elu(x) near −1, little is left near 0."""
    return functional.elu(x if x.dtype == torch.float64 else x.float()).add_(1.0)


def mix(query_PND: Tensor, key_PND: Tensor, v_PND: Tensor) -> Tensor:
    """φ(q)·(φ(k)ᵀv) / φ(q)·Σφ(k), PND, in v's dtype but for the denominators.

    Keys count 1/N each above and below the line: half precision could not hold their sum.
    """
    share, dtype = 1 / v_PND.shape[1], v_PND.dtype
    unused_111 = v_PND.new_zeros(1, 1, 1)
    value_PDD = torch.baddbmm(unused_111, key_PND.to(dtype).transpose(1, 2), v_PND, beta=0, alpha=share)
    mixed_PND = torch.bmm(query_PND.to(dtype), value_PDD)
    sum_PN1 = (query_PND * key_PND.mean(1, keepdim=True)).sum(-1, keepdim=True)
    # A query all of whose features underflow reads nothing: 0 instead of 0/0.
    return mixed_PND / sum_PN1.clamp(min=torch.finfo(sum_PN1.dtype).tiny).to(dtype)


def build(params: LinearParams, *, embed_dim: int, num_heads: int) -> LinearAttention:
    """LinearAttention; it has no parameters to be built from."""
    return LinearAttention(embed_dim, num_heads)
