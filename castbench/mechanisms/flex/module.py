"""PyTorch's FlexAttention between two projections, its block mask made from the padding in linear time.

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, K blocks of tokens, S tokens per block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention, noop_mask

from castbench.mechanisms.flex import FlexParams, Impl
from castbench.mechanisms.projected import Projected

BLOCK = 128
"""Tokens per block of the mask: FlexAttention's own default."""


class FlexAttention(Projected):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; weights named as in sdpa.

    The first pass of every shape compiles, which takes seconds: `compiles` says so. Raises NotImplementedError where
    PyTorch has no backward pass for the device.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, impl: Impl = "auto") -> None:
        super().__init__(embed_dim, num_heads)
        self.impl = impl
        self.compiles = impl != "eager"

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM, finite at padding."""
        qkv_BNX = self.in_proj(x_BNM)
        if qkv_BNX.requires_grad and qkv_BNX.device.type == "cpu":
            raise NotImplementedError("FlexAttention has no backward pass on a CPU; measure it for inference, or sdpa")
        q_BHND, k_BHND, v_BHND = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in qkv_BNX.chunk(3, dim=-1)
        )
        blocks = _blocks(x_BNM, key_padding_mask_BN)
        self.ran_as = "compiled" if self.compiles else "eager"
        attend = _eager
        if self.compiles:
            attend = flex_attention if torch.compiler.is_compiling() else _compiled()
        mixed_BHND = attend(q_BHND, k_BHND, v_BHND, block_mask=blocks)
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM


def _blocks(x_BNM: Tensor, mask_BN: Tensor | None) -> BlockMask | None:
    """The block mask for a batch, padded or not."""
    return blocks_of_whole_rows(x_BNM.shape[1], x_BNM.device) if mask_BN is None else blocks_of_real_tokens(mask_BN)


def blocks_of_whole_rows(length: int, device: torch.device) -> BlockMask | None:
    """None: nothing is skipped. On a CPU the blocks all the same: without any, its kernel takes a row as one block, and
    4,096 tokens were measured to take it four times as long.
    """
    if device.type != "cpu":
        return None
    full_BK = torch.ones(1, -(-length // BLOCK), dtype=torch.bool)
    return _block_mask(full_BK, full_BK, length, None)


def blocks_of_real_tokens(mask_BN: Tensor) -> BlockMask:
    """The block mask of a padded batch: blocks of real tokens only read blocks with real tokens.

    PyTorch's create_block_mask would look at all N×N pairs first; here the padding of every block is enough. A block
    that is padding altogether is neither read nor reads, and its tokens get zeros.
    """
    batch, length = mask_BN.shape
    real_BK = functional.pad(~mask_BN, (0, -length % BLOCK)).view(batch, -1, BLOCK).sum(-1)

    def real_key(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # The mask itself: PyTorch's compiler for CPUs cannot take what is computed from it within the same graph.
        return ~mask_BN[row, key]

    return _block_mask(real_BK > 0, real_BK == BLOCK, length, real_key)


def _block_mask(any_BK: Tensor, full_BK: Tensor, length: int, pairs: Callable[..., Tensor] | None) -> BlockMask:
    """Blocks with any real token read each other; within those that are not full, `pairs` says what is read.

    The lists by key (for the backward pass) are made as those by query are, since only the key decides what is full;
    BlockMask.from_kv_blocks would find them by sorting.
    """
    some_BK = any_BK & ~full_BK
    by_query = (*_listed(some_BK, any_BK), *_listed(full_BK, any_BK))
    by_key = (*_listed(any_BK, some_BK), *_listed(any_BK, full_BK))
    return BlockMask((length, length), *by_query, *by_key, (BLOCK, BLOCK), pairs or noop_mask)


def _listed(read_BK: Tensor, reads_BK: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each block reads, B1K, and which ones, B1KK with those in front; none where it does not read."""
    number_B1K = (read_BK.sum(1, keepdim=True) * reads_BK).unsqueeze(1).int()
    order_BK = read_BK.int().argsort(dim=1, descending=True, stable=True).int()
    return number_B1K, order_BK[:, None, None, :].repeat(1, 1, read_BK.shape[1], 1)


@cache
def _compiled() -> Any:
    """FlexAttention's kernel, compiled once for every shape; an error where there is none, instead of its slow form."""
    return torch.compile(flex_attention, fullgraph=True)


def _eager(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, *, block_mask: BlockMask | None) -> Tensor:
    """FlexAttention step by step; PyTorch warns that this is slow, and `ran_as` says so here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        mixed_BHND: Tensor = flex_attention(q_BHND, k_BHND, v_BHND, block_mask=block_mask)
    return mixed_BHND


def build(params: FlexParams, *, embed_dim: int, num_heads: int) -> FlexAttention:
    """FlexAttention from a profile's parameters."""
    return FlexAttention(embed_dim, num_heads, impl=params.impl)
