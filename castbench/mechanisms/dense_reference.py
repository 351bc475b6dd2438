"""Softmax attention token by token in float64: the oracle of every mechanism that computes it exactly.

Shape suffixes: N real tokens of one row, H heads, D head width, M = H·D.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import row_by_row


def reference(module: Any, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's in_proj, out_proj and num_heads; padding is taken away and mixes to zero."""
    return row_by_row(module, x_BNM, key_padding_mask_BN, lambda row: _mixed(*row.parts(module.num_heads)).flatten(1))


def _mixed(q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor) -> Tensor:
    """For every token the mean of all v, weighted by softmax of q·k/√D, NHD."""
    mixed = []
    for q_HD in q_NHD:
        weight_NH = ((q_HD * k_NHD).sum(-1) / math.sqrt(q_HD.shape[-1])).softmax(0)
        mixed.append((weight_NH.unsqueeze(-1) * v_NHD).sum(0))
    return torch.stack(mixed)
