"""Block sizes of CAST's kernels: a pure function of the problem, so that what is inspected is what runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

_LEAST = 16
"""tl.dot takes no side shorter than this."""
_WIDEST = 128
_HALF = 2
"""Bytes of the dtypes that matrix units multiply."""
_WARPS, _MANY_WARPS = 4, 8
_STAGES = 2
"""Blocks in flight in a loop: the one that is worked on and the next."""
_PARTS = 16
"""Programs per row and head among which sums over all tokens are shared: enough for a GPU, few sums to add."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Blocks of one kernel's program: rows of the block it stands on and of those it loops over, and its warps."""

    stands: int
    loops: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What every kernel is compiled with: W, the head width rounded up, and sizes per kernel."""

    W: int
    summaries: Sizes
    others: Sizes
    within: Sizes
    others_to_tokens: Sizes
    others_to_clusters: Sizes
    within_to_queries: Sizes
    within_to_keys: Sizes


@cache
def plan_for(places: int, clusters: int, head_dim: int, element_bytes: int) -> Plan:
    """The sizes for K, C, D and a dtype's width, chosen by what compiles without spills (benchmarks/kernel_report.py).

    64 rows are what the matrix units of recent GPUs take at once. Blocks shrink with short sides, and where the many
    sums of the backward pass fill the registers. float32 products run on the plain cores with their operands in
    registers, so their blocks are small.
    """
    width = _block(head_dim, _WIDEST)
    widest, half = width == _WIDEST, element_bytes <= _HALF
    most, few = (64, 32) if half else (16, 16) if widest else (32, 16)
    place, cluster = _block(places, most), _block(clusters, most)
    over_members = Sizes(place, _block(places, few), _MANY_WARPS if place == most else _WARPS, _STAGES)
    return Plan(
        W=width,
        summaries=Sizes(1, _block(places, 64), _WARPS, _STAGES),
        others=Sizes(most, cluster, _MANY_WARPS if half else _WARPS, _STAGES),
        within=Sizes(place, _block(places, 32 if half else most), _MANY_WARPS if half and widest else _WARPS, _STAGES),
        others_to_tokens=Sizes(most, cluster, _WARPS, _STAGES),
        others_to_clusters=Sizes(cluster, few if widest else most, _WARPS, _STAGES),
        within_to_queries=over_members,
        within_to_keys=over_members,
    )


def span_of_part(tokens: int, clusters: int, sizes: Sizes) -> int:
    """Tokens per part of others_to_clusters' sums over all tokens: whole blocks, four at least.

    Blocks of clusters are programs of their own, so the more there are, the fewer parts each needs: parts take no more
    memory for more clusters.
    """
    parts = max(1, _PARTS // -(-clusters // sizes.stands))
    blocks = -(-tokens // sizes.loops)
    return sizes.loops * max(4, -(-blocks // parts))


def _block(side: int, most: int) -> int:
    """The power of two that covers a side, between what tl.dot takes and `most`."""
    return min(most, max(_LEAST, 1 << (side - 1).bit_length()))
