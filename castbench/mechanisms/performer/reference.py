"""Performer as its equations say, token by token in float64 and without stabilisers: the oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, H heads, D head width, M = H·D,
F features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.performer import RELU_EPSILON

if TYPE_CHECKING:
    from castbench.mechanisms.performer.module import PerformerAttention


def reference(module: PerformerAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights and random features; padding mixes to zero."""
    weights = {name: value.double().cpu() for name, value in module.named_parameters()}
    projection_FD = module.projection.double().cpu()
    rows = []
    for b, x_NM in enumerate(x_BNM.double().cpu()):
        real = [n for n in range(len(x_NM)) if key_padding_mask_BN is None or not key_padding_mask_BN[b, n]]
        mixed_NM = torch.zeros_like(x_NM)
        if real:
            qkv_NX = x_NM[real] @ weights["in_proj.weight"].T + weights["in_proj.bias"]
            q_NHD, k_NHD, v_NHD = qkv_NX.unflatten(-1, (3, module.num_heads, -1)).unbind(1)
            mixed_NM[real] = mixed(module.kernel, projection_FD, q_NHD, k_NHD, v_NHD).flatten(1)
        rows.append(mixed_NM @ weights["out_proj.weight"].T + weights["out_proj.bias"])
    return torch.stack(rows).to(x_BNM.device)


def mixed(kernel: str, projection_FD: Tensor, q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor) -> Tensor:
    """For every token and head the mean of all v, weighted by φ(q)·φ(k), NHD."""
    phi = positive_features if kernel == "softmax" else relu_features
    key_NHF = phi(projection_FD, k_NHD)
    rows = []
    for query_HF in phi(projection_FD, q_NHD):
        weight_NH = (query_HF * key_NHF).sum(-1)
        rows.append((weight_NH.unsqueeze(-1) * v_NHD).sum(0) / weight_NH.sum(0).unsqueeze(-1))
    return torch.stack(rows)


def positive_features(projection_FD: Tensor, x_NHD: Tensor) -> Tensor:
    """φ(x)_f = exp(ω_f·x' − |x'|²/2) / √F with x' = x/D^¼, so that the mean of φ(q)·φ(k) over ω is exp(q·k/√D), NHF."""
    x_NHD = x_NHD / x_NHD.shape[-1] ** 0.25
    logarithm_NHF: Tensor = x_NHD @ projection_FD.T - x_NHD.square().sum(-1, keepdim=True) / 2
    return logarithm_NHF.exp() / math.sqrt(len(projection_FD))


def relu_features(projection_FD: Tensor, x_NHD: Tensor) -> Tensor:
    """φ(x)_f = max(ω_f·x', 0) + ε with x' = x/D^¼, NHF."""
    x_NHD = x_NHD / x_NHD.shape[-1] ** 0.25
    return (x_NHD @ projection_FD.T).clamp(min=0) + RELU_EPSILON
