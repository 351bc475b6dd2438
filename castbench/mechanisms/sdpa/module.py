"""PyTorch's fused softmax attention between two projections, and which of its kernels really ran.

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend

from castbench.mechanisms.sdpa import SdpaParams


class SdpaAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; weights named as in cast and naive.

    Without a mask none is handed on, so that PyTorch is free to take the kernels that know none.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.ran_as: str | None = None
        self._backends: dict[object, str] = {}
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; rows of padding only attend to their padding, so that they stay finite."""
        q_BHND, k_BHND, v_BHND = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.in_proj(x_BNM).chunk(3, dim=-1)
        )
        read_B11N = None
        if key_padding_mask_BN is not None:
            read_B11N = (~key_padding_mask_BN | key_padding_mask_BN.all(1, keepdim=True))[:, None, None, :]
        self.ran_as = self._backend(q_BHND, k_BHND, v_BHND, read_B11N)
        mixed_BHND = functional.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, attn_mask=read_B11N)
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM

    def _backend(self, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, read_B11N: Tensor | None) -> str:
        """The kernel PyTorch chooses for these very tensors; asked once per kind of input, so that it costs no time."""
        kind = (q_BHND.shape, q_BHND.dtype, q_BHND.device, q_BHND.requires_grad, read_B11N is None)
        if kind not in self._backends:
            number = torch._fused_sdp_choice(q_BHND, k_BHND, v_BHND, read_B11N)
            self._backends[kind] = SDPBackend(number).name.lower()
        return self._backends[kind]


def build(params: SdpaParams, *, embed_dim: int, num_heads: int) -> SdpaAttention:
    """SdpaAttention; it has no parameters to be built from."""
    return SdpaAttention(embed_dim, num_heads)
