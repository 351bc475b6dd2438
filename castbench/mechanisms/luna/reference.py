"""Luna as its equations say, row by row and query by query in float64: the oracle of module.py.

Shape suffixes: N real tokens of one row, H heads, D head width, M = H·D, P context vectors, Q either of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.luna.module import LunaAttention

Weights = dict[str, Tensor]


def reference(module: LunaAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding is taken away and mixes to zero."""
    return row_by_row(module, x_BNM, key_padding_mask_BN, lambda row: mixed(row.weights, row.x_NM, module.num_heads))


def mixed(weights: Weights, x_NM: Tensor, heads: int) -> Tensor:
    """Y_P = Attn(P, X), and of it Attn(X, Y_P), NM."""
    width = x_NM.shape[1]
    q_NM, *context = parts(projected(weights, "in_proj", x_NM), width)
    query_PM = projected(weights, "pack_query", weights["context"])
    packed_PM = attention(query_PM, context[0], context[-1], heads)
    packed = parts(projected(weights, "unpack_proj", packed_PM), width)
    return attention(q_NM, packed[0], packed[-1], heads)


def projected(weights: Weights, name: str, rows: Tensor) -> Tensor:
    """W·row + b of every row."""
    return torch.stack([weights[f"{name}.weight"] @ row + weights[f"{name}.bias"] for row in rows])


def parts(rows: Tensor, width: int) -> list[Tensor]:
    """Rows of several widths M cut into rows of M."""
    return [rows[:, start : start + width] for start in range(0, rows.shape[1], width)]


def attention(q_QM: Tensor, k_NM: Tensor, v_NM: Tensor, heads: int) -> Tensor:
    """softmax(q·kᵀ/√D)·v, head by head and query by query, QM."""
    q_QHD, k_NHD, v_NHD = (part.reshape(len(part), heads, -1) for part in (q_QM, k_NM, v_NM))
    found = []
    for q_HD in q_QHD:
        weight_NH = ((k_NHD * q_HD).sum(-1) / math.sqrt(q_HD.shape[-1])).softmax(0)
        found.append((weight_NH.unsqueeze(-1) * v_NHD).sum(0).flatten())
    return torch.stack(found)
