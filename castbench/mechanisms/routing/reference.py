"""The Routing Transformer's attention in plain loops over heads, clusters and tokens, in float64: oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, H heads, D head width, M = H·D, P parts
of in_proj, C clusters, K members. Algorithm 1 of arXiv:2003.05997, without its causal mask.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from castbench.mechanisms.routing import row_window
from castbench.mechanisms.row_by_row import Row, row_by_row

if TYPE_CHECKING:
    from castbench.mechanisms.routing.module import Members as ChosenMembers
    from castbench.mechanisms.routing.module import RoutingAttention

CHOICE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far before a member a token left out may lie along a centroid, in lengths of both, by the dtype that chose."""
EPSILON = 1e-5
"""Added to the variance by layer norm."""

Clusters = list[list[int]]
"""The members of every cluster."""


def reference(module: RoutingAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights and centroids; padding mixes to zero.

    Below float64 the module's members are taken over, since rounding alone moves them about, and checked apart:
    ValueError where a token left out lies clearly farther along a centroid than a member.
    """
    chosen = None if x_BNM.dtype == torch.float64 else module.choose(x_BNM, key_padding_mask_BN)
    tolerance = CHOICE_TOLERANCE[x_BNM.dtype]

    def mix(row: Row) -> Tensor:
        """All heads of one row, NM."""
        parts = [part_NHD.detach() for part_NHD in row.parts(module.num_heads, module.params.inputs)]
        heads = []
        for h in range(module.num_heads):
            given = None if chosen is None else _members_of_head(chosen, row.number, h, row.real)
            heads.append(mixed_head(module, h, [part[:, h] for part in parts], given, tolerance))
        return torch.cat(heads, dim=-1)

    return row_by_row(module, x_BNM, key_padding_mask_BN, mix)


def mixed_head(
    module: RoutingAttention, h: int, parts: list[Tensor], given: list[Clusters] | None, tolerance: float
) -> Tensor:  # fmt: skip
    """What one head of one row of real tokens mixes, ND: every token's mean over the clusters that took its query."""
    sides, value_ND = [layer_normed(side_ND) for side_ND in parts[:-1]], parts[-1]
    query_ND, key_ND = sides[0], sides[-1]
    centroid_CD = module.centroids[h].detach().double().cpu()
    size = row_window(len(value_ND), module.num_clusters, module.params.window_size)
    if given is None:
        given = [nearest(side_ND @ centroid_CD.T, size) for side_ND in sides]
    for side_ND, clusters in zip(sides, given, strict=True):
        check_nearest(side_ND @ centroid_CD.T, size, clusters, tolerance)
    results: list[list[Tensor]] = [[] for _ in value_ND]
    for queries, keys in zip(given[0], given[-1], strict=True):
        for n in queries:
            share_K = (key_ND[keys] @ query_ND[n] / math.sqrt(query_ND.shape[-1])).softmax(0)
            results[n].append(share_K @ value_ND[keys])
    return torch.stack([
        torch.stack(found).mean(0) if found else torch.zeros_like(value_ND[0]) for found in results
    ])  # fmt: skip


def layer_normed(side_ND: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the head's width; no scale, no bias."""
    centred_ND = side_ND - side_ND.mean(-1, keepdim=True)
    return centred_ND / (centred_ND.square().mean(-1, keepdim=True) + EPSILON).sqrt()


def nearest(score_NC: Tensor, size: int) -> Clusters:
    """Every centroid's `size` tokens of largest scores; ties go to the lower token."""
    return [sorted(range(len(column)), key=lambda n: (-column[n], n))[:size] for column in score_NC.T.tolist()]


def check_nearest(score_NC: Tensor, size: int, clusters: Clusters, tolerance: float) -> None:
    """ValueError unless every cluster holds `size` tokens, none of them clearly farther than its size-th nearest."""
    scale = max(1.0, float(score_NC.abs().max()))
    for c, held in enumerate(clusters):
        if len(set(held)) != size or len(held) != size:
            raise ValueError(f"cluster {c} holds {len(set(held))} tokens instead of {size}")
        bar = float(score_NC[:, c].topk(size).values[-1]) - tolerance * scale
        for n in held:
            if float(score_NC[n, c]) < bar:
                raise ValueError(f"token {n} is in cluster {c} at {float(score_NC[n, c]):.4g}, below {bar:.4g}")


def _members_of_head(chosen: ChosenMembers, b: int, h: int, real: list[int]) -> list[Clusters]:
    """The module's members of a head, counted among the row's real tokens; ValueError where padding was chosen."""
    number = {place: n for n, place in enumerate(real)}
    size = chosen.index_SBHCK.shape[-1] if chosen.size_B is None else int(chosen.size_B[b])
    sides = [index_BHCK[b, h, :, :size].tolist() for index_BHCK in chosen.index_SBHCK]
    strangers = sorted({place for side in sides for held in side for place in held} - set(number))
    if strangers:
        raise ValueError(f"padding was put into a cluster: tokens {strangers}")
    return [[[number[place] for place in held] for held in side] for side in sides]
