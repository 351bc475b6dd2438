"""Luna as a module: p learned vectors attend to the tokens (pack), then the tokens attend to these p (unpack).

    context P ─ pack_query ─▶ ┐
    x ─ in_proj ─▶ k, v ─▶ pack ─▶ Y_P ─ unpack_proj ─▶ k, v ─┐
    └── in_proj ─▶ q ──────────────────────────────────── unpack ─ out_proj ─▶ y

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, P context vectors, X = H·P, C parts of a product.
Equations of arXiv:2106.01540, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.luna import LunaParams, folds, inputs


class LunaAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding.

    in_proj gives queries, keys and values, or queries and both in one where `tied`.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, length: int, tied: bool = False) -> None:
        super().__init__()
        self.params = LunaParams(length, tied)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.in_proj = nn.Linear(embed_dim, inputs(self.params) * embed_dim)
        self.context = nn.Parameter(torch.empty(length, embed_dim))
        self.pack_query = nn.Linear(embed_dim, embed_dim)
        self.unpack_proj = nn.Linear(embed_dim, (inputs(self.params) - 1) * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.ran_as: str | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections as in nn.MultiheadAttention; context vectors of length about 1, as published."""
        for layer in (self.in_proj, self.pack_query, self.unpack_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out_proj.bias)
        nn.init.normal_(self.context, std=self.embed_dim**-0.5)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; a row of padding only packs its padding, so that it stays finite."""
        read_BN = None
        if key_padding_mask_BN is not None:
            read_BN = ~key_padding_mask_BN | key_padding_mask_BN.all(1, keepdim=True)
        if folds(self.params, x_BNM.shape[1], self.embed_dim, self.num_heads):
            self.ran_as = "folded"
            return self._folded(x_BNM, read_BN)
        self.ran_as = "torch"
        return self._plain(x_BNM, read_BN)

    def _plain(self, x_BNM: Tensor, read_BN: Tensor | None) -> Tensor:
        """y_BNM in the order of the equations: two attentions between projections."""
        q_BHND, *context = self._heads(self.in_proj(x_BNM), inputs(self.params))
        query_HPD = self._heads(self._queries(), 1)[0]
        read_B11N = None if read_BN is None else read_BN[:, None, None, :]
        packed_BHPD = functional.scaled_dot_product_attention(
            query_HPD.expand(len(x_BNM), -1, -1, -1), context[0], context[-1], attn_mask=read_B11N
        )
        packed = self._heads(self.unpack_proj(packed_BHPD.transpose(1, 2).flatten(2)), inputs(self.params) - 1)
        mixed_BHND = functional.scaled_dot_product_attention(q_BHND, packed[0], packed[-1])
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM

    def _folded(self, x_BNM: Tensor, read_BN: Tensor | None) -> Tensor:
        """The same y_BNM with every projection of tokens folded into the vectors they meet.

        q·k of the pack is (q·W_k)·x, Σ w·v is W_v·(Σ w·x); q·k of the unpack is x·(W_q·k), and out_proj is applied to
        the p values. The keys' bias shifts all scores of a query alike and drops out; weights sum to 1, so that the
        values' bias is added once.
        """
        packed_BPM = self._packed(x_BNM, read_BN)
        width, heads = self.embed_dim, self.num_heads
        query_HDM = self.in_proj.weight[:width].view(heads, -1, width)
        query_HD = self.in_proj.bias[:width].view(heads, -1)
        parts = self.unpack_proj(packed_BPM).chunk(inputs(self.params) - 1, dim=-1)
        k_BPHD, v_BPHD = (parts[n].view(*packed_BPM.shape[:2], heads, -1) for n in (0, -1))
        k_BPHD = k_BPHD * k_BPHD.shape[-1] ** -0.5
        key_BXM = torch.einsum("bphd,hdm->bhpm", k_BPHD, query_HDM).flatten(1, 2)
        shift_BX = (k_BPHD * query_HD).sum(-1).transpose(1, 2).flatten(1)
        out_MHD = self.out_proj.weight.view(width, heads, -1)
        value_BXM = torch.einsum("bphd,mhd->bhpm", v_BPHD, out_MHD).flatten(1, 2)
        score_BNX = torch.baddbmm(shift_BX.unsqueeze(1), x_BNM, key_BXM.transpose(1, 2))
        weight_BNX = score_BNX.view(*x_BNM.shape[:2], heads, -1).softmax(-1).flatten(2)
        return torch.baddbmm(self.out_proj.bias, weight_BNX, value_BXM)

    def _packed(self, x_BNM: Tensor, read_BN: Tensor | None) -> Tensor:
        """Y_P, BPM, by products with x itself."""
        width, heads = self.embed_dim, self.num_heads
        key_HDM = self.in_proj.weight[width : 2 * width].view(heads, -1, width)
        value_HDM = self.in_proj.weight[-width:].view(heads, -1, width)
        query_PHD = self._queries().view(-1, heads, width // heads)
        query_XM = torch.einsum("phd,hdm->hpm", query_PHD * query_PHD.shape[-1] ** -0.5, key_HDM).flatten(0, 1)
        score_BNX = functional.linear(x_BNM, query_XM)
        if read_BN is not None:
            score_BNX = score_BNX.masked_fill(~read_BN.unsqueeze(-1), -torch.inf)
        seen_BXM = torch.bmm(score_BNX.softmax(1).transpose(1, 2), x_BNM)
        packed_BPHD = torch.einsum("bhpm,hdm->bphd", seen_BXM.view(len(x_BNM), heads, -1, width), value_HDM)
        return packed_BPHD.flatten(2) + self.in_proj.bias[-width:]

    def _queries(self) -> Tensor:
        """Queries of the context vectors, PM.

        Not by calling the layer: torch's FLOP counter fails where a layer's input is a parameter.
        """
        return functional.linear(self.context, self.pack_query.weight, self.pack_query.bias)

    def _heads(self, row_NX: Tensor, parts: int) -> list[Tensor]:
        """Parts of a product, cut into heads, HND each with what is before; views."""
        cut = [part.view(*part.shape[:-1], self.num_heads, -1) for part in row_NX.chunk(parts, dim=-1)]
        return [part_NHD.transpose(-3, -2) for part_NHD in cut]


def build(params: LunaParams, *, embed_dim: int, num_heads: int) -> LunaAttention:
    """LunaAttention from a profile's parameters."""
    return LunaAttention(embed_dim, num_heads, length=params.length, tied=params.tied)
