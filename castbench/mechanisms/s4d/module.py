"""S4D: every channel is filtered along the tokens by its own state space, as one convolution by Fourier transforms.

    x ──┬─ filter ahead (and one behind) ─┬─ (+) ─ GELU ─ out_proj, gated ─▶ y
        └─ · D ───────────────────────────┘

Shape suffixes: B batch, N tokens, M channels, S pairs of state, R directions, A and P steps of the two tables whose
products are all powers of a state's decay, X = 2·S, F points of a transform.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from castbench.mechanisms.s4d import S4dParams, filter_tables, transform_length

STEP_RANGE = (1e-3, 1e-1)
"""Steps Δ of the channels at the start, drawn between these with even logarithms, as published."""


class S4dLayer(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding, which stands at the right of rows.

    There is no in_proj and there are no heads: each channel has a filter. `out_proj` is M to 2·M where it is gated.
    """

    def __init__(self, embed_dim: int, num_heads: int, params: S4dParams) -> None:
        super().__init__()
        self.num_heads, self.params = num_heads, params
        pairs = params.state_size // 2
        self.log_step = nn.Parameter(torch.empty(embed_dim))
        self.log_decay = nn.Parameter(torch.empty(embed_dim, pairs))
        self.frequency = nn.Parameter(torch.empty(embed_dim, pairs))
        self.readout = nn.Parameter(torch.empty(params.directions, embed_dim, pairs, 2))
        self.skip = nn.Parameter(torch.empty(embed_dim))
        self.out_proj = nn.Linear(embed_dim, params.outputs * embed_dim)
        self.ran_as: str | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """S4D-Lin: A_n = −½ + iπn; C of complex normal numbers of unit variance, D normal, Δ as STEP_RANGE says."""
        low, high = map(math.log, STEP_RANGE)
        nn.init.uniform_(self.log_step, low, high)
        nn.init.constant_(self.log_decay, math.log(0.5))
        with torch.no_grad():
            self.frequency.copy_(math.pi * torch.arange(self.frequency.shape[1]))
        nn.init.normal_(self.readout, std=0.5**0.5)
        nn.init.normal_(self.skip)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; what stands at padding is finite and means nothing."""
        self.ran_as = "fft"
        if key_padding_mask_BN is not None:
            x_BNM = x_BNM.masked_fill(key_padding_mask_BN.unsqueeze(-1), 0.0)
        input_BMN = wide(x_BNM).transpose(1, 2)
        filtered_BMN = Convolved.apply(input_BMN, self.filters(x_BNM.shape[1]))  # type: ignore[no-untyped-call]
        state_BNM = torch.addcmul(filtered_BMN, input_BMN, wide(self.skip).unsqueeze(-1)).transpose(1, 2)
        y_BNM: Tensor = self.out_proj(functional.gelu(state_BNM.to(x_BNM.dtype)))
        return functional.glu(y_BNM, -1) if self.params.gated else y_BNM

    def filters(self, length: int) -> Tensor:
        """K[r, m, l] = 2·Re Σ_n C·B̄·Ā^l with Ā = exp(Δ·A) and B̄ = (Ā − 1) / A (zero-order hold, B = 1), RMN."""
        a_MS = torch.complex(-wide(self.log_decay).exp(), wide(self.frequency))
        log_MS = wide(self.log_step).exp().unsqueeze(-1) * a_MS
        scale_RMS = 2 * torch.view_as_complex(wide(self.readout)) * (torch.expm1(log_MS) / a_MS)
        found_RMN: Tensor = SumOfPowers.apply(scale_RMS, log_MS, length)  # type: ignore[no-untyped-call]
        return found_RMN


class SumOfPowers(torch.autograd.Function):
    """f[r, m, l] = Re Σ_s c[r, m, s]·exp(l·a[m, s]) for l = 0 to N − 1, RMN.

    exp((i·P + p)·a) = exp(i·P·a)·exp(p·a): two tables of about √N powers and one product per channel, where the table
    of all powers would take N·M·S exponentials. The tables are made again for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, scale_RMS: Tensor, log_MS: Tensor, length: int) -> Tensor:
        """The real part of c·z̄ is a product of real numbers twice as many; the table within is conjugated for it."""
        ctx.save_for_backward(scale_RMS, log_MS)
        steps, within = filter_tables(length)
        far_MRAS = scale_RMS.transpose(0, 1).unsqueeze(2) * powers(log_MS * within, steps).unsqueeze(1)
        product_MAP = torch.bmm(
            _doubled(far_MRAS).flatten(1, 2), _doubled(powers(log_MS.conj(), within)).transpose(1, 2)
        )
        return product_MAP.view(len(log_MS), len(scale_RMS), -1)[..., :length].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RMN: Tensor) -> tuple[Tensor | None, ...]:
        """With t = Σ_l g[l]·exp(l·ā), c gets t, and a what is conjugate to Σ_r c·t̄', of l·g[l] instead of g[l]."""
        scale_RMS, log_MS = ctx.saved_tensors
        length = grad_RMN.shape[-1]
        steps, within = filter_tables(length)
        lag_N = torch.arange(length, device=grad_RMN.device)
        both_XMN = functional.pad(torch.cat((grad_RMN, grad_RMN * lag_N)), (0, steps * within - length))
        both_MAP = both_XMN.transpose(0, 1).reshape(len(log_MS), -1, within)
        near_MAX = torch.bmm(both_MAP, _doubled(powers(log_MS.conj(), within)))
        near_MXAS = torch.view_as_complex(near_MAX.view(len(log_MS), 2 * len(scale_RMS), steps, -1, 2))
        summed_MXS = (near_MXAS * powers(log_MS.conj() * within, steps).unsqueeze(1)).sum(2)
        plain_RMS, by_lag_RMS = summed_MXS.transpose(0, 1).chunk(2)
        return plain_RMS, (scale_RMS.conj() * by_lag_RMS).sum(0), None


