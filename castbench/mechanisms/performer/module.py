"""Performer's FAVOR+ as a module: random features of queries and keys, between two projections.

    k ─ features ─ softmax over keys ───▶ mean of v by feature ─┐
               └─ log of sum over keys ─┐                       │
    q ─ features ───────────────────── (+) ─ softmax over features ─▶ R

The two softmaxes are the paper's quotient Σ_n φ(q)·φ(k_n) v_n / Σ_n φ(q)·φ(k_n) with φ(x)_f = exp(ω_f·x − |x|²/2),
each factor divided by its own sum: exact, without an epsilon, and never a small number divided by another.

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, P = B·H pairs of a row and a head, F features,
G blocks of D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from castbench.mechanisms.performer import RELU_EPSILON, PerformerParams, features_of


class PerformerAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; weights named as in naive and sdpa.

    Equal inputs give equal outputs but where `redraw_every` is set, and there only passes in training mode with
    gradients draw: from torch's global generator, when the features have served as many passes.
    """

    def __init__(self, params: PerformerParams, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.kernel, self.redraw_every = num_heads, params.kernel, params.redraw_every
        head_dim = embed_dim // num_heads
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.projection: Tensor
        self.register_buffer("projection", orthogonal_gaussians(features_of(params, head_dim), head_dim))
        self.ran_as: str | None = None
        self._passes = 0
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; rows of padding only attend to their padding, so that they stay finite."""
        self.ran_as = "torch"
        if self.redraw_every and self.training and torch.is_grad_enabled():
            self._count_pass()
        batch, length, _ = x_BNM.shape
        qkv_3BHND = self.in_proj(x_BNM).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q_PND, k_PND, v_PND = wide(qkv_3BHND).reshape(3, batch * self.num_heads, length, -1)
        unread_P1N = None
        if key_padding_mask_BN is not None:
            unread_BN = key_padding_mask_BN & ~key_padding_mask_BN.all(1, keepdim=True)
            unread_P1N = unread_BN.repeat_interleave(self.num_heads, 0).unsqueeze(1)
        mix = mix_by_softmax if self.kernel == "softmax" else mix_by_relu
        mixed_PND = mix(q_PND, k_PND, v_PND, wide(self.projection), unread_P1N)
        mixed_BNM = mixed_PND.view(batch, self.num_heads, length, -1).transpose(1, 2).flatten(2)
        y_BNM: Tensor = self.out_proj(mixed_BNM.to(x_BNM.dtype))
        return y_BNM

    def _count_pass(self) -> None:
        """New features where the present ones have served their passes."""
        if self._passes == self.redraw_every:
            self.projection.copy_(orthogonal_gaussians(*self.projection.shape))
            self._passes = 0
        self._passes += 1


def mix_by_softmax(
    q_PND: Tensor, k_PND: Tensor, v_PND: Tensor, projection_FD: Tensor, unread_P1N: Tensor | None
) -> Tensor:  # fmt: skip
    """R of the positive features φ(x)_f = exp(ω_f·x − |x|²/2) of x = q/D^¼ and k/D^¼; a query's |x|² cancels."""
    scaled_PFD = scaled_projection(projection_FD, len(q_PND))
    bias_P1N = k_PND.square().sum(-1).mul(-0.5 / k_PND.shape[-1] ** 0.5).unsqueeze(1)
    if unread_P1N is not None:
        bias_P1N = bias_P1N.masked_fill(unread_P1N, -torch.inf)
    key_PFN = torch.bmm(scaled_PFD, k_PND.transpose(1, 2)).add_(bias_P1N)
    peak_PF1 = key_PFN.detach().amax(-1, keepdim=True)
    key_PFN = key_PFN.sub_(peak_PF1).exp_()
    sum_PF1 = key_PFN.sum(-1, keepdim=True)
    mean_PFD = torch.bmm(key_PFN, v_PND) / sum_PF1
    del key_PFN  # as large as the queries' features, which come now
    log_sum_P1F = (sum_PF1.log() + peak_PF1).transpose(1, 2)
    share_PNF = torch.bmm(q_PND, scaled_PFD.transpose(1, 2)).add_(log_sum_P1F).softmax(-1)
    return torch.bmm(share_PNF, mean_PFD)


def mix_by_relu(
    q_PND: Tensor, k_PND: Tensor, v_PND: Tensor, projection_FD: Tensor, unread_P1N: Tensor | None
) -> Tensor:  # fmt: skip
    """R of the features φ(x)_f = max(ω_f·x, 0) + ε of x = q/D^¼ and k/D^¼."""
    scaled_PFD = scaled_projection(projection_FD, len(q_PND))
    key_PFN = torch.bmm(scaled_PFD, k_PND.transpose(1, 2)).relu_() + RELU_EPSILON
    if unread_P1N is not None:
        key_PFN = key_PFN.masked_fill_(unread_P1N, 0.0)
    value_PFD, sum_PF1 = torch.bmm(key_PFN, v_PND), key_PFN.sum(-1, keepdim=True)
    del key_PFN  # as large as the queries' features, which come now
    query_PNF = (torch.bmm(scaled_PFD, q_PND.transpose(1, 2)).relu_() + RELU_EPSILON).transpose(1, 2)
    return torch.bmm(query_PNF, value_PFD) / torch.bmm(query_PNF, sum_PF1)


def scaled_projection(projection_FD: Tensor, pairs: int) -> Tensor:
    """ω/D^¼ for every row and head, PFD: it scales queries and keys, since ω·(x/D^¼) = (ω/D^¼)·x."""
    scaled_FD: Tensor = projection_FD * projection_FD.shape[1] ** -0.25
    return scaled_FD.expand(pairs, -1, -1)


def orthogonal_gaussians(features: int, width: int) -> Tensor:
    """ω, FD: vectors as long as Gaussian ones, and orthogonal to one another within every D of them."""
    blocks = -(-features // width)
    q_GDD, r_GDD = torch.linalg.qr(torch.randn(blocks, width, width))
    # Without these signs a column of Q is not equally likely to point anywhere: LAPACK chooses them by the matrix.
    q_GDD = q_GDD * r_GDD.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)
    direction_FD: Tensor = q_GDD.transpose(1, 2).reshape(-1, width)[:features]
    length_F1: Tensor = torch.linalg.vector_norm(torch.randn(features, width), dim=1, keepdim=True)
    return direction_FD * length_F1


def wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower: features are exponentials of what 8 bits would round too much."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def build(params: PerformerParams, *, embed_dim: int, num_heads: int) -> PerformerAttention:
    """PerformerAttention with features drawn from torch's global generator."""
    return PerformerAttention(params, embed_dim, num_heads)
