"""LSH attention in plain loops over rounds, chunks and tokens, in float64: the oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, H heads, D head width, M = H·D, S parts
of in_proj, J directions. Equations of arXiv:2001.04451 and of its authors' code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.reformer import factors
from castbench.mechanisms.reformer.rounds import ONLY_ITSELF, SHORTEST
from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.reformer.module import ReformerAttention

CHOICE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How much farther than a bucket's a direction may lie along a token, in lengths of both, by the dtype that chose."""

Buckets = list[list[int]]
"""The bucket of every token, per round."""


def reference(module: ReformerAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding mixes to zero.

    Below float64 the module's buckets are taken over, since rounding alone moves tokens about, and checked apart:
    ValueError where another direction lies clearly farther along a token than that of its bucket.
    """
    chosen = None if x_BNM.dtype == torch.float64 else module.choose(x_BNM, key_padding_mask_BN)
    tolerance = CHOICE_TOLERANCE[x_BNM.dtype]

    def mix(row: Row) -> Tensor:
        """All heads of one row, NM."""
        parts = [part_NHD.detach() for part_NHD in row.parts(module.num_heads, module.params.inputs)]
        heads = []
        for h in range(module.num_heads):
            given = None if chosen is None else [of_side[row.number, h][:, row.real].tolist() for of_side in chosen]
            heads.append(mixed_head(module, [part[:, h] for part in parts], given, tolerance))
        return torch.cat(heads, dim=-1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


def mixed_head(
    module: ReformerAttention, parts: list[Tensor], given: list[Buckets] | None, tolerance: float
) -> Tensor:  # fmt: skip
    """The mean of values of one head of one row of real tokens, ND; buckets are checked if given, else chosen."""
    query_ND, value_ND = parts[0], parts[-1]
    length = len(query_ND)
    shared = module.params.shared_qk
    key_ND = query_ND / query_ND.norm(dim=-1, keepdim=True).clamp(min=SHORTEST) if shared else parts[1]
    chunks = -(-length // module.params.bucket_size)
    if chunks == 1:
        return one_chunk(query_ND, key_ND, value_ND, shared)
    if given is None:
        given = [buckets(module, side_ND, chunks) for side_ND in parts[:-1]]
    for side_ND, of_side in zip(parts[:-1], given, strict=True):
        check_buckets(module, side_ND, chunks, of_side, tolerance)
    query_chunks, key_chunks = (in_chunks(of_side, module.params.bucket_size) for of_side in (given[0], given[-1]))
    mixed_ND = torch.zeros_like(value_ND)
    for n in range(length):
        means, weights = zip(*(
            one_round(n, query_ND, key_ND, value_ND, keys_of(n, r, query_chunks, key_chunks), shared)
            for r in range(module.params.hashes)
        ), strict=True)  # fmt: skip
        share_R = torch.stack(weights).softmax(0)  # (4): rounds count by the weight of the keys they found
        mixed_ND[n] = share_R @ torch.stack(means)
    return mixed_ND


def one_chunk(query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, shared: bool) -> Tensor:
    """A row that fits one chunk: every round finds the same, all tokens."""
    everyone = list(range(len(query_ND)))
    return torch.stack([one_round(n, query_ND, key_ND, value_ND, everyone, shared)[0] for n in everyone])


def one_round(
    n: int, query_ND: Tensor, key_ND: Tensor, value_ND: Tensor, keys: list[int], shared: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(2), (3): mean of the values of `keys` by softmax of q·k/√D, and the log of the weight behind it."""
    score_K = key_ND[keys] @ query_ND[n] / math.sqrt(query_ND.shape[-1])
    if shared:
        score_K[[i for i, k in enumerate(keys) if k == n]] = ONLY_ITSELF
    share_K = score_K.softmax(0)
    return (share_K.unsqueeze(-1) * value_ND[keys]).sum(0), score_K.logsumexp(0)


def factored(module: ReformerAttention, side_ND: Tensor, chunks: int) -> list[Tensor]:
    """For every factor of the hash how far tokens lie along its directions and their opposites, N R 2·J."""
    directions_DRJ = module.directions.double().cpu()
    start, found = 0, []
    for count in factors(chunks, module.params.directions):
        along_NRJ = torch.einsum("nd,drj->nrj", side_ND, directions_DRJ[:, :, start : start + count])
        found += [torch.cat((along_NRJ, -along_NRJ), -1)] if count else []
        start += count
    return found


def buckets(module: ReformerAttention, side_ND: Tensor, chunks: int) -> Buckets:
    """h(x) = argmax([x·R; −x·R]) of every round; of two factors the second counts in steps of the first's number."""
    bucket_RN, step = torch.zeros(module.params.hashes, len(side_ND), dtype=torch.int64), 1
    for along_NRJ in factored(module, side_ND, chunks):
        bucket_RN += step * along_NRJ.argmax(-1).T
        step *= along_NRJ.shape[-1]
    return bucket_RN.tolist()


def check_buckets(
    module: ReformerAttention, side_ND: Tensor, chunks: int, of_side: Buckets, tolerance: float
) -> None:  # fmt: skip
    """ValueError unless every token's bucket is that of the direction it points along most, as near as makes sense."""
    longest = float(module.directions.double().norm(dim=0).max())
    bucket_NR = torch.tensor(of_side).T
    for along_NRJ in factored(module, side_ND, chunks):
        own_NR = along_NRJ.gather(-1, (bucket_NR % along_NRJ.shape[-1]).unsqueeze(-1)).squeeze(-1)
        missing_NR = (along_NRJ.amax(-1) - own_NR) / longest
        bucket_NR = bucket_NR // along_NRJ.shape[-1]
        if float(missing_NR.max()) > tolerance * float(side_ND.norm(dim=-1).max()):
            n = int(missing_NR.amax(-1).argmax())
            raise ValueError(f"token {n} lies farther along another direction, by {float(missing_NR.max()):.2g}")
    if bool((bucket_NR != 0).any()):
        raise ValueError("a bucket is numbered higher than there are")


def in_chunks(of_side: Buckets, size: int) -> list[list[list[int]]]:
    """Per round the tokens sorted by bucket, in their own order within one, cut into chunks."""
    rounds = []
    for bucket_N in of_side:
        order = sorted(range(len(bucket_N)), key=lambda n: (bucket_N[n], n))
        rounds.append([order[start : start + size] for start in range(0, len(order), size)])
    return rounds


def keys_of(n: int, r: int, query_chunks: list[list[list[int]]], key_chunks: list[list[list[int]]]) -> list[int]:
    """What token n reads in round r: the keys of its chunk and of the one before.

    All rounds' chunks stand in one ring, so that the first chunk of a round looks back to the last of another.
    """
    c = next(number for number, chunk in enumerate(query_chunks[r]) if n in chunk)
    before = key_chunks[r][c - 1] if c else key_chunks[r - 1][-1]
    return before + key_chunks[r][c]
