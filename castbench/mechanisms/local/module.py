"""Local attention in blocks of queries, each against the keys that hold their windows; nothing of N × N is built.

    keys     g g · · · · · · · · · ·        block of queries ███ against keys ▒▒▒ in its windows, the two
    queries  ▒ ▒ · · ▒ ▒ ▒█▒█▒█▒ ▒ ▒ ·      triangles outside a single query's window masked, and global keys g

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, G global tokens, Q queries and K keys of a block, Z
blocks of the same shape in all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from castbench.mechanisms.local import SLICE_BYTES, Block, LocalParams, blocks

Piece = tuple[Block, slice]
"""Blocks of the same shape, and the rows that they are taken from."""


class LocalAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding, which stands at the right of rows.

    Projections are named as in sdpa and cast; `global_proj` gives global tokens their own where that is asked for.
    """

    band_QK: Tensor

    def __init__(self, embed_dim: int, num_heads: int, params: LocalParams) -> None:
        super().__init__()
        self.num_heads, self.params = num_heads, params
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.global_proj = nn.Linear(embed_dim, 3 * embed_dim) if params.global_projections else None
        self.register_buffer("band_QK", _band(params), persistent=False)
        self.ran_as: str | None = None
        for linear in filter(None, (self.in_proj, self.global_proj)):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; what stands at padding is finite and means nothing."""
        self.ran_as = "blocks"
        qkv_BN3HD = self.in_proj(x_BNM).unflatten(-1, (3, self.num_heads, -1))
        unread_BN = None if key_padding_mask_BN is None else _penalty(key_padding_mask_BN, qkv_BN3HD)
        parts = [self._seeing_all(x_BNM, qkv_BN3HD, unread_BN)] if self.params.global_tokens else []
        plan = blocks(self.params, x_BNM.shape[1], self._at_once(qkv_BN3HD))
        pieces = tuple((block, rows) for block in plan for rows in _rows(block, len(x_BNM)))
        tensors = iter(BlocksOf.apply(qkv_BN3HD, pieces, self.params.global_tokens))  # type: ignore[no-untyped-call]
        mixed: dict[Block, list[Tensor]] = {block: [] for block in plan}
        for (block, rows), q_ZHQD, k_ZHKD, v_ZHKD in zip(pieces, tensors, tensors, tensors, strict=True):
            mask = self._mask(block, qkv_BN3HD.dtype, None if unread_BN is None else unread_BN[rows])
            mixed_ZHQD = functional.scaled_dot_product_attention(q_ZHQD, k_ZHKD, v_ZHKD, attn_mask=mask)
            mixed[block].append(mixed_ZHQD.transpose(1, 2).reshape(-1, block.count * block.queries, x_BNM.shape[2]))
        y_BNM: Tensor = self.out_proj(_joined([*parts, *(_joined(rows, 0) for rows in mixed.values())], 1))
        return y_BNM

    def _at_once(self, qkv_BN3HD: Tensor) -> int | None:
        """How many blocks may have their keys and values joined with global ones at once; any where there are none."""
        if not self.params.global_tokens:
            return None
        keys = self.params.global_tokens + self.params.queries + 2 * self.params.window
        each = 2 * keys * qkv_BN3HD[0, 0, 0].numel() * qkv_BN3HD.element_size()
        return max(1, SLICE_BYTES.get(qkv_BN3HD.device.type, SLICE_BYTES["cuda"]) // each)

    def _mask(self, block: Block, dtype: torch.dtype, unread_BN: Tensor | None) -> Tensor:
        """What is added to the scores of blocks, QK or Z1QK: −∞ outside windows, a penalty at padding."""
        seen = self.params.global_tokens
        offset = seen + self.params.window - block.start
        band_QK = self.band_QK[: block.queries, block.first + offset : block.last + offset].to(dtype)
        if seen:
            band_QK = torch.cat((self.band_QK[: block.queries, :seen].to(dtype), band_QK), 1)
        if unread_BN is None:
            return band_QK
        return band_QK + _keys_of(unread_BN[:, None, :, None], block, seen).transpose(2, 3)

    def _seeing_all(self, x_BNM: Tensor, qkv_BN3HD: Tensor, unread_BN: Tensor | None) -> Tensor:
        """What global tokens get from all tokens, BGM."""
        seen = self.params.global_tokens
        unread_B11N = None if unread_BN is None else unread_BN[:, None, None, :]
        if self.global_proj is not None:
            return self._by_own_projections(x_BNM[:, :seen], x_BNM, unread_B11N)
        q_BHND, k_BHND, v_BHND = qkv_BN3HD.permute(2, 0, 3, 1, 4)
        mixed_BHGD = functional.scaled_dot_product_attention(
            q_BHND[:, :, :seen], k_BHND, v_BHND, attn_mask=unread_B11N
        )  # fmt: skip
        return mixed_BHGD.transpose(1, 2).flatten(2)

    def _by_own_projections(self, x_BGM: Tensor, x_BNM: Tensor, unread_B11N: Tensor | None) -> Tensor:
        """The same by `global_proj`, BGM, without projecting all N tokens once more.

        q·(W x + b) = (Wᵀ q)·x + q·b, where softmax forgets q·b, and Σ a·(W x + b) = W (Σ a·x) + b since Σ a = 1: x
        itself serves as key and as value.
        """
        assert self.global_proj is not None
        (batch, tokens, width), heads = x_BGM.shape, self.num_heads
        weight_3HDM = self.global_proj.weight.view(3, heads, -1, width)
        bias_3HD = self.global_proj.bias.view(3, heads, -1)
        seeking_BHGD = torch.einsum("bgm,hdm->bhgd", x_BGM, weight_3HDM[0]) + bias_3HD[0].unsqueeze(1)
        seeking_BHGM = seeking_BHGD @ weight_3HDM[1]
        found_B1XM = functional.scaled_dot_product_attention(
            seeking_BHGM.view(batch, 1, -1, width), x_BNM.unsqueeze(1), x_BNM.unsqueeze(1), attn_mask=unread_B11N,
            scale=1 / math.sqrt(width // heads),
        )  # fmt: skip
        found_BHGM = found_B1XM.reshape(batch, heads, tokens, width)
        mixed_BHGD = found_BHGM @ weight_3HDM[2].transpose(1, 2) + bias_3HD[2].unsqueeze(1)
        return mixed_BHGD.transpose(1, 2).flatten(2)


class BlocksOf(torch.autograd.Function):
    """q, k and v of blocks, ZHQD and ZHKD, as views of one tensor wherever there are no global keys to join.

    Slices by themselves would each have a gradient as large as the whole; here all are added up in one buffer.
    """

    @staticmethod
    def forward(ctx: Any, qkv_BN3HD: Tensor, pieces: tuple[Piece, ...], seen: int) -> tuple[Tensor, ...]:
        """Three tensors per piece."""
        ctx.pieces, ctx.seen, ctx.shape = pieces, seen, qkv_BN3HD.shape
        found = []
        for block, rows in pieces:
            q_BHND, k_BHND, v_BHND = qkv_BN3HD[rows].permute(2, 0, 3, 1, 4)
            found.append(_windows(q_BHND, block.start, block.queries, block.queries, block.count).flatten(0, 1))
            found += [_keys_of(part_BHND, block, seen) for part_BHND in (k_BHND, v_BHND)]
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of qkv_BN3HD."""
        if not grads:
            return None, None, None
        total_BN3HD = grads[0].new_zeros(ctx.shape)
        each = iter(grads)
        for (block, rows), q_ZHQD, *keyed in zip(ctx.pieces, each, each, each, strict=True):
            q_BHND, k_BHND, v_BHND = total_BN3HD[rows].permute(2, 0, 3, 1, 4)
            _add_windows(q_BHND, q_ZHQD, block.start, block.queries, block.count)
            for whole_BHND, part_ZHKD in zip((k_BHND, v_BHND), keyed, strict=True):
                seen_ZHGD, own_ZHKD = part_ZHKD[:, :, : ctx.seen], part_ZHKD[:, :, ctx.seen :]
                if ctx.seen:
                    whole_BHND[:, :, : ctx.seen] += seen_ZHGD.reshape(-1, block.count, *seen_ZHGD.shape[1:]).sum(1)
                _add_windows(whole_BHND, own_ZHKD, block.first, block.queries, block.count)
        return total_BN3HD, None, None


