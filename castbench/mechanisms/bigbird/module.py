"""BigBird in blocks: every block of queries against the key blocks it sees, gathered slice by slice.

    keys     F · · · · · · L       global blocks F and L see everything and are seen by all,
    queries  ▒ · ▒ █ ▒ · r ▒       block █ sees its neighbours ▒, F, L, and blocks r drawn at random

Which blocks are random is a hash of the module's seeds, the head and the two blocks, so that a row has the same ones
whatever it is batched with. Shape suffixes: B batch, N tokens (of whole blocks), H heads, D head width, M = H·D,
Q and J blocks of queries and of keys in a row, T tokens of a block, S blocks seen, R random ones among them, K = S·T
keys gathered for a block, Z blocks of a slice, G tokens of global blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from castbench.mechanisms.bigbird import SLICE_BYTES, BigBirdParams

_NEVER = 2**62
"""Above every place in the order of candidates."""


class Seen(NamedTuple):
    """Key blocks that blocks of queries see, BHQS, and which of these are real and seen for the first time."""

    block: Tensor
    valid: Tensor


class BigBirdAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding, which stands at the right of rows.

    Projections are named as in sdpa and cast. Random blocks are decided when the module is made.
    """

    seed_H: Tensor

    def __init__(self, embed_dim: int, num_heads: int, params: BigBirdParams) -> None:
        super().__init__()
        self.num_heads, self.params = num_heads, params
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.register_buffer("seed_H", torch.randint(2**32, (num_heads,)))
        self.ran_as: str | None = None
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; what stands at padding is finite and means nothing."""
        length, unread_BN = x_BNM.shape[1], None
        if key_padding_mask_BN is not None:
            # A row of padding alone attends to its padding, so that it stays finite.
            unread_BN = key_padding_mask_BN & ~key_padding_mask_BN.all(1, keepdim=True)
        if self.params.is_dense(length):
            self.ran_as = "dense"
            mixed_BNM = self._dense(x_BNM, unread_BN)
        else:
            self.ran_as = "blocks"
            mixed_BNM = self._by_blocks(x_BNM, unread_BN)[:, :length]
        y_BNM: Tensor = self.out_proj(mixed_BNM)
        return y_BNM

    @torch.no_grad()
    def choose(self, blocks_B: Tensor, count: int) -> Seen:
        """The random blocks of rows of `blocks_B` blocks, for each of `count` blocks of queries, BHQR; not valid where
        fewer than `random_blocks` are left that are neither global nor neighbours.
        """
        block_J = torch.arange(count, device=blocks_B.device)
        mixed_HQ = _hashed(self.seed_H.unsqueeze(1) ^ _hashed(block_J + 1))
        # Places are unique: where two hashes are equal, the lower block is first.
        place_HQJ = _hashed(mixed_HQ.unsqueeze(2) ^ _hashed(block_J + 2**16)) * 2**20 + block_J
        near_QJ = (block_J.unsqueeze(1) - block_J).abs() <= self.params.reach
        common_BJ = (block_J < self.params.front) | (block_J >= (blocks_B - self.params.back).unsqueeze(1))
        out_B1QJ = (common_BJ.unsqueeze(1) | near_QJ).unsqueeze(1)
        wanted = min(self.params.random_blocks, count)
        drawn = place_HQJ.masked_fill(out_B1QJ, _NEVER).topk(wanted, largest=False)
        return Seen(drawn.indices, drawn.values < _NEVER)

    def seen(self, blocks_B: Tensor, count: int) -> Seen:
        """All key blocks that each of `count` blocks of queries sees, BHQS: global, neighbouring, random ones."""
        random, last_B1 = self.choose(blocks_B, count), blocks_B.unsqueeze(1)
        front_F = torch.arange(self.params.front, device=blocks_B.device)
        back_BL = last_B1 - 1 - torch.arange(self.params.back, device=blocks_B.device)
        step_W = torch.arange(-self.params.reach, self.params.reach + 1, device=blocks_B.device)
        near_QW = torch.arange(count, device=blocks_B.device).unsqueeze(1) + step_W
        valid_BQW = (near_QW >= self.params.front) & (near_QW < (last_B1 - self.params.back).unsqueeze(2))
        parts = (
            (front_F, (front_F < last_B1)[:, None, None]),
            (back_BL[:, None, None], (back_BL >= self.params.front)[:, None, None]),
            (near_QW, valid_BQW.unsqueeze(1)),
            random,
        )
        whole = (*random.block.shape[:3], -1)
        block_BHQS = torch.cat([block.expand(whole) for block, _ in parts], -1).clamp(0, count - 1)
        return Seen(block_BHQS, torch.cat([valid.expand(whole) for _, valid in parts], -1))

    def _dense(self, x_BNM: Tensor, unread_BN: Tensor | None) -> Tensor:
        """What every token gets from all others, BNM: rows in which every block sees all blocks."""
        q_BHND, k_BHND, v_BHND = self.in_proj(x_BNM).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        read_B11N = None if unread_BN is None else ~unread_BN[:, None, None, :]
        mixed_BHND = functional.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, attn_mask=read_B11N)
        return mixed_BHND.transpose(1, 2).flatten(2)

    def _by_blocks(self, x_BNM: Tensor, unread_BN: Tensor | None) -> Tensor:
        """The same for rows in which blocks see some blocks only, filled up to whole blocks."""
        (batch, length, _), size = x_BNM.shape, self.params.block_size
        count = self.params.blocks(length)
        filled = count * size - length
        qkv_BN3HD = self.in_proj(functional.pad(x_BNM, (0, 0, 0, filled))).unflatten(-1, (3, self.num_heads, -1))
        q_BHQTD, k_BHJTD, v_BHJTD = qkv_BN3HD.unflatten(1, (count, size)).permute(3, 0, 4, 1, 2, 5).contiguous()
        real_B = torch.full((batch,), length, device=x_BNM.device) if unread_BN is None else (~unread_BN).sum(1)
        blocks_B = (real_B + size - 1) // size
        own = self._seeing_some(q_BHQTD, k_BHJTD, v_BHJTD, real_B, blocks_B)
        ends = self._seeing_all(q_BHQTD, k_BHJTD, v_BHJTD, real_B, blocks_B, masked=filled > 0 or unread_BN is not None)
        front_BQTM, back_BQTM = ends[:, : self.params.front], ends[:, self.params.front :]
        mixed_BQTM = torch.cat((front_BQTM, own, back_BQTM), 1)
        if unread_BN is not None:
            mixed_BQTM = self._put_at_row_ends(mixed_BQTM, blocks_B)
        return mixed_BQTM.flatten(1, 2)

    def _seeing_some(
        self, q_BHQTD: Tensor, k_BHJTD: Tensor, v_BHJTD: Tensor, real_B: Tensor, blocks_B: Tensor
    ) -> Tensor:  # fmt: skip
        """What blocks get that are not global in a full row, BQTM; in shorter rows some of them are."""
        batch, heads, count, size, width = q_BHQTD.shape
        own = slice(self.params.front, count - self.params.back)
        block_BHQS, valid_BHQS = (part[:, :, own] for part in self.seen(blocks_B, count))
        token_BHQST = block_BHQS.unsqueeze(-1) * size + torch.arange(size, device=real_B.device)
        read_BHQST = valid_BHQS.unsqueeze(-1) & (token_BHQST < real_B.view(-1, 1, 1, 1, 1))
        mask_BQHK = _penalty(~read_BHQST.transpose(1, 2).flatten(3), q_BHQTD)
        start_BH11 = torch.arange(batch * heads, device=real_B.device).view(batch, heads, 1, 1) * count
        row_BQHS = (block_BHQS + start_BH11).transpose(1, 2)
        mixed_BQTM: Tensor = Gathered.apply(  # type: ignore[no-untyped-call]
            q_BHQTD[:, :, own].transpose(1, 2), k_BHJTD.view(-1, size * width), v_BHJTD.view(-1, size * width),
            row_BQHS, mask_BQHK.unsqueeze(3),
        )  # fmt: skip
        return mixed_BQTM

    def _seeing_all(
        self, q_BHQTD: Tensor, k_BHJTD: Tensor, v_BHJTD: Tensor, real_B: Tensor, blocks_B: Tensor, *, masked: bool
    ) -> Tensor:
        """What global blocks get from all tokens: those in front, then a row's last ones, which in a shorter row stand
        where its padding begins, BQTM.
        """
        count, size = q_BHQTD.shape[2:4]
        back_BQ = (blocks_B.unsqueeze(1) - torch.arange(self.params.back, 0, -1, device=real_B.device)).clamp(min=0)
        back_BHQTD = q_BHQTD.take_along_dim(back_BQ[:, None, :, None, None], 2)
        q_BHGD = torch.cat((q_BHQTD[:, :, : self.params.front], back_BHQTD), 2).flatten(2, 3)
        mask_B11N = None
        if masked:
            token_N = torch.arange(count * size, device=real_B.device)
            mask_B11N = _penalty(token_N >= real_B.unsqueeze(1), q_BHQTD)[:, None, None, :]
        mixed_BHGD = functional.scaled_dot_product_attention(
            q_BHGD, k_BHJTD.flatten(2, 3), v_BHJTD.flatten(2, 3), attn_mask=mask_B11N
        )  # fmt: skip
        return mixed_BHGD.transpose(1, 2).reshape(len(mixed_BHGD), -1, size, q_BHQTD.shape[1] * q_BHQTD.shape[4])

    def _put_at_row_ends(self, mixed_BQTM: Tensor, blocks_B: Tensor) -> Tensor:
        """Every row's last global blocks moved from the end of the batch to its own end."""
        count = mixed_BQTM.shape[1]
        block_Q, shift_B1 = torch.arange(count, device=blocks_B.device), (count - blocks_B).unsqueeze(1)
        is_back_BQ = (block_Q >= self.params.front) & (block_Q + shift_B1 >= count - self.params.back)
        source_BQ = torch.where(is_back_BQ & (block_Q + shift_B1 < count), block_Q + shift_B1, block_Q)
        return mixed_BQTM.take_along_dim(source_BQ[:, :, None, None], 1)


