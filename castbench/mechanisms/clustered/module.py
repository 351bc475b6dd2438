"""Clustered attention as a module: groups of queries (hashing.py), their centroids' attention, and the queries' own.

    x ─ in_proj ─▶ q ─ hash, group ─▶ centroids ─ attention to all keys ─┬─▶ every member gets it          (clustered)
                   k, v ─────────────────────────┘                       └─▶ the k best keys are read anew (i-clustered)

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, b bits, C clusters, K keys that are read anew,
G = B·H pairs of row and head, Z = G·C, L blocks of queries of one cluster, P places in a block, S = L·P slots.
Equations of arXiv:2007.04825.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from castbench.mechanisms.clustered import ClusteredParams, Sizes, sizes
from castbench.mechanisms.clustered.hashing import bits_of, grouped


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen for an input: bits, cluster of every query, and the keys each cluster's queries read anew."""

    bit_BHNb: Tensor
    cluster_BHN: Tensor
    top_BHCK: Tensor | None


@dataclass(frozen=True, slots=True)
class Groups:
    """The cluster of every query, of C; padding is in cluster 0, but counts for nothing there."""

    cluster_GN: Tensor
    padding_GN: Tensor | None
    clusters: int

    def row_GN(self) -> Tensor:  # noqa: N802 - a shape suffix
        """Every query's cluster among those of all pairs, as int32."""
        first_G1 = torch.arange(len(self.cluster_GN), device=self.cluster_GN.device).unsqueeze(1) * self.clusters
        return (self.cluster_GN + first_G1).int()


