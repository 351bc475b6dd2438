"""Linformer as its equations say, row by row and head by head in float64: the oracle of module.py.

Shape suffixes: N real tokens of one row, D head width, M all heads' widths, K rows after projection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from castbench.mechanisms.linformer.module import LinformerAttention


def reference(module: LinformerAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding is taken away, with its columns, and mixes to zero."""
    weights = {name: value.double().cpu() for name, value in module.named_parameters()}
    rows = []
    for b, x_NM in enumerate(x_BNM.double().cpu()):
        real = [n for n in range(len(x_NM)) if key_padding_mask_BN is None or not key_padding_mask_BN[b, n]]
        mixed_NM = torch.zeros_like(x_NM)
        if real:
            qkv_NX = x_NM[real] @ weights["in_proj.weight"].T + weights["in_proj.bias"]
            q_NHD, k_NHD, v_NHD = qkv_NX.view(len(real), 3, module.num_heads, -1).unbind(1)
            columns_PHKN = weights["sequence_proj"][..., real]
            heads = [
                head(q_NHD[:, h], k_NHD[:, h], v_NHD[:, h], *own_projections(columns_PHKN, h))
                for h in range(module.num_heads)
            ]
            mixed_NM[real] = torch.cat(heads, dim=-1)
        rows.append(mixed_NM @ weights["out_proj.weight"].T + weights["out_proj.bias"])
    return torch.stack(rows).to(x_BNM.device)


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
