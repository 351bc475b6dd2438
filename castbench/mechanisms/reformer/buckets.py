"""Which bucket every token hashes into, and the places of tokens sorted by bucket; without gradient.

    tokens ─ directions ─▶ buckets ─ sort ─▶ │ back │ chunk 0 │ chunk 1 │ … │ last │     per row, head and round
                                               └── copy of the last chunk of the round before

Shape suffixes: B batch, N tokens, H heads, D head width, R hash rounds, J directions, m places of a chunk, P places of
a sorted row, E places of keys: P and the chunk in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from castbench.mechanisms.reformer import Sizes, factors


@dataclass(frozen=True, slots=True)
class Places:
    """Tokens of a batch in sorted order, as int32.

    query_BHRP  the token at every place; places beyond the row's tokens repeat the last one
    key_BHRE    the same for keys, with the chunk in front that the first one looks back to, where there are several
    real_BE     places of keys that hold a real token, once each; None where all do
    """

    query_BHRP: Tensor
    key_BHRE: Tensor
    real_BE: Tensor | None


@torch.no_grad()
def bucket_of(token_BNHD: Tensor, directions_DRJ: Tensor, chunks_B: Tensor | None, sizes: Sizes) -> Tensor:
    """The bucket of every token in every round, BHRN: the direction it points along most, or the opposite of one.

    A row of c chunks hashes with c directions, or with two halves of them, whatever the other rows need: `chunks_B`,
    None where all rows are full. Head by head, since J numbers per round are more than a token itself.
    """
    batch, length, heads, width = token_BNHD.shape
    flat_DJ = directions_DRJ[:, :, : sizes.columns].flatten(1)
    buckets = []
    for head in range(heads):
        along_TJ = token_BNHD[:, :, head].reshape(-1, width) @ flat_DJ
        along_BNRJ = along_TJ.view(batch, length, sizes.rounds, sizes.columns)
        buckets.append(_bucket(along_BNRJ, chunks_B, sizes.chunks, directions_DRJ.shape[-1]))
    return torch.stack(buckets, 1).transpose(2, 3)


def _bucket(along_BNRJ: Tensor, chunks_B: Tensor | None, chunks: int, held: int) -> Tensor:
    """Buckets by how far tokens lie along the directions, BNR."""
    first, second = factors(chunks, held)
    if chunks_B is None:
        bucket_BNR = _farthest(along_BNRJ[..., :first], first)
        if not second:
            return bucket_BNR
        return bucket_BNR + 2 * first * _farthest(along_BNRJ[..., first : first + second], second)
    if not second:
        return _farthest(along_BNRJ, chunks_B.view(-1, 1, 1, 1))
    chunks_B111 = chunks_B.view(-1, 1, 1, 1)
    one_B111 = chunks_B111 <= held
    bucket_BNR = _farthest(along_BNRJ, torch.where(one_B111, chunks_B111, first))
    second_B111 = torch.where(one_B111, 0, ((chunks_B111 + held - 1) // held).clamp(max=held // 2))
    return bucket_BNR + 2 * first * _farthest(along_BNRJ[..., first:], second_B111)


def _farthest(along_BNRJ: Tensor, used: int | Tensor) -> Tensor:
    """Number of the farthest of the `used` directions and, above them, their opposites, BNR; ties to the lower one.

    In float32 the number takes the place of a distance's last bits (6 of 24 for 64 directions), so that one maximum
    of integers finds both: four times as fast as argmax.
    """
    count = along_BNRJ.shape[-1]
    number_J = torch.arange(count, device=along_BNRJ.device, dtype=torch.int32)
    if along_BNRJ.dtype != torch.float32:
        far_BNRJ = along_BNRJ.abs()
        if isinstance(used, Tensor):
            far_BNRJ.masked_fill_(number_J >= used, -1.0)
        best_BNR = far_BNRJ.argmax(-1)
    else:
        low = (1 << (count - 1).bit_length()) - 1
        key_BNRJ = (along_BNRJ.view(torch.int32) & (0x7FFFFFFF - low)).bitwise_or_(low - number_J)
        if isinstance(used, Tensor):
            key_BNRJ.masked_fill_(number_J >= used, -1)
        best_BNR = low - (key_BNRJ.amax(-1) & low).long()
    opposite_BNR = along_BNRJ.gather(-1, best_BNR.unsqueeze(-1)).squeeze(-1) < 0
    return best_BNR + opposite_BNR * (used.squeeze(-1) if isinstance(used, Tensor) else used)


def by_bucket(bucket_BHRN: Tensor, padding_BN: Tensor | None) -> Tensor:
    """Tokens by bucket, those of one bucket in their own order, padding last, BHRN."""
    length = bucket_BHRN.shape[-1]
    key_BHRN = bucket_BHRN * length + torch.arange(length, device=bucket_BHRN.device)
    if padding_BN is not None:
        key_BHRN = key_BHRN.masked_fill_(padding_BN[:, None, None, :], torch.iinfo(key_BHRN.dtype).max)
    return key_BHRN.argsort(dim=-1, stable=True)


def places_of(query_BHRN: Tensor, key_BHRN: Tensor | None, padding_BN: Tensor | None, sizes: Sizes) -> Places:
    """Sorted queries and keys, cut into chunks; every row's first chunk looks back to its own last one.

    Without keys of their own, queries are keys, and their places a part of the keys'.
    """
    key_BHRP = _filled(query_BHRN if key_BHRN is None else key_BHRN, sizes)
    length, device, real_BE, last_B1 = query_BHRN.shape[-1], query_BHRN.device, None, None
    if padding_BN is not None or length < sizes.places:
        full_B = torch.full(query_BHRN.shape[:1], length, device=device)
        real_B1 = (full_B if padding_BN is None else (~padding_BN).sum(1)).unsqueeze(1)
        place_BE = torch.arange(sizes.places, device=device).expand(len(real_B1), -1)
        if sizes.chunks > 1:
            last_B1 = ((real_B1 - 1) // sizes.size).clamp(min=0) * sizes.size
            place_BE = torch.cat((last_B1 + torch.arange(sizes.size, device=device), place_BE), 1)
        real_BE = place_BE < real_B1
    key_BHRE = _with_back(key_BHRP, last_B1, sizes)
    query_BHRP = key_BHRE[..., -sizes.places :] if key_BHRN is None else _filled(query_BHRN, sizes)
    return Places(query_BHRP, key_BHRE, real_BE)


def _filled(order_BHRN: Tensor, sizes: Sizes) -> Tensor:
    """As int32, and up to a whole chunk with the last token, BHRP."""
    order_BHRN = order_BHRN.int()
    missing = sizes.places - order_BHRN.shape[-1]
    if not missing:
        return order_BHRN
    return torch.cat((order_BHRN, order_BHRN[..., -1:].expand(*order_BHRN.shape[:-1], missing)), -1)


def _with_back(key_BHRP: Tensor, last_B1: Tensor | None, sizes: Sizes) -> Tensor:
    """The chunk that the first one looks back to in front: the last one of the round before, in a ring, BHRE.

    `last_B1` are the rows' first places of that chunk; None where it is the last of all.
    """
    if sizes.chunks == 1:
        return key_BHRP
    if last_B1 is None:
        back_BHRm = key_BHRP[..., -sizes.size :]
    else:
        place_Bm = last_B1 + torch.arange(sizes.size, device=key_BHRP.device)
        back_BHRm = key_BHRP.gather(-1, place_Bm[:, None, None].expand(*key_BHRP.shape[:3], -1))
    return torch.cat((back_BHRm.roll(1, 2), key_BHRP), -1)
