"""Local attention token by token in float64: the oracle of module.py.

Shape suffixes: N real tokens of one row, H heads, D head width, M = H·D, X = 3·M.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.local.module import LocalAttention

Weights = dict[str, Tensor]


def reference(module: LocalAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's weights; padding is cut off at the right and mixes to zero."""
    return row_by_row(module, x_BNM, key_padding_mask_BN, lambda row: _mixed(module, row.weights, row.x_NM))


def sees(query: int, key: int, window: int, global_tokens: int) -> bool:
    """Whether a token sees another: within the window, or because one of them is global."""
    return abs(query - key) <= window or query < global_tokens or key < global_tokens


def _mixed(module: LocalAttention, weights: Weights, x_NM: Tensor) -> Tensor:
    """For every token the mean of the v it sees, weighted by softmax of q·k/√D, NM."""
    seen, window = module.params.global_tokens, module.params.window
    common = _projected(weights, "in_proj", module.num_heads, x_NM)
    own = _projected(weights, "global_proj", module.num_heads, x_NM) if module.params.global_projections else common
    mixed = []
    for query in range(len(x_NM)):
        q_NHD, k_NHD, v_NHD = own if query < seen else common
        keys = [key for key in range(len(x_NM)) if sees(query, key, window, seen)]
        weight_KH = ((q_NHD[query] * k_NHD[keys]).sum(-1) / math.sqrt(q_NHD.shape[-1])).softmax(0)
        mixed.append((weight_KH.unsqueeze(-1) * v_NHD[keys]).sum(0).flatten())
    return torch.stack(mixed)


def _projected(weights: Weights, name: str, heads: int, x_NM: Tensor) -> tuple[Tensor, ...]:
    """q, k and v, NHD."""
    qkv_NX = x_NM @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return qkv_NX.view(len(x_NM), 3, heads, -1).unbind(1)
