"""Attention among sorted tokens, chunk by chunk, and the sum of the hash rounds; its gradient computes scores again.

    │ back │ chunk 0 │ chunk 1 │ …     queries of a chunk meet the keys of two: their own and the one before
    ╰──── keys ──────╯
           ╰────── keys ───────╯       a round gives a mean of values and the log of the weight behind it (log-sum-exp);
                                       rounds are averaged by that weight

Shape suffixes: B batch, N tokens, H heads, D head width, S parts of in_proj, X = S·H·D, R hash rounds, m places of a
chunk, C chunks, P = C·m places, E places of keys, K keys per query, G pairs of row and head in a slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from castbench.mechanisms.reformer import SLICE_BYTES, Sizes
from castbench.mechanisms.reformer.buckets import Places

ONLY_ITSELF = -1e3
"""Score of a token with itself: e⁻¹⁰⁰⁰ weighs nothing beside any other key, and all where there is no other.
The published code has -5e4, where float32 no longer tells apart what two and three such scores add up to.
"""
SHORTEST = 1e-12
"""Keys are divided by at least this length, so that a zero vector stays zero."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some heads of some rows: parts of in_proj in token order, and places.

    parts      q, k and v; qk and v where they are shared, each GND
    scale_GN   1/√D, over the key's length where queries are keys; what keys are multiplied with
    """

    at: tuple[slice, slice]
    parts: tuple[Tensor, ...]
    scale_GN: Tensor
    query_GRP: Tensor
    key_GRE: Tensor
    real_GE: Tensor | None
    sizes: Sizes

    @property
    def shared(self) -> bool:
        """Queries serve as keys."""
        return len(self.parts) == 2


@dataclass(frozen=True, slots=True)
class Round:
    """What a round reads: queries by place, keys (scaled) and values by place with the chunk in front."""

    query_GPD: Tensor
    key_GED: Tensor
    value_GED: Tensor
    query_GP: Tensor
    key_GE: Tensor


class HashedAttention(torch.autograd.Function):
    """Mean of values of all rounds, BNM, from in_proj's result; 0 at padding.

    Kept for the gradient: the inputs, the result, and one log-sum-exp per query and head.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv_BNX: Tensor, query_BHRP: Tensor, key_BHRE: Tensor, real_BE: Tensor | None,
        padding_BN: Tensor | None, parts: int, sizes: Sizes,
    ) -> Tensor:  # fmt: skip
        """Slice by slice."""
        batch, length, _ = qkv_BNX.shape
        heads = query_BHRP.shape[1]
        places = Places(query_BHRP, key_BHRE, real_BE)
        mixed_BNHD = qkv_BNX.new_empty(batch, length, heads, qkv_BNX.shape[-1] // (parts * heads))
        behind_BHN = torch.empty(batch, heads, length, dtype=wide(qkv_BNX.dtype), device=qkv_BNX.device)
        for part in slices_of(qkv_BNX, places, parts, sizes):
            mixed_GND, behind_GN = _averaged(part)
            rows, some = part.at
            mixed_BNHD[rows, :, some] = _rows_first(mixed_GND, mixed_BNHD[rows, :, some].shape)
            behind_BHN[rows, some] = behind_GN.view_as(behind_BHN[rows, some])
        if padding_BN is not None:
            mixed_BNHD.masked_fill_(padding_BN[:, :, None, None], 0.0)
            behind_BHN.masked_fill_(padding_BN[:, None, :], torch.inf)  # its queries then have no weight at all
        mixed_BNM = mixed_BNHD.flatten(2)
        ctx.save_for_backward(qkv_BNX, query_BHRP, key_BHRE, real_BE, mixed_BNM, behind_BHN)
        ctx.parts, ctx.sizes = parts, sizes
        return mixed_BNM

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mixed_BNM: Tensor) -> tuple[Tensor | None, ...]:
        """Slice by slice; every number of the gradient belongs to one slice."""
        qkv_BNX, query_BHRP, key_BHRE, real_BE, mixed_BNM, behind_BHN = ctx.saved_tensors
        batch, length, _ = qkv_BNX.shape
        heads = query_BHRP.shape[1]
        d_qkv_BNSHD = torch.empty_like(qkv_BNX).view(batch, length, ctx.parts, heads, -1)
        d_mixed_BNHD, mixed_BNHD = (part.reshape(batch, length, heads, -1) for part in (d_mixed_BNM, mixed_BNM))
        for part in slices_of(qkv_BNX, Places(query_BHRP, key_BHRE, real_BE), ctx.parts, ctx.sizes):
            rows, some = part.at
            d_mixed_GND, mixed_GND = (_heads_first(whole[rows, :, some]) for whole in (d_mixed_BNHD, mixed_BNHD))
            lean_GN = (wide_of(d_mixed_GND) * mixed_GND).sum(-1)
            behind_GN = behind_BHN[rows, some].flatten(0, 1)
            for number, d_part_GND in enumerate(_gradients(part, d_mixed_GND, lean_GN, behind_GN)):
                target = d_qkv_BNSHD[rows, :, number, some]
                target.copy_(_rows_first(d_part_GND, target.shape))
        return d_qkv_BNSHD.view_as(qkv_BNX), None, None, None, None, None, None


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32 in place of what is narrower."""
    return dtype if dtype == torch.float64 else torch.float32


def wide_of(tensor: Tensor) -> Tensor:
    """In at least float32: what is exponentiated or added up is never rounded to 8 bits."""
    return tensor.to(wide(tensor.dtype))


def slices_of(qkv_BNX: Tensor, places: Places, parts: int, sizes: Sizes) -> Iterator[Slice]:
    """All heads of all rows, as many at a time as have scores of SLICE_BYTES."""
    batch, heads = places.query_BHRP.shape[:2]
    part_SBHND = qkv_BNX.view(*qkv_BNX.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4)
    one = sizes.places * sizes.window * (8 if qkv_BNX.dtype == torch.float64 else 4)
    fit = max(1, SLICE_BYTES["cpu" if qkv_BNX.device.type == "cpu" else "cuda"] // one)
    some, rows = min(heads, fit), max(1, fit // heads)
    for start in range(0, batch, rows):
        for first in range(0, heads, some):
            at = (slice(start, start + rows), slice(first, first + some))
            own = tuple(part_BHND[at].flatten(0, 1) for part_BHND in part_SBHND)
            yield Slice(
                at, own, _key_scale(own), places.query_BHRP[at].flatten(0, 1), places.key_BHRE[at].flatten(0, 1),
                _per_head(places.real_BE, at, min(some, heads - first)), sizes,
            )  # fmt: skip


def _key_scale(parts: tuple[Tensor, ...]) -> Tensor:
    """What keys are multiplied with, GN: 1/√D, and 1/|q| where queries are keys."""
    query_GND = parts[0]
    scale = 1 / math.sqrt(query_GND.shape[-1])
    if len(parts) > 2:
        return query_GND.new_full((1, 1), scale, dtype=wide(query_GND.dtype))
    length_GN: Tensor = torch.linalg.vector_norm(query_GND, dim=-1, dtype=wide(query_GND.dtype))
    return length_GN.clamp_(min=SHORTEST).reciprocal_().mul_(scale)


def _per_head(real_BE: Tensor | None, at: tuple[slice, slice], heads: int) -> Tensor | None:
    """Rows' real places for every pair of row and head, GE."""
    return None if real_BE is None else real_BE[at[0]].repeat_interleave(heads, 0)


