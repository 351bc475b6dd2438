"""Softmax attention token by token in float64: the oracle of every mechanism that computes it exactly.

Shape suffixes: N real tokens of one row, H heads, D head width, M = H·D.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def reference(module: Any, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's in_proj, out_proj and num_heads; padding is taken away and mixes to zero."""
    weights = {name: value.double().cpu() for name, value in module.named_parameters()}
    rows = []
    for b, x_NM in enumerate(x_BNM.double().cpu()):
        real = [n for n in range(len(x_NM)) if key_padding_mask_BN is None or not key_padding_mask_BN[b, n]]
        mixed_NM = torch.zeros_like(x_NM)
        if real:
            qkv_NX = x_NM[real] @ weights["in_proj.weight"].T + weights["in_proj.bias"]
            mixed_NM[real] = _mixed(*qkv_NX.unflatten(-1, (3, module.num_heads, -1)).unbind(1)).flatten(1)
        rows.append(mixed_NM @ weights["out_proj.weight"].T + weights["out_proj.bias"])
    return torch.stack(rows).to(x_BNM.device)


def _mixed(q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor) -> Tensor:
    """For every token the mean of all v, weighted by softmax of q·k/√D, NHD."""
    mixed = []
    for q_HD in q_NHD:
        weight_NH = ((q_HD * k_NHD).sum(-1) / math.sqrt(q_HD.shape[-1])).softmax(0)
        mixed.append((weight_NH.unsqueeze(-1) * v_NHD).sum(0))
    return torch.stack(mixed)
