"""Linformer as its equations say, row by row and head by head in float64: the oracle of module.py.

Shape suffixes: N real tokens of one row, D head width, M all heads' widths, K rows after projection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.linformer.module import LinformerAttention


def reference(module: LinformerAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding is taken away, with its columns, and mixes to zero."""

    def mix(row: Row) -> Tensor:
        """All heads of one row, NM."""
        q_NHD, k_NHD, v_NHD = row.parts(module.num_heads)
        columns_PHKN = row.weights["sequence_proj"][..., row.real]
        heads = [
            head(q_NHD[:, h], k_NHD[:, h], v_NHD[:, h], *own_projections(columns_PHKN, h))
            for h in range(module.num_heads)
        ]
        return torch.cat(heads, dim=-1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


def own_projections(columns_PHKN: Tensor, h: int) -> tuple[Tensor, Tensor]:
    """E and F of one head, whether it shares them or not, each KN."""
    e_HKN, f_HKN = columns_PHKN[0], columns_PHKN[-1]
    return e_HKN[min(h, len(e_HKN) - 1)], f_HKN[min(h, len(f_HKN) - 1)]


def head(q_ND: Tensor, k_ND: Tensor, v_ND: Tensor, e_KN: Tensor, f_KN: Tensor) -> Tensor:
    """softmax(q·(E·K)ᵀ/√D)·(F·V) of one head, query by query, ND."""
    short_k_KD = torch.stack([(e_N.unsqueeze(-1) * k_ND).sum(0) for e_N in e_KN])
    short_v_KD = torch.stack([(f_N.unsqueeze(-1) * v_ND).sum(0) for f_N in f_KN])
    mixed = []
    for q_D in q_ND:
        weight_K = ((short_k_KD * q_D).sum(-1) / math.sqrt(len(q_D))).softmax(0)
        mixed.append((weight_K.unsqueeze(-1) * short_v_KD).sum(0))
    return torch.stack(mixed)
