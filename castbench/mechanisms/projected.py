"""What attention modules between two projections have in common: these, drawn as nn.MultiheadAttention draws them."""

from __future__ import annotations

from torch import nn


class Projected(nn.Module):
    """in_proj (q, k and v of all heads) and out_proj; `ran_as` is what ran, None before the first forward."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.ran_as: str | None = None
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)