def _heads_first(token_BNHD: Tensor) -> Tensor:
    """GND."""
    return token_BNHD.transpose(1, 2).flatten(0, 1)


def _rows_first(token_GND: Tensor, shape: torch.Size) -> Tensor:
    """GND as BNHD."""
    batch, length, heads, width = shape
    return token_GND.view(batch, heads, length, width).transpose(1, 2)


def _picked(token_GND: Tensor, index_GE: Tensor) -> Tensor:
    """Rows of every pair by index, GED."""
    if len(token_GND) == 1:
        return token_GND[0].index_select(0, index_GE[0]).unsqueeze(0)
    index_GED = index_GE.long().unsqueeze(-1).expand(-1, -1, token_GND.shape[-1])
    return token_GND.gather(1, index_GED)


def _read(part: Slice, number: int) -> Round:
    """What round `number` of a slice reads."""
    key_GE, query_GP = part.key_GRE[:, number], part.query_GRP[:, number]
    unscaled_GED = _picked(part.parts[-2], key_GE)
    if part.shared:
        query_GPD = unscaled_GED[:, key_GE.shape[1] - query_GP.shape[1] :]
        scale_GE = part.scale_GN.gather(1, key_GE.long())
    else:
        query_GPD, scale_GE = _picked(part.parts[0], query_GP), part.scale_GN
    key_GED = unscaled_GED * scale_GE.unsqueeze(-1).to(unscaled_GED.dtype)
    return Round(query_GPD, key_GED, _picked(part.parts[-1], key_GE), query_GP, key_GE)


