"""Nyströmformer as its equations say, row by row and head by head in float64: the oracle of module.py.

Shape suffixes: N real tokens of one row, H heads, D head width, K landmarks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.nystrom.module import NystromAttention


def reference(module: NystromAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding is taken away and mixes to zero."""

    def mix(row: Row) -> Tensor:
        """All heads of one row, NM."""
        q_NHD, k_NHD, v_NHD = row.parts(module.num_heads)
        heads = []
        for h in range(module.num_heads):
            mixed_ND = head(q_NHD[:, h], k_NHD[:, h], v_NHD[:, h], module.landmarks, module.iterations)
            if module.convolution is not None:
                mixed_ND = mixed_ND + convolution(v_NHD[:, h], row.weights["taps"][h])
            heads.append(mixed_ND)
        return torch.cat(heads, dim=-1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


def head(q_ND: Tensor, k_ND: Tensor, v_ND: Tensor, landmarks: int, iterations: int) -> Tensor:
    """One head's softmax(q·k̃ᵀ)·Z·softmax(q̃·kᵀ)·v, ND; its softmax attention where tokens are that few."""
    if len(q_ND) <= landmarks:
        return attention(q_ND, k_ND) @ v_ND
    q_KD, k_KD = means(q_ND, landmarks), means(k_ND, landmarks)
    inverse_KK = inverse(attention(q_KD, k_KD), iterations)
    return attention(q_ND, k_KD) @ inverse_KK @ attention(q_KD, k_ND) @ v_ND


def means(tokens_ND: Tensor, landmarks: int) -> Tensor:
    """Means of neighbouring segments whose sizes differ by at most one, the longer ones first, KD."""
    size, longer = divmod(len(tokens_ND), landmarks)
    found, start = [], 0
    for number in range(landmarks):
        end = start + size + (number < longer)
        found.append(tokens_ND[start:end].sum(0) / (end - start))
        start = end
    return torch.stack(found)


def attention(q_ND: Tensor, k_ND: Tensor) -> Tensor:
    """softmax(q·kᵀ/√D), a row for each query."""
    rows = [((k_ND * q_D).sum(-1) / math.sqrt(len(q_D))).softmax(0) for q_D in q_ND]
    return torch.stack(rows)


def inverse(matrix_KK: Tensor, iterations: int) -> Tensor:
    """Z after so many steps of Z ← Z·(13 − A·Z·(15 − A·Z·(7 − A·Z)))/4 from Aᵀ/(‖A‖₁·‖A‖∞)."""
    one_KK = torch.eye(len(matrix_KK), dtype=matrix_KK.dtype)
    norms = matrix_KK.abs().sum(0).max() * matrix_KK.abs().sum(1).max()
    inverse_KK = matrix_KK.T / norms
    for _ in range(iterations):
        product_KK = matrix_KK @ inverse_KK
        inner_KK = 15 * one_KK - product_KK @ (7 * one_KK - product_KK)
        inverse_KK = inverse_KK @ (13 * one_KK - product_KK @ inner_KK) / 4
    return inverse_KK


def convolution(v_ND: Tensor, taps_W: Tensor) -> Tensor:
    """Σ_j taps[j]·v[n + j − ⌊w/2⌋] over the places that there are, ND."""
    mixed = []
    for n in range(len(v_ND)):
        places = [(n + j - len(taps_W) // 2, j) for j in range(len(taps_W))]
        near = [taps_W[j] * v_ND[place] for place, j in places if 0 <= place < len(v_ND)]
        mixed.append(torch.stack(near).sum(0))
    return torch.stack(mixed)
