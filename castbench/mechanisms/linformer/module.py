"""Linformer as a module: E and F mix the tokens of a row into k keys and k values, which all its queries attend to.

    x ─ E, F ─▶ k rows each ─ in_proj ─▶ keys, values ─┐        (or in_proj first, where that costs less)
    └── in_proj ─▶ q ──────────────────── attention ───┴─ out_proj ─▶ y

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, K rows after projection, P of E and F that there
are (one where they are the same), L longest row. Equation (7) of arXiv:2006.04768.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.linformer import LinformerParams, Share, projections_held, sequence_first, too_long


class LinformerAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding at the right.

    A row of n tokens uses the first n columns of E and F. ValueError for rows longer than they have.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, rank: int, max_seq_len: int, share: Share = "headwise"
    ) -> None:
        super().__init__()
        LinformerParams(rank, max_seq_len, share)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.rank, self.max_seq_len, self.share = rank, max_seq_len, share
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        held, heads = projections_held(share, num_heads)
        self.sequence_proj = nn.Parameter(torch.empty(held, heads, rank, max_seq_len))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.ran_as: str | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections as in nn.MultiheadAttention; E and F of variance 1/k, as the paper's proofs draw them."""
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)
        nn.init.normal_(self.sequence_proj, std=self.rank**-0.5)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; a row of padding only has no keys but zeros, and stays finite."""
        length = x_BNM.shape[1]
        sentence = too_long(self.max_seq_len, length)
        if sentence:
            raise ValueError(sentence)
        first = sequence_first(self.share, self.rank, length)
        self.ran_as = "sequence_first" if first else "projections_first"
        q_BNM, k_BKM, v_BKM = (self._sequence_first if first else self._projections_first)(x_BNM, key_padding_mask_BN)
        q_BHND, k_BHKD, v_BHKD = (self._cut(part).transpose(1, 2) for part in (q_BNM, k_BKM, v_BKM))
        mixed_BHND = functional.scaled_dot_product_attention(q_BHND, k_BHKD, v_BHKD)
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM

    def _sequence_first(self, x_BNM: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, and keys and values as W·(E·x) + b·(E·1): what E·(W·x + b) is, from k rows instead of N."""
        batch, length, width = x_BNM.shape
        weight, bias = self.in_proj.weight, self.in_proj.bias
        columns_PKN = self.sequence_proj[:, 0, :, :length]
        if mask_BN is None:
            sums = list(columns_PKN.sum(-1).unsqueeze(-1).unbind(0))
            kept_BNM = x_BNM
        else:
            real_BN1 = (~mask_BN).to(x_BNM.dtype).unsqueeze(-1)
            sums = [columns_KN @ real_BN1 for columns_KN in columns_PKN]
            kept_BNM = x_BNM.masked_fill(mask_BN.unsqueeze(-1), 0.0)
        rows = [torch.bmm(columns_KN.expand(batch, -1, -1), kept_BNM) for columns_KN in columns_PKN]
        k_BKM = functional.linear(rows[0], weight[width : 2 * width]) + sums[0] * bias[width : 2 * width]
        v_BKM = functional.linear(rows[-1], weight[2 * width :]) + sums[-1] * bias[2 * width :]
        return functional.linear(x_BNM, weight[:width], bias[:width]), k_BKM, v_BKM

    def _projections_first(self, x_BNM: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, E·K and F·V."""
        batch, length, _ = x_BNM.shape
        q_BNM, k_BNM, v_BNM = self.in_proj(x_BNM).chunk(3, dim=-1)
        if mask_BN is not None:
            k_BNM, v_BNM = (part.masked_fill(mask_BN.unsqueeze(-1), 0.0) for part in (k_BNM, v_BNM))
        columns_PHKN = self.sequence_proj[..., :length]
        short = []
        for columns_HKN, part_BNM in ((columns_PHKN[0], k_BNM), (columns_PHKN[-1], v_BNM)):
            if self.share == "none":
                short.append(torch.einsum("hkn,bnhd->bkhd", columns_HKN, self._cut(part_BNM)).flatten(2))
            else:
                short.append(torch.bmm(columns_HKN.expand(batch, -1, -1), part_BNM))
        return q_BNM, short[0], short[1]

    def _cut(self, part_BNM: Tensor) -> Tensor:
        """The same numbers, BNHD."""
        return part_BNM.view(*part_BNM.shape[:2], self.num_heads, -1)


def build(params: LinformerParams, *, embed_dim: int, num_heads: int) -> LinformerAttention:
    """LinformerAttention from a profile's parameters; ValueError while `max_seq_len` is still `auto`."""
    if params.max_seq_len == "auto":
        raise ValueError("max_seq_len: auto must be resolved to a number by a workload's lengths before building")
    return LinformerAttention(
        embed_dim, num_heads, rank=params.rank, max_seq_len=params.max_seq_len, share=params.share
    )
