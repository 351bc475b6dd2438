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
from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.performer.module import PerformerAttention


def reference(module: PerformerAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights and random features; padding mixes to zero."""
    projection_FD = module.projection.double().cpu()

    def mix(row: Row) -> Tensor:
        """What the real tokens of a row mix, NM."""
        return mixed(module.kernel, projection_FD, *row.parts(module.num_heads)).flatten(1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


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
