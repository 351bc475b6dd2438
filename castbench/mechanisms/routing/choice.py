"""Which tokens a centroid takes and which centroid is nearest to a token, by integers in the order of scores.

float32 numbers are turned into integers of the same order; what else decides, a number of token or of cluster, goes
below them, so that one maximum finds both and ties are broken the same way everywhere. Without gradient.

Shape suffixes: B batch, N tokens, H heads, C clusters, K places, L candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 2**32 - 1
_BLOCKWISE_FROM = 2**16
"""Scores from which `nearest` looks at blocks first; below, and on GPUs, its extra launches cost more."""


def nearest(score_BHCN: Tensor, places: int) -> Tensor:
    """The tokens of the K largest scores, largest first, BHCK; ties go to the lower token."""
    length = score_BHCN.shape[-1]
    if score_BHCN.dtype != torch.float32:
        return torch.sort(score_BHCN, dim=-1, descending=True, stable=True).indices[..., :places]
    token_L = torch.arange(length, device=score_BHCN.device)
    # A power of two near √(N/K), where both steps have least to look at.
    block = 1 << max(0, ((length // max(1, places)).bit_length() - 1) // 2)
    if block > 1 and score_BHCN.device.type == "cpu" and score_BHCN.numel() >= _BLOCKWISE_FROM:
        score_BHCN, token_L = _candidates(score_BHCN, places, block)
    return -_keyed(score_BHCN, token_L).topk(places, dim=-1).values & _LOW


def _candidates(score_BHCN: Tensor, places: int, block: int) -> tuple[Tensor, Tensor]:
    """Scores and tokens among which the best are, BHCL: those of the K blocks of neighbours with the best best ones.

    A token of any other block is beaten by K blocks' best, ties going to the lower block as to the lower token.
    """
    length, shape = score_BHCN.shape[-1], score_BHCN.shape[:-1]
    blocks = length // block
    peak_BHCL = score_BHCN[..., : blocks * block].reshape(*shape, blocks, block).amax(-1)
    number_L = torch.arange(max(block, blocks), device=score_BHCN.device)
    best_BHCK = -_keyed(peak_BHCL, number_L[:blocks]).topk(places, dim=-1, sorted=False).values & _LOW
    token_BHCL = (best_BHCK.unsqueeze(-1) * block + number_L[:block]).flatten(-2)
    if blocks * block < length:
        rest_L = torch.arange(blocks * block, length, device=score_BHCN.device)
        token_BHCL = torch.cat((token_BHCL, rest_L.expand(*shape, -1)), -1)
    return score_BHCN.gather(-1, token_BHCL), token_BHCL


def _keyed(score_BHCL: Tensor, number_L: Tensor) -> Tensor:
    """Different integers in the order of float32 scores, among equal ones the lower number first, BHCL.

    The number is in their low 32 bits, negated.
    """
    return _ordered(score_BHCL).long().mul_(2**32).sub_(number_L)


def _ordered(score: Tensor) -> Tensor:
    """int32 in the order of float32: all bits but the sign of negative numbers are turned over."""
    bits = score.view(torch.int32)
    return (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)


def nearest_centroid(score_BHCN: Tensor) -> Tensor:
    """The cluster of every token's largest score, BHN; in float32 compared to its first 32 − ⌈log2 C⌉ bits."""
    clusters = score_BHCN.shape[2]
    if score_BHCN.dtype != torch.float32:
        return score_BHCN.argmax(2)
    low = (1 << (clusters - 1).bit_length()) - 1
    number_C1 = torch.arange(clusters, device=score_BHCN.device, dtype=torch.int32).unsqueeze(-1)
    key_BHCN = _ordered(score_BHCN).bitwise_and_(~low).bitwise_or_(low - number_C1)
    return low - (key_BHCN.amax(2) & low).long()