def _rows(block: Block, batch: int) -> Iterator[slice]:
    """All rows at once for a single block; of several, row after row, since their views cannot be one tensor."""
    step = batch if block.count == 1 else 1
    for start in range(0, batch, step):
        yield slice(start, start + step)


def _windows(whole_BHND: Tensor, start: int, length: int, step: int, count: int) -> Tensor:
    """Views of `length` tokens from `start` on, and every `step` tokens again, BZHKD."""
    span_BHND = whole_BHND.narrow(2, start, (count - 1) * step + length)
    return span_BHND.unfold(2, length, step).permute(0, 2, 1, 4, 3)


def _keys_of(whole_BHND: Tensor, block: Block, seen: int) -> Tensor:
    """What `whole` holds for the global keys and for a block's own, ZHKD; a view where there is nothing to join."""
    if block.first == seen and block.count == 1:
        return whole_BHND.narrow(2, 0, block.last)
    own_ZHKD = _windows(whole_BHND, block.first, block.keys, block.queries, block.count).flatten(0, 1)
    if not seen:
        return own_ZHKD
    seen_ZHGD = whole_BHND[:, :, :seen].repeat_interleave(block.count, 0)
    return torch.cat((seen_ZHGD, own_ZHKD), 2)


def _add_windows(whole_BHND: Tensor, part_ZHKD: Tensor, start: int, step: int, count: int) -> None:
    """Add to every window what stands in `part` for it; windows that do not overlap go together."""
    part_BZHKD, length = part_ZHKD.reshape(-1, count, *part_ZHKD.shape[1:]), part_ZHKD.shape[2]
    apart = -(-length // step)
    for n in range(min(apart, count)):
        some = part_BZHKD[:, n::apart]
        _windows(whole_BHND, start + n * step, length, apart * step, some.shape[1]).add_(some)


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    """The parts one after another; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _band(params: LocalParams) -> Tensor:
    """0 where a full block's query sees a key and −∞ elsewhere: global keys, then those from its first query − window
    to its last query + window.
    """
    row_Q1 = torch.arange(params.queries).unsqueeze(1)
    column_K = torch.arange(params.queries + 2 * params.window)
    band_QK = torch.zeros(params.queries, len(column_K))
    band_QK.masked_fill_((column_K < row_Q1) | (column_K > row_Q1 + 2 * params.window), -torch.inf)
    return torch.cat((torch.zeros(params.queries, params.global_tokens), band_QK), 1)


def _penalty(padding_BN: Tensor, like: Tensor) -> Tensor:
    """What is added to scores of padding, BN: so much that nothing is left beside a real token, yet finite, so that
    queries at padding, which see nothing else, stay finite too.
    """
    zero_BN = torch.zeros(padding_BN.shape, dtype=like.dtype, device=like.device)
    return zero_BN.masked_fill(padding_BN, torch.finfo(like.dtype).min / 2)


def build(params: LocalParams, *, embed_dim: int, num_heads: int) -> LocalAttention:
    """LocalAttention of a description's parameters."""
    return LocalAttention(embed_dim, num_heads, params)
