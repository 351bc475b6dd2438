"""Linear attention as its paper's equation says, token by token in float64: the oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, H heads, D head width, M = H·D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.linear.module import LinearAttention


def reference(module: LinearAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding mixes to zero."""
    return row_by_row(module, x_BNM, key_padding_mask_BN, lambda row: mixed(*row.parts(module.num_heads)).flatten(1))


def mixed(q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor) -> Tensor:
    """V'_i = Σ_j φ(q_i)·φ(k_j) v_j / Σ_j φ(q_i)·φ(k_j), for every token and head, NHD."""
    key_NHD = phi(k_NHD)
    rows = []
    for query_HD in phi(q_NHD):
        weight_NH = (query_HD * key_NHD).sum(-1)
        rows.append((weight_NH.unsqueeze(-1) * v_NHD).sum(0) / weight_NH.sum(0).unsqueeze(-1))
    return torch.stack(rows)


def phi(x_NHD: Tensor) -> Tensor:
    """φ(x) = elu(x) + 1: x + 1 above zero, exp(x) below."""
    return torch.where(x_NHD > 0, x_NHD + 1, x_NHD.clamp(max=0).exp())