def _homes(token_GP: Tensor, length: int) -> Tensor:
    """The place of every token, GN; places beyond the row's tokens are nobody's."""
    order_GN = token_GP[:, :length].long()
    place_N = torch.arange(length, device=token_GP.device, dtype=token_GP.dtype)
    return torch.empty_like(token_GP[:, :length]).scatter_(1, order_GN, place_N.expand_as(order_GN))


def _chunks(place_GPD: Tensor, sizes: Sizes) -> Tensor:
    """Chunks of places, GCmD."""
    return place_GPD.view(len(place_GPD), sizes.chunks, sizes.size, -1)


def _windows(place_GED: Tensor, sizes: Sizes) -> Tensor:
    """For every chunk the places its queries read, GCKD; they overlap, and nothing is copied."""
    if sizes.chunks == 1:
        return place_GED.unsqueeze(1)
    return place_GED.unfold(1, sizes.window, sizes.size).transpose(-1, -2)


def _scores(read: Round, part: Slice) -> Tensor:
    """q·k of every chunk in at least float32, GCmK; padding is as low as can be, a token with itself ONLY_ITSELF."""
    sizes = part.sizes
    score_GCmK = _chunks(read.query_GPD, sizes) @ _windows(read.key_GED, sizes).transpose(-1, -2)
    score_GCmK = wide_of(score_GCmK)
    if part.real_GE is not None:
        hidden_GCK = ~part.real_GE if sizes.chunks == 1 else ~part.real_GE.unfold(1, sizes.window, sizes.size)
        hidden_GC1K = hidden_GCK.view(len(hidden_GCK), sizes.chunks, 1, sizes.window)
        score_GCmK.masked_fill_(hidden_GC1K, torch.finfo(score_GCmK.dtype).min)
    if part.shared:
        _fill_own(score_GCmK, read, sizes, ONLY_ITSELF)
    return score_GCmK


def _fill_own(score_GCmK: Tensor, read: Round, sizes: Sizes, value: float) -> None:
    """Puts `value` where a query meets its own token: in its own chunk, and where the first one looks back to it."""
    front = sizes.window - sizes.size
    score_GCmK[..., front:].diagonal(dim1=-2, dim2=-1).fill_(value)
    if front:
        own_Gm1, back_G1m = read.key_GE[:, front : 2 * front, None], read.key_GE[:, None, :front]
        score_GCmK[:, 0, :, :front].masked_fill_(own_Gm1 == back_G1m, value)


def _averaged(part: Slice) -> tuple[Tensor, Tensor]:
    """The result of all rounds, GND, and the log of all weight behind it, GN."""
    results, weights = [], []
    for number in range(part.sizes.rounds):
        read = _read(part, number)
        score_GCmK = _scores(read, part)
        share_GCmK = score_GCmK.softmax(-1)
        # The largest score's share is e^(it − log-sum-exp).
        behind_GP = (score_GCmK.amax(-1) - share_GCmK.amax(-1).log_()).flatten(1)
        result_GCmD = share_GCmK.to(read.value_GED.dtype) @ _windows(read.value_GED, part.sizes)
        home_GN = _homes(read.query_GP, part.parts[0].shape[1])
        results.append(_picked(result_GCmD.flatten(1, 2), home_GN))
        weights.append(behind_GP.gather(1, home_GN.long()))
    if len(results) == 1:
        return results[0], weights[0]
    behind_RGN = torch.stack(weights)
    share_RGN1 = behind_RGN.softmax(0).unsqueeze(-1).to(results[0].dtype)
    mixed_GND = results[0].mul_(share_RGN1[0])
    for result_GND, share_GN1 in zip(results[1:], share_RGN1[1:], strict=True):
        mixed_GND.addcmul_(result_GND, share_GN1)
    return mixed_GND, behind_RGN.logsumexp(0)