class ClusteredAttention(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; 0 is mixed at padding.

    Hash planes, and spare codes for clusters that nobody joins, are drawn once, from torch's global generator.
    """

    def __init__(self, embed_dim: int, num_heads: int, params: ClusteredParams) -> None:
        super().__init__()
        self.num_heads, self.params = num_heads, params
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.register_buffer("planes", torch.randn(embed_dim // num_heads, params.bits))
        self.register_buffer("offsets", torch.randn(params.bits))
        self.register_buffer("spare", torch.randint(0, 2, (params.clusters, params.bits)).float() * 2 - 1)
        self.planes: Tensor
        self.offsets: Tensor
        self.spare: Tensor
        self.ran_as: str | None = None
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM."""
        q_BHND, k_BHND, v_BHND = self._parts(x_BNM)
        known = sizes(self.params, x_BNM.shape[1])
        groups = self._groups(self._bits(q_BHND), key_padding_mask_BN, known)
        centroid_BHCD = centroids(q_BHND, groups)
        if self.params.improved:
            self.ran_as = "improved"
            mixed_BHND = improved(q_BHND, k_BHND, v_BHND, centroid_BHCD, groups, key_padding_mask_BN, known)
        else:
            self.ran_as = "clustered"
            read_B11N = readable(key_padding_mask_BN)
            own_BHCD = functional.scaled_dot_product_attention(centroid_BHCD, k_BHND, v_BHND, attn_mask=read_B11N)
            mixed_BHND = rows(own_BHCD.flatten(0, 2), groups.row_GN()).view_as(q_BHND)
        if key_padding_mask_BN is not None:
            mixed_BHND = mixed_BHND.masked_fill(key_padding_mask_BN[:, None, :, None], 0.0)
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM

    @torch.no_grad()
    def choose(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Choice:
        """Bits, clusters and keys that `forward` chooses for this input."""
        q_BHND, k_BHND, _ = self._parts(x_BNM)
        known = sizes(self.params, x_BNM.shape[1])
        bit_GNb = self._bits(q_BHND)
        groups = self._groups(bit_GNb, key_padding_mask_BN, known)
        top_BHCK = None
        if self.params.improved:
            score_BHCN = scores(centroids(q_BHND, groups), k_BHND, key_padding_mask_BN)
            top_BHCK = score_BHCN.topk(known.topk, dim=-1).indices
        shape = q_BHND.shape[:3]
        return Choice(bit_GNb.view(*shape, -1), groups.cluster_GN.view(shape), top_BHCK)

    def _parts(self, x_BNM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, each BHND and in one piece, since their rows are read one by one."""
        batch, length, _ = x_BNM.shape
        qkv_BNX: Tensor = self.in_proj(x_BNM)
        q_BHND, k_BHND, v_BHND = (
            qkv_BNX.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        )
        return q_BHND, k_BHND, v_BHND

    @torch.no_grad()
    def _bits(self, q_BHND: Tensor) -> Tensor:
        """Hash bits of every query, GNb."""
        return bits_of(q_BHND.flatten(0, 1), self.planes, self.offsets)

    @torch.no_grad()
    def _groups(self, bit_GNb: Tensor, mask_BN: Tensor | None, known: Sizes) -> Groups:
        """Queries by Lloyd's algorithm on their bits."""
        padding_GN = None if mask_BN is None else mask_BN.repeat_interleave(self.num_heads, 0)
        cluster_GN = grouped(bit_GNb, padding_GN, known.clusters, self.params.iterations, self.spare)
        if padding_GN is not None:
            cluster_GN = cluster_GN.masked_fill(padding_GN, 0)
        return Groups(cluster_GN, padding_GN, known.clusters)


def wide(tensor: Tensor) -> Tensor:
    """float32 where the input is narrower."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table by index, which keeps its shape."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])


def readable(mask_BN: Tensor | None) -> Tensor | None:
    """Keys to attend to, B11N: the real ones; of a row without any, all."""
    if mask_BN is None:
        return None
    return (~mask_BN | mask_BN.all(1, keepdim=True))[:, None, None, :]


def centroids(q_BHND: Tensor, groups: Groups) -> Tensor:
    """The mean of every cluster's queries, BHCD; 0 of none."""
    batch, heads, _, width = q_BHND.shape
    row_GN, count = groups.row_GN(), batch * heads * groups.clusters
    if groups.padding_GN is not None:
        row_GN = row_GN.masked_fill(groups.padding_GN, count)
    row_G, query_GD = row_GN.flatten(), wide(q_BHND).flatten(0, 2)
    held_Z = query_GD.new_zeros(count + 1).index_add_(0, row_G, query_GD.new_ones(len(row_G))).clamp_(min=1.0)
    sum_ZD = query_GD.new_zeros(count + 1, width).index_add_(0, row_G, query_GD)
    mean_ZD = (sum_ZD / held_Z.unsqueeze(-1)).to(q_BHND.dtype)
    return mean_ZD[:count].view(batch, heads, groups.clusters, width)


def scores(centroid_BHCD: Tensor, k_BHND: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Centroids times keys over √D in at least float32, BHCN; padding as low as can be."""
    scaled_BHCD = centroid_BHCD * centroid_BHCD.shape[-1] ** -0.5
    score_BHCN = wide(scaled_BHCD @ k_BHND.transpose(-1, -2))
    if mask_BN is not None:
        score_BHCN = score_BHCN.masked_fill(mask_BN[:, None, None, :], torch.finfo(score_BHCN.dtype).min)
    return score_BHCN


def improved(
    q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, centroid_BHCD: Tensor, groups: Groups, mask_BN: Tensor | None,
    known: Sizes,
) -> Tensor:  # fmt: skip
    """The centroid's attention, but what it gives its K best keys each query shares out among them itself, BHND."""
    score_BHCN = scores(centroid_BHCD, k_BHND, mask_BN)
    top_BHCK = score_BHCN.detach().topk(known.topk, dim=-1).indices
    share_BHCN = score_BHCN.softmax(-1)
    mass_BHC1 = share_BHCN.gather(-1, top_BHCK).sum(-1, keepdim=True).to(v_BHND.dtype)
    rest_BHCD = share_BHCN.scatter(-1, top_BHCK, 0.0).to(v_BHND.dtype) @ v_BHND
    own_GND = attended_anew(q_BHND, k_BHND, v_BHND, top_BHCK, groups, mask_BN, known)
    row_GN = groups.row_GN()
    mass_GN1, rest_GND = rows(mass_BHC1.flatten(0, 2), row_GN), rows(rest_BHCD.flatten(0, 2), row_GN)
    return torch.addcmul(rest_GND, own_GND, mass_GN1).view_as(q_BHND)


def attended_anew(
    q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, top_BHCK: Tensor, groups: Groups, mask_BN: Tensor | None,
    known: Sizes,
) -> Tensor:  # fmt: skip
    """Softmax attention of every query to its cluster's K best keys, GND.

    Queries of a cluster stand in blocks of P, so that its keys are gathered once per block and not once per query.
    """
    pairs, length, width = len(groups.cluster_GN), *q_BHND.shape[2:]
    slot_GN, query_GS, cluster_GL = blocks(groups, known)
    pair_G1 = torch.arange(pairs, device=q_BHND.device).unsqueeze(1)
    top_GLK = top_BHCK.flatten(0, 1).gather(1, cluster_GL.unsqueeze(-1).expand(-1, -1, known.topk))
    key_GLK = (top_GLK + (pair_G1 * length).unsqueeze(-1)).int()
    # On CPUs blocks are a batch of one head each, so that results lie as their slots do; GPUs limit batches to 65535.
    cpu = q_BHND.device.type == "cpu"
    shape = (pairs * known.blocks, 1, -1, width) if cpu else (pairs, known.blocks, -1, width)
    q_XLPD = rows(q_BHND.flatten(0, 2), (query_GS + pair_G1 * length).int()).view(shape)
    k_XLKD, v_XLKD = (rows(part_BHND.flatten(0, 2), key_GLK).view(shape) for part_BHND in (k_BHND, v_BHND))
    read_X11K = None
    if mask_BN is not None:
        # The best come first: a row of fewer real tokens has them at the front.
        place_K = torch.arange(known.topk, device=q_BHND.device)
        read_BK = place_K < (~mask_BN).sum(1, keepdim=True).clamp(min=1)
        read_X11K = read_BK.repeat_interleave(shape[0] // len(mask_BN), 0)[:, None, None, :]
    own_XLPD = functional.scaled_dot_product_attention(q_XLPD, k_XLKD, v_XLKD, attn_mask=read_X11K)
    return rows(own_XLPD.reshape(-1, width), (slot_GN + pair_G1 * known.slots).int())


@torch.no_grad()
def blocks(groups: Groups, known: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """The slot of every query, GN, the query in every slot, GS (0 in empty ones), and the cluster of every block, GL.

    The clusters follow one another, each beginning with a block of its own. Nothing is read from the device.
    """
    pairs, length = groups.cluster_GN.shape
    held_GC = torch.zeros(pairs, known.clusters, dtype=torch.int64, device=groups.cluster_GN.device)
    held_GC.scatter_add_(1, groups.cluster_GN, torch.ones_like(groups.cluster_GN))
    blocks_GC = (held_GC + known.block - 1) // known.block
    # A query's slot: its place among all, by cluster, moved by what is left empty behind the clusters before.
    shift_GC = (blocks_GC.cumsum(1) - blocks_GC) * known.block - (held_GC.cumsum(1) - held_GC)
    sorted_GN, order_GN = groups.cluster_GN.sort(dim=1, stable=True)
    slot_sorted_GN = shift_GC.gather(1, sorted_GN) + torch.arange(length, device=held_GC.device)
    slot_GN = torch.empty_like(order_GN).scatter_(1, order_GN, slot_sorted_GN)
    query_GS = order_GN.new_zeros(pairs, known.slots).scatter_(1, slot_sorted_GN, order_GN)
    cluster_GL = order_GN.new_zeros(pairs, known.blocks).scatter_(1, slot_sorted_GN // known.block, sorted_GN)
    return slot_GN, query_GS, cluster_GL


def build(params: ClusteredParams, *, embed_dim: int, num_heads: int) -> ClusteredAttention:
    """ClusteredAttention from a profile's parameters."""
    return ClusteredAttention(embed_dim, num_heads, params)