class Convolved(torch.autograd.Function):
    """Every channel's filters over its tokens, BMN: filter 0 over a token and those before it, filter 1, if there is
    one, over those after it, lag 1 with its first number. Transforms are made again for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, input_BMN: Tensor, filter_RMN: Tensor) -> Tensor:
        """A product of spectra, with room for all lags."""
        ctx.save_for_backward(input_BMN, filter_RMN)
        length = input_BMN.shape[-1]
        points = transform_length(length)
        product_BMF = torch.fft.rfft(input_BMN, n=points)
        product_BMF *= torch.fft.rfft(_two_sided(filter_RMN, points))
        filtered_BMF: Tensor = torch.fft.irfft(product_BMF, n=points)
        return filtered_BMF[..., :length]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BMN: Tensor) -> tuple[Tensor, Tensor]:
        """Correlations: the gradient's with the filter for the input, and with the input for the filter."""
        input_BMN, filter_RMN = ctx.saved_tensors
        length = input_BMN.shape[-1]
        points = transform_length(length)
        grad_BMF = torch.fft.rfft(grad_BMN, n=points)
        to_input_BMF = grad_BMF * torch.fft.rfft(_two_sided(filter_RMN, points)).conj()
        to_filter_MF = (grad_BMF * torch.fft.rfft(input_BMN, n=points).conj()).sum(0)
        lagged_MF = torch.fft.irfft(to_filter_MF, n=points)
        to_filter_RMN = torch.zeros_like(filter_RMN)
        to_filter_RMN[0] = lagged_MF[:, :length]
        if len(filter_RMN) > 1:
            to_filter_RMN[1, :, : length - 1] = lagged_MF.flip(-1)[:, : length - 1]
        return torch.fft.irfft(to_input_BMF, n=points)[..., :length], to_filter_RMN


def powers(log_MS: Tensor, count: int) -> Tensor:
    """exp(l·log) for l = 0 to count − 1, MLS: doubled, so that few exponentials are needed, of exact multiples."""
    table_MLS, step_M1S = torch.ones_like(log_MS).unsqueeze(1), log_MS.unsqueeze(1)
    while table_MLS.shape[1] < count:
        more_MLS = table_MLS[:, : count - table_MLS.shape[1]] * torch.exp(step_M1S)
        table_MLS, step_M1S = torch.cat((table_MLS, more_MLS), 1), 2 * step_M1S
    return table_MLS


def _doubled(complex_S: Tensor) -> Tensor:
    """Complex numbers along the last axis as twice as many real ones: real part, imaginary part, and so on."""
    return torch.view_as_real(complex_S.resolve_conj()).flatten(-2)


def _two_sided(filter_RMN: Tensor, points: int) -> Tensor:
    """Filters as one of period F, MF: lags 0 to N − 1 from the start, −1 to −(N − 1) from the end."""
    if len(filter_RMN) == 1:
        return functional.pad(filter_RMN[0], (0, points - filter_RMN.shape[-1]))
    later_MN = filter_RMN[1, :, : filter_RMN.shape[-1] - 1]
    gap_MF = filter_RMN.new_zeros(filter_RMN.shape[1], points - 2 * later_MN.shape[-1] - 1)
    return torch.cat((filter_RMN[0], gap_MF, later_MN.flip(-1)), -1)


def wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower: exponentials and transforms are never rounded to 8 bits."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def build(params: S4dParams, *, embed_dim: int, num_heads: int) -> S4dLayer:
    """S4dLayer of a description's parameters."""
    return S4dLayer(embed_dim, num_heads, params)
