"""Softmax attention step by step, all scores in memory, as PyTorch code before fused kernels wrote it.

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from castbench.mechanisms.naive import NaiveParams
from castbench.mechanisms.projected import Projected


class NaiveAttention(Projected):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; weights named as in cast and sdpa."""

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; rows of padding only attend to their padding, so that they stay finite."""
        self.ran_as = "math"
        q_BHND, k_BHND, v_BHND = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.in_proj(x_BNM).chunk(3, dim=-1)
        )
        score_BHNN = (q_BHND / math.sqrt(q_BHND.shape[-1])) @ k_BHND.transpose(-1, -2)
        if key_padding_mask_BN is not None:
            unread_BN = key_padding_mask_BN & ~key_padding_mask_BN.all(1, keepdim=True)
            score_BHNN = score_BHNN.masked_fill(unread_BN[:, None, None, :], -torch.inf)
        mixed_BHND = score_BHNN.softmax(-1) @ v_BHND
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM


def build(params: NaiveParams, *, embed_dim: int, num_heads: int) -> NaiveAttention:
    """NaiveAttention; it has no parameters to be built from."""
    return NaiveAttention(embed_dim, num_heads)
