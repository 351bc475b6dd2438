"""Nyströmformer as a module: softmax attention as queries to landmarks, landmarks' inverse, landmarks to keys.

    softmax(q·kᵀ)·v  ≈  softmax(q·k̃ᵀ) · Z · softmax(q̃·kᵀ)·v,   Z ≈ softmax(q̃·k̃ᵀ)⁺   (+ convolution of v)

q̃ and k̃ are means of queries and of keys over segments of a row's real tokens; since a projection is linear, they are
the projections of the means of x. Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, K landmarks,
S tokens of the longest segment, C blocks of L tokens, W taps, X = 3M. Equations from arXiv:2102.03902.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.nystrom import NystromParams, convolution_block


class NystromAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding at the right.

    A row of n real tokens has min(n, m) landmarks of its own; where n ≤ m it gets softmax attention itself.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, landmarks: int, iterations: int = 6, convolution: int | None = None
    ) -> None:
        super().__init__()
        NystromParams(landmarks, iterations, convolution)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.landmarks, self.iterations, self.convolution = landmarks, iterations, convolution
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.taps = None if convolution is None else nn.Parameter(torch.empty(num_heads, convolution))
        self.ran_as: str | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections as in nn.MultiheadAttention; the convolution as nn.Conv2d draws it."""
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)
        if self.taps is not None:
            nn.init.uniform_(self.taps, -(self.taps.shape[1] ** -0.5), self.taps.shape[1] ** -0.5)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; a row of padding only attends to its padding, so that it stays finite."""
        exact = x_BNM.shape[1] <= self.landmarks
        self.ran_as = "softmax" if exact else "landmarks"
        qkv_BNX = self.in_proj(x_BNM)
        q_BHND, k_BHND, v_BHND = self._heads(qkv_BNX)
        read_B11N = None
        if key_padding_mask_BN is not None:
            read_B11N = (~key_padding_mask_BN | key_padding_mask_BN.all(1, keepdim=True))[:, None, None, :]
        if exact:
            mixed_BHND = functional.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, attn_mask=read_B11N)
        else:
            landmark_BKM, count_BK = segment_means(x_BNM, self.landmarks, key_padding_mask_BN)
            mixed_BHND = self._by_landmarks(q_BHND, k_BHND, v_BHND, landmark_BKM, count_BK, read_B11N)
        mixed_BNM = mixed_BHND.transpose(1, 2).flatten(2)
        if self.taps is not None:
            mixed_BNM = convolved(qkv_BNX[..., -self.embed_dim :], self.taps, key_padding_mask_BN).add_(mixed_BNM)
        y_BNM: Tensor = self.out_proj(mixed_BNM)
        return y_BNM

    def _by_landmarks(
        self,
        q_BHND: Tensor,
        k_BHND: Tensor,
        v_BHND: Tensor,
        landmark_BKM: Tensor,
        count_BK: Tensor | None,
        read_B11N: Tensor | None,
    ) -> Tensor:
        """softmax(q·k̃ᵀ)·Z·softmax(q̃·kᵀ)·v, from the right, so that nothing of N × m is in memory.

        In a row with no more tokens than landmarks these are its tokens, and Z·softmax(q̃·kᵀ)·v is replaced by their v:
        what is left is softmax attention.
        """
        parts = 2 if count_BK is None else 3
        width = parts * self.embed_dim
        landmark_BKX = functional.linear(landmark_BKM, self.in_proj.weight[:width], self.in_proj.bias[:width])
        q_BHKD, k_BHKD, *v_landmarks = self._heads(landmark_BKX, parts)
        seen_BHKD = functional.scaled_dot_product_attention(q_BHKD, k_BHND, v_BHND, attn_mask=read_B11N)
        score_BHKK = wide(q_BHKD) @ wide(k_BHKD).transpose(-1, -2) / math.sqrt(q_BHKD.shape[-1])
        inverse_BHKK = pseudo_inverse(score_BHKK.softmax(-1), self.iterations)
        told_BHKD = (inverse_BHKK @ wide(seen_BHKD)).to(v_BHND.dtype)
        if count_BK is None:
            return functional.scaled_dot_product_attention(q_BHND, k_BHKD, told_BHKD)
        few_B111 = (count_BK <= 1).all(1)[:, None, None, None]
        told_BHKD = torch.where(few_B111, v_landmarks[0], told_BHKD)
        known_B11K = ((count_BK > 0) | (count_BK == 0).all(1, keepdim=True))[:, None, None, :]
        return functional.scaled_dot_product_attention(q_BHND, k_BHKD, told_BHKD, attn_mask=known_B11K)

    def _heads(self, row_BNX: Tensor, parts: int = 3) -> list[Tensor]:
        """q, k and v of all heads, BHND each; views."""
        shape = (*row_BNX.shape[:2], self.num_heads, -1)
        return [part.view(shape).transpose(1, 2) for part in row_BNX.chunk(parts, dim=-1)]


def segment_means(x_BNM: Tensor, landmarks: int, mask_BN: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Means of x over segments of a row's n real tokens, BKM, and tokens per segment, BK (None: there is no padding).

    The first n mod m segments have ⌈n/m⌉ tokens, the others ⌊n/m⌋: equal ones where m divides n, as published.
    """
    batch, length, width = x_BNM.shape
    if mask_BN is None:
        size, longer = divmod(length, landmarks)
        split = longer * (size + 1)
        head_BKM = x_BNM[:, :split].view(batch, longer, size + 1, width).mean(2)
        tail_BKM = x_BNM[:, split:].view(batch, landmarks - longer, size, width).mean(2)
        return torch.cat([head_BKM, tail_BKM], dim=1), None
    real_B1 = (~mask_BN).sum(1, keepdim=True)
    size_B1, longer_B1 = real_B1 // landmarks, real_B1 % landmarks
    number_K = torch.arange(landmarks, device=x_BNM.device)
    first_BK = number_K * size_B1 + torch.minimum(number_K, longer_B1)
    count_BK = size_B1 + (number_K < longer_B1)
    place_S = torch.arange(-(-length // landmarks), device=x_BNM.device)
    inside_BKS = place_S < count_BK.unsqueeze(-1)
    token_BKS = (first_BK.unsqueeze(-1) + place_S).clamp(max=length - 1)
    row_B11 = torch.arange(batch, device=x_BNM.device)[:, None, None] * length
    gathered_BKSM = x_BNM.flatten(0, 1).index_select(0, (row_B11 + token_BKS).flatten()).view(*token_BKS.shape, width)
    total_BKM = wide(gathered_BKSM.masked_fill(~inside_BKS.unsqueeze(-1), 0.0)).sum(2)
    return (total_BKM / count_BK.clamp(min=1).unsqueeze(-1)).to(x_BNM.dtype), count_BK


def pseudo_inverse(matrix: Tensor, iterations: int) -> Tensor:
    """Z ≈ A⁺ of matrices whose rows sum to 1, by the paper's iteration of third order.

    Z₀ = Aᵀ/(‖A‖₁·‖A‖∞) of every matrix by itself; ‖A‖∞ is 1, and ‖A‖₁ the largest sum of a column.
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = matrix.transpose(-1, -2) / matrix.sum(-2).amax(-1)[..., None, None]
    for _ in range(iterations):
        product = matrix @ inverse
        inner = 15 * eye - product @ (7 * eye - product)
        inverse = 0.25 * inverse @ (13 * eye - product @ inner)
    return inverse


def convolved(v_BNM: Tensor, taps_HW: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Every value plus its neighbours', weighted by the head's taps, BNM; nothing stands beyond a row's real tokens.

    Made as a product of every block of L tokens, with its neighbours on both sides, and a band of taps: on a CPU this
    takes a fifth of conv2d's time (as published: H channels of N × D places), or half of it where conv2d is given the
    layout it likes, whose kernel for few channels of bfloat16 does not come to an end (PyTorch 2.13).
    """
    batch, length, width = v_BNM.shape
    heads, taps = taps_HW.shape
    if mask_BN is not None:
        v_BNM = v_BNM.masked_fill(mask_BN.unsqueeze(-1), 0.0)
    block = convolution_block(taps)
    window = block + taps - 1
    edges = (0, 0, taps // 2, -length % block + taps // 2)
    window_BCMS = functional.pad(v_BNM, edges).unfold(1, window, block)
    # Row l of the band is the taps moved l places: a list one longer than the window, written window by window.
    band_HLS = functional.pad(taps_HW, (0, block)).repeat(1, block)[:, : block * window].view(heads, block, window)
    window_BCHDS = window_BCMS.view(*window_BCMS.shape[:2], heads, -1, window)
    mixed_BCLHD = torch.einsum("hls,bchds->bclhd", band_HLS, window_BCHDS)
    return mixed_BCLHD.reshape(batch, -1, width)[:, :length]


def wide(tensor: Tensor) -> Tensor:
    """The tensor in at least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def build(params: NystromParams, *, embed_dim: int, num_heads: int) -> NystromAttention:
    """NystromAttention from a profile's parameters."""
    return NystromAttention(
        embed_dim,
        num_heads,
        landmarks=params.landmarks,
        iterations=params.iterations,
        convolution=params.convolution,
    )
