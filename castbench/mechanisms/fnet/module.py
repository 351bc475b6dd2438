"""FNet's mixing as a module: the real part of a Fourier transform over tokens and hidden width, nothing learned.

Shape suffixes: B batch, N tokens, M width, K = M // 2 + 1 frequencies of a real transform, R = M − K others,
G rows of one length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from castbench.mechanisms.fnet import FNetParams


class FNetMixing(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding, which stands at the right of a row.

    There are no weights, no projections and no heads; `num_heads` is kept for those who ask every mechanism for it.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ran_as: str | None = None

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM: every row is transformed at its own length, and is zero at its padding."""
        self.ran_as = "fft"
        lengths = None if key_padding_mask_BN is None else (~key_padding_mask_BN).sum(1).tolist()
        return fourier(x_BNM, lengths)


def fourier(x_BNM: Tensor, lengths: list[int] | None) -> Tensor:
    """Every row transformed at its own length, and zero after it; differentiable."""
    y_BNM: Tensor = Fourier.apply(x_BNM, lengths)  # type: ignore[no-untyped-call]
    return y_BNM


class Fourier(torch.autograd.Function):
    """The transform with itself for its gradient: its matrix, cos(2π·(n·i/N + m·j/M)), is symmetric."""

    @staticmethod
    def forward(ctx: Any, x_BNM: Tensor, lengths: list[int] | None) -> Tensor:
        """y_BNM; no tensor is kept for the way back."""
        ctx.lengths = lengths
        return transformed(x_BNM) if lengths is None else transformed_by_length(x_BNM, lengths)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The transform of y's gradient."""
        [d_y_BNM] = gradients
        return fourier(d_y_BNM, ctx.lengths), None


def transformed_by_length(x_BNM: Tensor, lengths: list[int]) -> Tensor:
    """Rows of equal length together, at that length; y_BNM is zero after it."""
    y_BNM = torch.zeros_like(x_BNM)
    for length in sorted(set(lengths) - {0}):
        rows = [row for row, its in enumerate(lengths) if its == length]
        y_BNM[rows, :length] = transformed(x_BNM[rows, :length])
    return y_BNM


def transformed(x_GNM: Tensor) -> Tensor:
    """Re(FFT over tokens and width), GNM, computed in at least float32.

    x is real, so that frequency (n, m) is the conjugate of (−n, −m), and their real parts are equal: half of them are
    computed and the others are copied from there.
    """
    wide_GNM = x_GNM if x_GNM.dtype == torch.float64 else x_GNM.float()
    half_GNK = torch.fft.rfft2(wide_GNM).real
    known = half_GNK.shape[2]
    mirrored_GNR = half_GNK[:, :, 1 : x_GNM.shape[2] - known + 1].flip(2)
    y_GNM = torch.empty_like(x_GNM, memory_format=torch.contiguous_format)
    y_GNM[:, :, :known] = half_GNK
    y_GNM[:, 0, known:] = mirrored_GNR[:, 0]
    y_GNM[:, 1:, known:] = mirrored_GNR[:, 1:].flip(1)
    return y_GNM


def build(params: FNetParams, *, embed_dim: int, num_heads: int) -> FNetMixing:
    """FNetMixing; it has no parameters to be built from."""
    return FNetMixing(num_heads)
