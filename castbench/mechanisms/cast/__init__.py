"""CAST: attention within clusters that surrogate tokens gather, and summaries between them; described without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, LengthMix, MechanismSpec, Problem

if TYPE_CHECKING:
    from castbench.mechanisms.cast.module import CastAttention

Clustering = Literal["top_k", "single_assignment", "balanced"]
Impl = Literal["auto", "reference", "torch", "triton"]
Assignment = Literal["learned", "contiguous", "random"]

__all__ = ["SPEC", "CastAttention", "CastParams"]

SLICE_BYTES = {"cpu": 1024**2, "cuda": 256 * 1024**2}
"""Gathered q, k, v per slice of clusters in inference: about a core's L2 on CPUs, few launches on GPUs."""
BALANCED_ROUNDS = 6
"""Rounds of `balanced`. In benchmarks/assignment.py 96 % or more of the tokens are then where single_assignment puts
them; 67–89 %, with a mean A_g lower by at most 1.5 %, where an offset three times the spread makes nearly all tokens
like the same clusters.
"""
_FP32_BYTES = 4
_SCORES = 10.0
"""What scores cost besides their products (written, exponentiated, read again), in N·M·C FLOPs: with it, `auto` is what
was fastest of a search on CPUs, see docs/mechanisms.md.
"""
_CLUSTER_STEP = 8
"""Numbers of clusters are rounded to this, which matrix units like."""


@dataclass(frozen=True, slots=True)
class CastParams:
    """Parameters of CAST.

    num_clusters  C, clusters and surrogate tokens; auto is resolved once
                  per profile by its lengths
    cluster_size  K, tokens per cluster (the paper's κ); null means
                  ceil(n / C) for a row of n real tokens
    clustering    top_k: every cluster takes its K best tokens;
                  single_assignment: every token joins one cluster;
                  balanced: the same in few rounds, nearly
    impl          which implementation runs: torch, triton (CUDA) or
                  reference; auto is torch
    assignment    what an ablation puts in place of the learned choice:
                  contiguous chunks of tokens, or tokens at random
    summaries     false: an ablation without the clusters' summaries
    gates         false: an ablation with every token's gate at 1
    """

    num_clusters: int | Literal["auto"] = "auto"
    cluster_size: int | None = None
    clustering: Clustering = "top_k"
    impl: Impl = "auto"
    assignment: Assignment = "learned"
    summaries: bool = True
    gates: bool = True

    def __post_init__(self) -> None:
        for name, known in (("clustering", Clustering), ("impl", Impl), ("assignment", Assignment)):
            if getattr(self, name) not in get_args(known):
                options = " or ".join(map(repr, get_args(known)))
                raise ValueError(f"{name}: expected {options}, got {getattr(self, name)!r}")
        if self.impl == "triton" and not self.summaries:
            raise ValueError("summaries: the Triton kernels always add them; use impl: torch for an ablation without")
        for name in ("num_clusters", "cluster_size"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value}")


def scattered(rank: Any) -> Any:
    """A place among 2³² for a token's rank in its row, different for every rank below 2³¹ and without a pattern; of a
    number, or of a tensor of int64. A hash and no random numbers, so that a row's choice does not depend on its batch.
    """
    mixed = rank * 2654435761 % 2**32
    for _ in range(2):
        mixed = ((mixed >> 16) ^ mixed) * 73244475 % 2**32
    return (mixed >> 16) ^ mixed


