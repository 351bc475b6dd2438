"""Groups of queries: bits of a hash, and Lloyd's algorithm in their distance; without gradient.

    q ─ planes ─▶ bits ─▶ the first C are centroids ─▶ nearest centroid ─▶ majority of every bit ─▶ nearest … ─▶ group

All is done by products of ±1: bits that agree minus bits that differ. Shape suffixes: N tokens, D head width, b bits,
X = b + 1 with a column of ones, C clusters, G pairs of row and head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.clustered import SLICE_BYTES


def bits_of(query_GND: Tensor, plane_Db: Tensor, offset_b: Tensor) -> Tensor:
    """On which side of every plane a query lies, GNb; in at least float32."""
    if query_GND.dtype != torch.float64:
        query_GND, plane_Db, offset_b = query_GND.float(), plane_Db.float(), offset_b.float()
    return query_GND @ plane_Db > offset_b


def grouped(
    bit_GNb: Tensor, padding_GN: Tensor | None, clusters: int, iterations: int, spare_Cb: Tensor
) -> Tensor:  # fmt: skip
    """The cluster of every query, GN; that of padding means nothing.

    A row of n real tokens has min(C, n) clusters. The first of its tokens are the first centroids. `iterations`
    assignments, with new centroids between them; a cluster that nobody joined moves to its spare code.
    """
    pairs, length, bits = bit_GNb.shape
    step = max(1, SLICE_BYTES["cpu" if bit_GNb.device.type == "cpu" else "cuda"] // (length * (bits + 1) * 4))
    found = []
    for start in range(0, pairs, step):
        at = slice(start, start + step)
        found.append(
            _lloyd(bit_GNb[at], None if padding_GN is None else padding_GN[at], clusters, iterations, spare_Cb)
        )
    return torch.cat(found)


def _lloyd(
    bit_GNb: Tensor, padding_GN: Tensor | None, clusters: int, iterations: int, spare_Cb: Tensor
) -> Tensor:  # fmt: skip
    """The cluster of every query of some pairs, GN."""
    sign_GNX = functional.pad(bit_GNb.float().mul_(2).sub_(1), (0, 1), value=1.0)
    if padding_GN is None:
        centroid_GCb = sign_GNX[:, :clusters, :-1]
    else:
        # Padding counts for nothing, its column of ones included.
        sign_GNX.masked_fill_(padding_GN.unsqueeze(-1), 0.0)
        # Where real tokens are too few, padding comes last and is no centroid either: every token has one of its own
        # code then, before and after all iterations, and ties go to the lower one.
        first_GC = padding_GN.byte().argsort(dim=1, stable=True)[:, :clusters]
        centroid_GCb = sign_GNX[..., :-1].gather(1, first_GC.unsqueeze(-1).expand(-1, -1, bit_GNb.shape[-1]))
    cluster_GN = _nearest(sign_GNX, centroid_GCb)
    for _ in range(iterations - 1):
        centroid_GCb = _majority(sign_GNX, cluster_GN, spare_Cb[:clusters])
        cluster_GN = _nearest(sign_GNX, centroid_GCb)
    return cluster_GN


def _nearest(sign_GNX: Tensor, centroid_GCb: Tensor) -> Tensor:
    """The cluster whose centroid shares most bits, GN; ties go to the lower one.

    The product takes the number of the cluster along, below the agreement, so that one maximum finds both.
    """
    pairs, clusters, _ = centroid_GCb.shape
    step = 1 << (clusters - 1).bit_length()
    number_C = torch.arange(clusters, device=sign_GNX.device, dtype=sign_GNX.dtype)
    target_GCX = torch.cat((centroid_GCb * step, -number_C.expand(pairs, -1).unsqueeze(-1)), -1)
    key_GNC = torch.bmm(sign_GNX, target_GCX.transpose(1, 2))
    return (-key_GNC.amax(-1)).long() & (step - 1)


def _majority(sign_GNX: Tensor, cluster_GN: Tensor, spare_Cb: Tensor) -> Tensor:
    """What most members of a cluster have at every bit, ±1, −1 where they are even; GCb."""
    pairs, _, columns = sign_GNX.shape
    clusters = len(spare_Cb)
    first_G1 = torch.arange(pairs, device=sign_GNX.device).unsqueeze(1) * clusters
    sum_ZX = sign_GNX.new_zeros(pairs * clusters, columns)
    sum_ZX.index_add_(0, (cluster_GN + first_G1).flatten(), sign_GNX.flatten(0, 1))
    sum_GCX = sum_ZX.view(pairs, clusters, columns)
    centroid_GCb = (sum_GCX[..., :-1] > 0).to(sign_GNX.dtype).mul_(2).sub_(1)
    return torch.where(sum_GCX[..., -1:] > 0, centroid_GCb, spare_Cb.to(sign_GNX.dtype))