class Gathered(torch.autograd.Function):
    """Attention of every block of queries over the key blocks named for it, BQTM, in slices that fit a core's cache.

    For the backward pass nothing is kept but what came in: keys and values are gathered again, where keeping them would
    take as many times their memory as blocks are seen.
    """

    @staticmethod
    def forward(ctx: Any, q_BQHTD: Tensor, k_PX: Tensor, v_PX: Tensor, row_BQHS: Tensor, mask_BQH1K: Tensor) -> Tensor:
        """Rows P of blocks of every head, X = T·D."""
        ctx.save_for_backward(q_BQHTD, k_PX, v_PX, row_BQHS, mask_BQH1K)
        mixed_BQTHD = torch.empty_like(q_BQHTD.transpose(2, 3), memory_format=torch.contiguous_format)
        for some in _slices(row_BQHS, k_PX):
            inputs = q_BQHTD[some], *(_gathered(part_PX, row_BQHS[some], q_BQHTD) for part_PX in (k_PX, v_PX))
            mixed_BQTHD[some] = _attention(inputs, mask_BQH1K[some]).transpose(1, 2)
        return mixed_BQTHD.flatten(3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BQTM: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v, each slice's by a pass of its own."""
        q_BQHTD, k_PX, v_PX, row_BQHS, mask_BQH1K = ctx.saved_tensors
        grad_BQHTD = grad_BQTM.reshape(*grad_BQTM.shape[:3], q_BQHTD.shape[2], -1).transpose(2, 3)
        to_q_BQHTD, to_k_PX, to_v_PX = torch.empty_like(q_BQHTD), torch.zeros_like(k_PX), torch.zeros_like(v_PX)
        for some in _slices(row_BQHS, k_PX):
            gathered = (_gathered(part_PX, row_BQHS[some], q_BQHTD) for part_PX in (k_PX, v_PX))
            inputs = tuple(part.detach().requires_grad_() for part in (q_BQHTD[some], *gathered))
            with torch.enable_grad():
                mixed_ZHTD = _attention(inputs, mask_BQH1K[some])
            to_q_BQHTD[some], *to_keyed = torch.autograd.grad(mixed_ZHTD, inputs, grad_BQHTD[some])
            for whole_PX, part in zip((to_k_PX, to_v_PX), to_keyed, strict=True):
                whole_PX.index_add_(0, row_BQHS[some].flatten(), part.reshape(-1, whole_PX.shape[1]))
        return to_q_BQHTD, to_k_PX, to_v_PX, None, None


def _attention(inputs: tuple[Tensor, ...], mask_ZH1K: Tensor) -> Tensor:
    """Softmax attention of a slice's q, ZHTD, over its k and v, ZHKD."""
    q_ZHTD, k_ZHKD, v_ZHKD = inputs
    mask_ZHTK = mask_ZH1K.expand(-1, -1, q_ZHTD.shape[2], -1)
    return functional.scaled_dot_product_attention(q_ZHTD, k_ZHKD, v_ZHKD, attn_mask=mask_ZHTK)


def _gathered(part_PX: Tensor, row_ZHS: Tensor, q_BQHTD: Tensor) -> Tensor:
    """Keys or values of the blocks that a slice sees, ZHKD."""
    return part_PX.index_select(0, row_ZHS.flatten()).view(*row_ZHS.shape[:2], -1, q_BQHTD.shape[-1])


def _slices(row_BQHS: Tensor, k_PX: Tensor) -> Iterator[tuple[int, slice]]:
    """A row and some of its blocks of queries, by what is gathered for them."""
    batch, count, heads, seen = row_BQHS.shape
    each = 2 * heads * seen * k_PX.shape[1] * k_PX.element_size()
    step = max(1, SLICE_BYTES.get(k_PX.device.type, SLICE_BYTES["cuda"]) // each)
    for b in range(batch):
        for start in range(0, count, step):
            yield b, slice(start, start + step)


def _hashed(number: Tensor) -> Tensor:
    """32 bits that look random for every number below 2³², different for each; of int64. Multiplications by odd numbers
    and shifts, each of which can be undone.
    """
    for shift, factor in ((16, 2146121005), (15, 2221713035)):
        number = ((number ^ (number >> shift)) * factor) & 0xFFFFFFFF
    return number ^ (number >> 16)


def _penalty(unread: Tensor, like: Tensor) -> Tensor:
    """What is added to scores of keys that are not read: nothing is left of them beside any other key."""
    zero = torch.zeros(unread.shape, dtype=like.dtype, device=like.device)
    return zero.masked_fill(unread, torch.finfo(like.dtype).min / 2)


def build(params: BigBirdParams, *, embed_dim: int, num_heads: int) -> BigBirdAttention:
    """BigBirdAttention of a description's parameters; its random blocks are drawn here."""
    return BigBirdAttention(embed_dim, num_heads, params)
