"""Clustered attention in plain loops over heads, clusters and tokens, in float64: the oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, H heads, D head width, M = H·D, b bits,
C clusters, K keys that are read anew. Equations of arXiv:2007.04825.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.clustered.module import Choice, ClusteredAttention

CHOICE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far on the wrong side of a plane a query may lie, and how far above a key that is read anew one that is not, by
the dtype that chose; in units of the largest distance, and of the largest score.
"""

Code = tuple[int, ...]
"""Bits of a query or of a centroid."""


@dataclass(frozen=True, slots=True)
class Given:
    """The module's choice for one head of a row, counted among its real tokens."""

    codes: list[Code]
    clusters: list[int]
    top: list[list[int]] | None


def reference(module: ClusteredAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights and planes; padding mixes to zero.

    Below float64 the module's bits and keys are taken over, since rounding alone moves them about, and checked apart:
    ValueError where a bit is clearly wrong, where Lloyd's algorithm, done again on these bits, leads to other clusters,
    or where a key left out is clearly better than one that is read anew.
    """
    chosen = None if x_BNM.dtype == torch.float64 else module.choose(x_BNM, key_padding_mask_BN)
    tolerance = CHOICE_TOLERANCE[x_BNM.dtype]

    def mix(row: Row) -> Tensor:
        """All heads of one row, NM."""
        q_NHD, k_NHD, v_NHD = (part_NHD.detach() for part_NHD in row.parts(module.num_heads))
        heads = []
        for h in range(module.num_heads):
            given = None if chosen is None else _given_for_head(chosen, row.number, h, row.real, module.params.topk)
            heads.append(mixed_head(module, (q_NHD[:, h], k_NHD[:, h], v_NHD[:, h]), given, tolerance))
        return torch.cat(heads, dim=-1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


def mixed_head(
    module: ClusteredAttention, qkv: tuple[Tensor, Tensor, Tensor], given: Given | None, tolerance: float
) -> Tensor:  # fmt: skip
    """What one head of one row of real tokens mixes, ND."""
    q_ND, k_ND, v_ND = qkv
    clusters = grouped_queries(module, q_ND, given, tolerance)
    mixed_ND = torch.zeros_like(q_ND)
    for c in sorted(set(clusters)):
        members = [n for n, own in enumerate(clusters) if own == c]
        score_N = k_ND @ q_ND[members].mean(0) / math.sqrt(q_ND.shape[-1])  # (3), (4): the centroid attends
        share_N = score_N.softmax(0)
        if not module.params.improved:
            mixed_ND[members] = share_N @ v_ND
            continue
        top = best_keys(score_N, min(module.params.topk, len(k_ND)), None if given is None else given.top, c, tolerance)
        rest = [n for n in range(len(k_ND)) if n not in top]
        for n in members:  # (8) to (10): the best keys' mass is shared out by the query itself
            own_K = (k_ND[top] @ q_ND[n] / math.sqrt(q_ND.shape[-1])).softmax(0)
            mixed_ND[n] = share_N[top].sum() * (own_K @ v_ND[top]) + share_N[rest] @ v_ND[rest]
    return mixed_ND


def grouped_queries(module: ClusteredAttention, q_ND: Tensor, given: Given | None, tolerance: float) -> list[int]:
    """The cluster of every query, by the bits of its hash; those given are checked."""
    distance_Nb = q_ND @ module.planes.double().cpu() - module.offsets.double().cpu()
    if given is None:
        codes = [tuple(map(int, row)) for row in (distance_Nb > 0).tolist()]
    else:
        codes = given.codes
        check_bits(distance_Nb, codes, tolerance)
    spare = [tuple(int(bit > 0) for bit in row) for row in module.spare.tolist()]
    clusters = lloyd(codes, min(module.params.clusters, len(codes)), module.params.iterations, spare)
    if given is not None and given.clusters != clusters:
        raise ValueError(f"queries were grouped as {given.clusters}, where their bits lead to {clusters}")
    return clusters


def lloyd(codes: list[Code], count: int, iterations: int, spare: list[Code]) -> list[int]:
    """Assignments to the nearest of `count` centroids, ties to the lower; between them new centroids.

    The first centroids are the first codes. A new centroid has what most of its members have at every bit, 0 where they
    are even; without members it is its spare code.
    """
    centroids = codes[:count]
    clusters = assigned(codes, centroids)
    for _ in range(iterations - 1):
        members = [[code for code, own in zip(codes, clusters, strict=True) if own == c] for c in range(count)]
        centroids = [majority(held) if held else spare[c] for c, held in enumerate(members)]
        clusters = assigned(codes, centroids)
    return clusters


def assigned(codes: list[Code], centroids: list[Code]) -> list[int]:
    """The nearest centroid of every code, by the number of bits that differ."""
    apart = [[sum(a != b for a, b in zip(code, centre, strict=True)) for centre in centroids] for code in codes]
    return [row.index(min(row)) for row in apart]


def majority(held: list[Code]) -> Code:
    """1 where more than half of the codes have 1."""
    return tuple(int(2 * sum(bits) > len(held)) for bits in zip(*held, strict=True))


def best_keys(score_N: Tensor, count: int, given: list[list[int]] | None, c: int, tolerance: float) -> list[int]:
    """The keys that a centroid likes best, ties to the lower; those given are checked."""
    values = score_N.tolist()
    best = sorted(range(len(values)), key=lambda n: (-values[n], n))[:count]
    if given is None:
        return best
    top = given[c]
    bar = values[best[-1]] - tolerance * max(1.0, float(score_N.abs().max()))
    if len(set(top)) != count or min(values[n] for n in top) < bar:
        raise ValueError(f"cluster {c} reads keys {top} anew, where {best} are its best")
    return top


def check_bits(distance_Nb: Tensor, codes: list[Code], tolerance: float) -> None:
    """ValueError where a bit is not that of a query's side of the plane, unless it lies as good as on it."""
    sign_Nb = torch.tensor(codes, dtype=torch.float64) * 2 - 1
    wrong = float((-sign_Nb * distance_Nb).max())
    if wrong > tolerance * max(1.0, float(distance_Nb.abs().max())):
        raise ValueError(f"a query lies on the other side of a plane, by {wrong:.2g}")


def _given_for_head(chosen: Choice, b: int, h: int, real: list[int], topk: int) -> Given:
    """The module's choice for one head, counted among the row's real tokens; ValueError where padding was chosen."""
    number = {place: n for n, place in enumerate(real)}
    codes = [tuple(map(int, row)) for row in chosen.bit_BHNb[b, h, real].tolist()]
    top = None
    if chosen.top_BHCK is not None:
        listed = chosen.top_BHCK[b, h, :, : min(topk, len(real))].tolist()
        strangers = sorted({place for keys in listed for place in keys} - set(number))
        if strangers:
            raise ValueError(f"padding is read anew: tokens {strangers}")
        top = [[number[place] for place in keys] for keys in listed]
    return Given(codes, chosen.cluster_BHN[b, h, real].tolist(), top)
