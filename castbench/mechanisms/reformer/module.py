"""Reformer's attention as a module: projections, hash buckets (buckets.py), attention among sorted tokens (rounds.py).

    x ─ in_proj ─▶ qk v ─ hash, sort ─▶ places ─ attention, round by round ─▶ mean of rounds ─ out_proj ─▶ y

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, S parts of in_proj, X = S·M, R hash rounds,
J directions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from castbench.mechanisms.reformer import ReformerParams, Sizes, sizes
from castbench.mechanisms.reformer.buckets import Places, bucket_of, by_bucket, places_of
from castbench.mechanisms.reformer.rounds import HashedAttention, wide_of


class ReformerAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; 0 is mixed at padding.

    `in_proj` makes qk and v (M to 2·M), or q, k and v without `shared_qk`. The random directions are drawn once, from
    torch's global generator, for all heads.
    """

    def __init__(self, embed_dim: int, num_heads: int, params: ReformerParams) -> None:
        super().__init__()
        self.num_heads, self.params = num_heads, params
        self.in_proj = nn.Linear(embed_dim, params.inputs * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.register_buffer("directions", torch.randn(embed_dim // num_heads, params.hashes, params.directions))
        self.directions: Tensor
        self.ran_as: str | None = None
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM."""
        qkv_BNX, known = self.in_proj(x_BNM), sizes(self.params, x_BNM.shape[1])
        self.ran_as = "one_chunk" if known.chunks == 1 else "chunks"
        places = self._places(self._buckets(qkv_BNX, key_padding_mask_BN, known), key_padding_mask_BN, known)
        mixed_BNM = HashedAttention.apply(  # type: ignore[no-untyped-call]
            qkv_BNX, places.query_BHRP, places.key_BHRE, places.real_BE, key_padding_mask_BN, self.params.inputs, known
        )
        y_BNM: Tensor = self.out_proj(mixed_BNM)
        return y_BNM

    @torch.no_grad()
    def choose(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> list[Tensor]:
        """The buckets that `forward` sorts by, each BHRN: of the queries, and without `shared_qk` of the keys."""
        known = sizes(self.params, x_BNM.shape[1])
        return self._buckets(self.in_proj(x_BNM), key_padding_mask_BN, known)

    def _buckets(self, qkv_BNX: Tensor, mask_BN: Tensor | None, known: Sizes) -> list[Tensor]:
        """Of what is hashed, in at least float32; all in bucket 0 where a row is one chunk."""
        parts = qkv_BNX.detach().view(*qkv_BNX.shape[:2], self.params.inputs, self.num_heads, -1).unbind(2)[:-1]
        if known.chunks == 1:
            batch, length, heads, _ = parts[0].shape
            return [torch.zeros(batch, heads, 1, length, dtype=torch.int64, device=qkv_BNX.device)] * len(parts)
        chunks_B = None
        if mask_BN is not None:
            chunks_B = ((~mask_BN).sum(1) + known.size - 1) // known.size
        directions_DRJ = wide_of(self.directions)
        return [bucket_of(wide_of(part_BNHD), directions_DRJ, chunks_B, known) for part_BNHD in parts]

    @torch.no_grad()
    def _places(self, buckets: list[Tensor], mask_BN: Tensor | None, known: Sizes) -> Places:
        """Tokens sorted by bucket."""
        orders = [by_bucket(bucket_BHRN, mask_BN) for bucket_BHRN in buckets]
        return places_of(orders[0], None if self.params.shared_qk else orders[1], mask_BN, known)


def build(params: ReformerParams, *, embed_dim: int, num_heads: int) -> ReformerAttention:
    """ReformerAttention from a profile's parameters."""
    return ReformerAttention(embed_dim, num_heads, params)