def _gradients(part: Slice, d_mixed_GND: Tensor, lean_GN: Tensor, behind_GN: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the parts of in_proj, each GND.

    With p = e^(score − log of all weight), the share of a key in all rounds' mean: dV = pᵀ·dO, and
    dscore = p·(dO·Vᵀ − dO·O), as if it were one softmax over the keys of all rounds.
    """
    length = d_mixed_GND.shape[1]
    d_query_GND, d_key_GND, d_value_GND = (
        torch.zeros_like(d_mixed_GND, dtype=wide(d_mixed_GND.dtype)) for _ in range(3)
    )
    for number in range(part.sizes.rounds):
        read = _read(part, number)
        d_query_GPD, d_key_GED, d_value_GED = _round_gradients(read, part, (d_mixed_GND, lean_GN, behind_GN))
        front = read.key_GE.shape[1] - read.query_GP.shape[1]
        home_GN = _homes(read.query_GP, length)
        d_query_GND.add_(_picked(d_query_GPD, home_GN))
        key_home_GN = home_GN if part.shared else _homes(read.key_GE[:, front:], length)
        for whole_GND, d_place_GED in ((d_key_GND, d_key_GED), (d_value_GND, d_value_GED)):
            whole_GND.add_(_picked(d_place_GED[:, front:], key_home_GN))
            back_GmD = d_place_GED[:, :front].to(whole_GND.dtype)
            whole_GND.scatter_add_(1, read.key_GE[:, :front].long().unsqueeze(-1).expand_as(back_GmD), back_GmD)
    scale_GN1 = part.scale_GN.unsqueeze(-1)
    if not part.shared:
        return d_query_GND, d_key_GND * scale_GN1, d_value_GND
    # Of a key q/|q|·√(1/D), only what is at right angles to q changes it.
    unit_GND = wide_of(part.parts[0]) * (scale_GN1 * math.sqrt(part.parts[0].shape[-1]))
    along_GN1 = (d_key_GND * unit_GND).sum(-1, keepdim=True)
    return d_query_GND.add_((d_key_GND - unit_GND * along_GN1) * scale_GN1), d_value_GND


def _round_gradients(
    read: Round, part: Slice, of_token: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Of a round: gradients of queries by place, GPD, and of scaled keys and values by place, GED."""
    d_mixed_GND, lean_GN, behind_GN = of_token
    sizes, index_GP = part.sizes, read.query_GP.long()
    behind_GP = behind_GN.gather(1, index_GP)
    behind_GP[:, behind_GN.shape[1] :] = torch.inf  # places beyond the row's tokens
    d_mixed_GCmD = _chunks(_picked(d_mixed_GND, read.query_GP), sizes)
    score_GCmK = _scores(read, part)
    share_GCmK = score_GCmK.sub_(behind_GP.view(-1, sizes.chunks, sizes.size, 1)).exp_()
    d_share_GCmK = wide_of(d_mixed_GCmD @ _windows(read.value_GED, sizes).transpose(-1, -2))
    lean_GCm1 = lean_GN.gather(1, index_GP).view(-1, sizes.chunks, sizes.size, 1)
    d_score_GCmK = d_share_GCmK.sub_(lean_GCm1).mul_(share_GCmK)
    if part.shared:
        _fill_own(d_score_GCmK, read, sizes, 0.0)
    narrow = read.query_GPD.dtype
    d_score_GCmK, share_GCmK = d_score_GCmK.to(narrow), share_GCmK.to(narrow)
    d_query_GCmD = d_score_GCmK @ _windows(read.key_GED, sizes)
    d_key_GCKD = d_score_GCmK.transpose(-1, -2) @ _chunks(read.query_GPD, sizes)
    d_value_GCKD = share_GCmK.transpose(-1, -2) @ d_mixed_GCmD
    return d_query_GCmD.flatten(1, 2), _overlapped(d_key_GCKD, sizes), _overlapped(d_value_GCKD, sizes)


def _overlapped(window_GCKD: Tensor, sizes: Sizes) -> Tensor:
    """Windows added up by place, GED."""
    if sizes.chunks == 1:
        return window_GCKD.flatten(1, 2)
    front_GCmD, own_GCmD = window_GCKD[:, :, : sizes.size], window_GCKD[:, :, sizes.size :]
    place_GED = torch.nn.functional.pad(own_GCmD.flatten(1, 2), (0, 0, sizes.size, 0))
    place_GED[:, : sizes.places].add_(front_GCmD.flatten(1, 2))
    return place_GED
