"""R_intra and R_inter of a slice of clusters at once, for CPUs: the surrogate token is one more query of its cluster.

    [q; S] @ kᵀ/√D ─ last row × g(−phi) ─▶ softmax over members ─ @ v ─▶ [R_intra; R_inter]

At a cluster's size two batched products around one softmax take less time than the fused kernel, and the summaries need
no pass over k and v of their own. Every slice uses the same buffers, since fresh memory is paid for in page faults.
Shape suffixes as in mixing.py; Q = K + 1 queries of a cluster, R = G·H.
"""

from __future__ import annotations

import torch
from torch import Tensor

from castbench.mechanisms.cast.choice import Members
from castbench.mechanisms.cast.mixing import Gates, Slice, readable

MOST_BYTES, LEAST_BYTES, BUFFER_SHARE = 4 * 1024**2, 2 * 1024**2, 0.4
"""What the buffers of a slice take together: this share of q, k and v, so that CAST stays lean on short rows, between
these limits; 4 MiB was the fastest of 1 to 6 on two cores.
"""


class Buffers:
    """Memory by name, of the type of `like`; whoever uses a name again uses the same memory."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._flat: dict[str, Tensor] = {}

    def of(self, name: str, *shape: int) -> Tensor:
        """A tensor of that shape with anything in it."""
        count = torch.Size(shape).numel()
        held = self._flat.get(name)
        if held is None or held.numel() < count:
            held = self._flat[name] = self._like.new_empty(count)
        return held[:count].view(shape)


def clusters_at_once(qkv_BNX: Tensor, members: Members, heads: int) -> int:
    """How many clusters of every row make a slice here; 0 where they are better computed by the fused kernel.

    That is in torch.compile, on a GPU, in a type that needs wider sums, and where one cluster of every row does not fit
    the buffers: its rows, q, k, v and results by head, and its scores, which grow with the square of its size.
    """
    is_plain = qkv_BNX.device.type == "cpu" and qkv_BNX.dtype in (torch.float32, torch.float64)
    if not is_plain or torch.compiler.is_compiling():
        return 0
    batch, clusters, places = members.index.shape
    per_place = 7 * qkv_BNX.shape[-1] // 3 + heads * (places + 1)
    held_bytes = min(MOST_BYTES, max(LEAST_BYTES, int(BUFFER_SHARE * qkv_BNX.numel() * qkv_BNX.element_size())))
    return min(clusters, held_bytes // (batch * places * per_place * qkv_BNX.element_size()))


def within_and_between(
    qkv_BNX: Tensor, surrogate_CHD: Tensor, gates: Gates, part: Slice, buffers: Buffers
) -> tuple[Tensor, Tensor, Tensor]:
    """q, GKHD, R_intra, GKHD, and R_inter, GHD, of a slice; all lie in buffers that the next slice uses again."""
    clusters, heads, width = surrogate_CHD[part.at].shape
    places, groups = part.places, part.token_P.numel() // part.places
    rows_PX = buffers.of("rows", groups * places, qkv_BNX.shape[-1])
    torch.index_select(qkv_BNX.view(-1, qkv_BNX.shape[-1]), 0, part.token_P, out=rows_PX)
    q_GKHD, k_GKHD, v_GKHD = rows_PX.view(groups, places, 3, heads, width).unbind(2)
    query_GHQD = buffers.of("queries", groups, heads, places + 1, width)
    query_GHQD[:, :, :places] = q_GKHD.transpose(1, 2)
    query_GHQD.view(-1, clusters, heads, places + 1, width)[..., places, :] = surrogate_CHD[part.at]
    key_GHKD = buffers.of("keys", groups, heads, places, width).copy_(k_GKHD.transpose(1, 2))
    value_GHKD = buffers.of("values", groups, heads, places, width).copy_(v_GKHD.transpose(1, 2))
    share_GHQK = _shares(query_GHQD, key_GHKD, gates, part, buffers)
    mixed_GHQD = buffers.of("mixed", groups, heads, places + 1, width)
    torch.bmm(share_GHQK.flatten(0, 1), value_GHKD.flatten(0, 1), out=mixed_GHQD.flatten(0, 1))
    return q_GKHD, mixed_GHQD[:, :, :places].transpose(1, 2), mixed_GHQD[:, :, places]


def _shares(query_GHQD: Tensor, key_GHKD: Tensor, gates: Gates, part: Slice, buffers: Buffers) -> Tensor:
    """Softmax over the members of every query's scores, GHQK; the last query's are strengthened key by key."""
    groups, heads, places, width = key_GHKD.shape
    score_GHQK = buffers.of("scores", groups, heads, places + 1, places)
    score_RQK, key_RDK = score_GHQK.flatten(0, 1), key_GHKD.flatten(0, 1).transpose(1, 2)
    torch.baddbmm(score_RQK, query_GHQD.flatten(0, 1), key_RDK, beta=0, alpha=width**-0.5, out=score_RQK)
    strength_G1K = gates.key_strength_BN.flatten()[part.token_P].view(groups, 1, places)
    score_GHQK[:, :, places].mul_(strength_G1K * width**0.5)
    mask_G11K = readable(part.members)
    if mask_G11K is not None:
        score_GHQK.masked_fill_(~mask_G11K, torch.finfo(score_GHQK.dtype).min)
    # In place: every row is read before it is written.
    return torch.softmax(score_GHQK, -1, out=score_GHQK)
