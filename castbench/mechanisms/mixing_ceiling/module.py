"""The mixing ceiling as a module: the value and output projections and nothing between them."""

from __future__ import annotations

from torch import Tensor, nn

from castbench.mechanisms.mixing_ceiling import MixingCeilingParams


class MixingCeiling(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`: out_proj(in_proj(x)), in_proj being that of v alone."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.ran_as: str | None = None

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """Every token by itself; a mask changes nothing."""
        self.ran_as = "projections"
        y_BNM: Tensor = self.out_proj(self.in_proj(x_BNM))
        return y_BNM


def build(params: MixingCeilingParams, *, embed_dim: int, num_heads: int) -> MixingCeiling:
    """MixingCeiling; the number of heads makes no difference."""
    return MixingCeiling(embed_dim)
