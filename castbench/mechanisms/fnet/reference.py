"""FNet's mixing as a discrete Fourier transform by its definition, token by token in float64: the oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, M width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from castbench.mechanisms.fnet.module import FNetMixing


def reference(module: FNetMixing, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64; zero at padding."""
    rows = []
    for b, x_NM in enumerate(x_BNM.double().cpu()):
        real = [n for n in range(len(x_NM)) if key_padding_mask_BN is None or not key_padding_mask_BN[b, n]]
        y_NM = torch.zeros_like(x_NM)
        if real:
            y_NM[real] = mixed(x_NM[real])
        rows.append(y_NM)
    return torch.stack(rows).to(x_BNM.device)


def mixed(x_NM: Tensor) -> Tensor:
    """y[n, m] = Re Σ_i Σ_j x[i, j]·exp(−2πi·(n·i/N + m·j/M)) = Σ_i Σ_j x[i, j]·cos(2π·(n·i/N + m·j/M)), NM.

    By cos(a + b) = cos a·cos b − sin a·sin b, the sum over tokens first.
    """
    token_angle_NN, width_angle_MM = (angles(size) for size in x_NM.shape)
    return torch.stack([
        (angle_N.cos() @ x_NM) @ width_angle_MM.cos() - (angle_N.sin() @ x_NM) @ width_angle_MM.sin()
        for angle_N in token_angle_NN
    ])  # fmt: skip


def angles(size: int) -> Tensor:
    """2π·i·j/size for all i and j; i·j is taken modulo `size` first, since large angles lose digits."""
    index = torch.arange(size)
    return (index.unsqueeze(1) * index % size).double() * (2 * math.pi / size)