def row_cluster_size(real_tokens: int, num_clusters: int, cluster_size: int | None) -> int:
    """K for a row of n real tokens: the size given or ceil(n / C), never above n."""
    return min(real_tokens, cluster_size or -(-real_tokens // num_clusters))


def too_few_places(
    clustering: Clustering, real_tokens: int, num_clusters: int, cluster_size: int | None
) -> str | None:  # fmt: skip
    """Why a clustering that places every token cannot place that many, with the smallest size that can; None if it
    can.
    """
    if clustering == "top_k" or cluster_size is None or num_clusters * cluster_size >= real_tokens:
        return None
    smallest = -(-real_tokens // num_clusters)
    return (
        f"{clustering} has room for {num_clusters} × {cluster_size} = {num_clusters * cluster_size} tokens, "
        f"and a row has {real_tokens}; the smallest cluster_size that holds them is {smallest}"
    )


def resolve(params: CastParams, mix: LengthMix) -> CastParams:
    """`num_clusters: auto` as a number.

    A layer costs N·M·(4N/C + 6C) FLOPs beyond its projections (C·K = N, a constant left out), and its scores 10·N·M·C
    more in time. The mean over the mix, M·(4·E[N²]/C + 16·E[N]·C), is least at C = √(E[N²] / (4·E[N])); this is rounded
    to a multiple of 8 (below 8 to a whole number). With a `cluster_size` given, C is what the longest row needs so that
    every token has a place.
    """
    if params.num_clusters != "auto":
        return params
    if params.cluster_size is not None:
        return replace(params, num_clusters=-(-max(mix.tokens) // params.cluster_size))
    total = math.fsum(mix.shares)
    mean = math.fsum(n * share for n, share in zip(mix.tokens, mix.shares, strict=True)) / total
    mean_square = math.fsum(n * n * share for n, share in zip(mix.tokens, mix.shares, strict=True)) / total
    best = math.sqrt(4 * mean_square / ((6 + _SCORES) * mean))
    rounded = _CLUSTER_STEP * round(best / _CLUSTER_STEP) if best >= _CLUSTER_STEP else round(best)
    return replace(params, num_clusters=max(1, rounded))


def work(params: CastParams, problem: Problem) -> KernelWork:
    """Projections, and per batch element C·K·M·(4K + 2) + 6·N·M·C FLOPs: N·M·(4K + 6C + 2) where C·K = N.

    4K: attention within clusters. 2: the summaries (`torch` spends 4 on them by
    products, see together.py, and else 2·H, see mixing.py). 6C: affinities of
    queries and of keys, and the weighted sum of the summaries. The gate's 2·N·M are left out. Gathered: q, k, v of the
    members read and written, their results written and added. Affinities are float32.
    """
    clusters, size = _sizes(params, problem)
    batch, width = problem.batch_size, problem.embed_dim
    tokens, members = batch * problem.seq_len, batch * clusters * size
    affinity_bytes = float(tokens * problem.num_heads * clusters * _FP32_BYTES)
    row_bytes, member_bytes = (float(rows * width * problem.element_bytes) for rows in (tokens, members))
    mixing = KernelWork(
        gemm_flops=6.0 * tokens * width * clusters + 2.0 * members * width,
        attention_flops=4.0 * members * size * width,
        elementwise_bytes=4 * affinity_bytes + 2 * row_bytes,
        gather_bytes=10 * member_bytes,
        launches=30,
        activation_bytes=row_bytes + _activation_bytes(affinity_bytes, member_bytes, training=problem.training),
    )
    return projections(problem) + mixing


def _activation_bytes(affinity_bytes: float, member_bytes: float, *, training: bool) -> float:
    """Memory beyond the rows: affinities, and the gathered q, k, v and a result per member.

    Inference keeps A_q where it is small, here counted as half of it, and works through the clusters in slices;
    training keeps all there is.
    """
    if training:
        return 2 * affinity_bytes + 4 * member_bytes
    return affinity_bytes / 2 + 2 * min(3 * member_bytes, SLICE_BYTES["cuda"])


def weights(params: CastParams, embed_dim: int, num_heads: int) -> int:
    """The four projections, the gate, the surrogate tokens; `auto` clusters are not counted."""
    clusters = 0 if params.num_clusters == "auto" else params.num_clusters
    return projection_parameters(embed_dim) + embed_dim + 1 + clusters * embed_dim


def limits(params: CastParams, problem: Problem) -> str | None:
    """A sentence where a clustering that places every token cannot place a full row."""
    if params.assignment != "learned" or params.num_clusters == "auto":
        return None
    return too_few_places(params.clustering, problem.seq_len, params.num_clusters, params.cluster_size)


def _sizes(params: CastParams, problem: Problem) -> tuple[int, int]:
    """C and K for full rows; an unresolved `auto` is resolved for this very length."""
    known = resolve(params, LengthMix((problem.seq_len,), (1.0,)))
    clusters = int(known.num_clusters)
    return clusters, row_cluster_size(problem.seq_len, clusters, known.cluster_size)


def __getattr__(name: str) -> Any:
    """CastAttention on first use: the description above must not import torch."""
    if name == "CastAttention":
        from castbench.mechanisms.cast.module import CastAttention

        return CastAttention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


SPEC = MechanismSpec(
    name="cast",
    title="CAST: Clustering self-Attention using Surrogate Tokens",
    summary="attention within clusters of tokens, summaries between them",
    params=CastParams,
    build="castbench.mechanisms.cast.module:build",
    reference="castbench.mechanisms.cast.reference:reference",
    work=work,
    complexity="O(N·(K + C)), which is O(N^1.5) with C ∝ √N",
    paper="van Engelenhoven et al., arXiv:2402.04239",
    year=2024,
    family="clustering",
    limits=limits,
    resolve=resolve,
    weights=weights,
)
