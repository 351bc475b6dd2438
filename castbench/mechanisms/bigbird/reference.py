"""BigBird block by block in float64: the oracle of module.py, on the random blocks that the module draws.

Shape suffixes: N real tokens of one row, H heads, D head width, M = H·D, R random blocks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.bigbird import BigBirdParams
from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.bigbird.module import BigBirdAttention


def reference(module: BigBirdAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's weights; padding is cut off at the right and mixes to zero.

    Raises ValueError where the module draws blocks that it must not, or too few.
    """

    def mix(row: Row) -> Tensor:
        """What the real tokens of a row mix, NM."""
        random = random_blocks(module, module.params.blocks(len(row.real)))
        return _mixed(module.params, random, *row.parts(module.num_heads)).flatten(1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


def common_blocks(params: BigBirdParams, query: int, count: int) -> set[int]:
    """What every head's block `query` of `count` sees but for random ones: all if it is global, else global blocks and
    neighbours.
    """
    everything = set(range(count))
    ends = {block for block in everything if block < params.front or block >= count - params.back}
    near = {block for block in everything if abs(block - query) <= params.window_blocks // 2}
    return everything if query in ends else ends | near


def random_blocks(module: BigBirdAttention, count: int) -> list[list[set[int]]]:
    """The module's random blocks of every head and block in a row of `count`; ValueError unless they are new ones, and
    as many as asked for or all there are.
    """
    drawn = module.choose(torch.tensor([count], device=module.seed_H.device), count)
    found = []
    for block_QR, valid_QR in zip(drawn.block[0].tolist(), drawn.valid[0].tolist(), strict=True):
        found.append(
            [{b for b, real in zip(*row, strict=True) if real} for row in zip(block_QR, valid_QR, strict=True)]
        )
    for head, rows in enumerate(found):
        for query, blocks in enumerate(rows):
            left = set(range(count)) - common_blocks(module.params, query, count)
            asked = min(module.params.random_blocks, len(left))
            if left and not (blocks <= left and len(blocks) == asked):
                raise ValueError(f"head {head}, block {query}: drew {sorted(blocks)}, not {asked} of {sorted(left)}")
    return found


def _mixed(
    params: BigBirdParams, random: list[list[set[int]]], q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor
) -> Tensor:  # fmt: skip
    """For every token and head the mean of the v in blocks seen, weighted by softmax of q·k/√D, NHD."""
    mixed_NHD, count = torch.zeros_like(q_NHD), params.blocks(len(q_NHD))
    for head, rows in enumerate(random):
        for query, drawn in enumerate(rows):
            seen = common_blocks(params, query, count) | drawn
            keys = [n for n in range(len(q_NHD)) if n // params.block_size in seen]
            for n in range(query * params.block_size, min(len(q_NHD), (query + 1) * params.block_size)):
                score_K = k_NHD[keys, head] @ q_NHD[n, head] / math.sqrt(q_NHD.shape[-1])
                mixed_NHD[n, head] = score_K.softmax(0) @ v_NHD[keys, head]
    return mixed_NHD
